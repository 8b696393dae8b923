"""What the commands print: plans, tables, progress, and what to do next."""

from __future__ import annotations

import contextlib
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from sublim_causal.errors import HIDDEN, SublimError, escaped
from sublim_causal.location import is_remote
from sublim_causal.study.mirroring import END_SECONDS, BackgroundMirror

DONE, INCOMPLETE, WRONG, INTERRUPTED = 0, 1, 2, 130
"""Exit codes: all done; some replicates failed or diverged; the request is wrong; Ctrl-C."""
TABLE_WIDTH = 110
"""Columns of a table where the output is not a terminal."""
LINE_SECONDS = 30.0
"""Without a terminal, one line at most this often."""


class PlainConsole(Console):
    """A console on which names from files can neither command the terminal nor hide anything."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Render `renderable` with the characters of `errors.HIDDEN` spelt out."""
        if isinstance(renderable, str):
            renderable = escaped(renderable)
        elif isinstance(renderable, Text) and HIDDEN.search(renderable.plain):
            renderable = Text(escaped(renderable.plain), renderable.style)
        return super().render(renderable, options)


# Names and paths are shown as they are, whatever brackets they hold.
out = PlainConsole(
    width=None if sys.stdout.isatty() else TABLE_WIDTH, markup=False, highlight=False
)
err = PlainConsole(stderr=True, markup=False, highlight=False)


def warn(what: str, text: object) -> None:
    """Print `what`, in colour, and `text` to standard error."""
    err.print(Text.assemble((what, "yellow"), f" {text}"), soft_wrap=True)


def announce_code(names: Iterable[str]) -> None:
    """Say which classes outside this package a study names, and in which files they stand."""
    from sublim_causal.experiment.source import source_file

    for name in names:
        file = source_file(name.partition(":")[0])
        where = f" in {file}" if file else ""
        err.print(f"The study runs code of its own: {name}{where}", soft_wrap=True)


def show_plan(spec: Any, options: Any) -> None:
    """Print what a run would do: blocks, steps, time and memory.

    Raises
    ------
    SublimError
        If the study, its data, the device or the MLflow store cannot be used.
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from sublim_causal.experiment.data.sources import data_directory
    from sublim_causal.experiment.tasks import build_task
    from sublim_causal.store.connection import validate_reachable
    from sublim_causal.study.completion import finished
    from sublim_causal.study.estimate import estimate_seconds
    from sublim_causal.study.executors import open_executor
    from sublim_causal.study.manifest import describe, validate_run
    from sublim_causal.study.planning import plan_run
    from sublim_causal.study.work import try_study

    with open_executor(options.executor, options.address) as executor:
        resources = executor.resources(options.device)
        described = describe(spec, resources.device, options.precision, "", options.stopping)
        validate_run(options.run, described)
        done = finished(options.run, spec.arms, options.seed_range)
        plan = plan_run(spec, options, resources, done)
        try_study(spec, options.precision, plan.block_size)
    seconds = estimate_seconds(spec, plan, options.precision)
    part = f" of {spec.seeds}" if options.seed_range is not None else ""
    seeds = f"{plan.total // len(spec.arms)}{part}"
    table = Table(
        title=f"Plan of {spec.name!r}", box=SIMPLE_HEAD, pad_edge=False, show_header=False
    )
    rows = (
        ("run directory", str(options.run)),
        ("arms", ", ".join(spec.arms)),
        ("replicates", f"{plan.total} ({seeds} seeds x {len(spec.arms)} arms)"),
        ("already there", str(plan.done)),
        ("blocks to run", f"{len(plan.blocks)} of at most {plan.block_size} seeds"),
        ("optimizer steps", f"{plan.steps:,}"),
        ("device", f"{plan.device}, {plan.workers} workers, {options.precision}"),
        ("memory", f"about {plan.workers * plan.worker_bytes / 2**30:.1f} GB and the libraries"),
        ("time", f"about {duration(seconds)}" if seconds is not None else "not measured on a GPU"),
    )
    for row in rows:
        table.add_row(*row)
    out.print(table)
    if not options.download:
        build_task(spec).load(data_directory(options.data_dir), download=False)
    if options.tracking_uri is not None:
        validate_reachable(options.tracking_uri)


def duration(seconds: float) -> str:
    """Write a duration for people."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def finish(
    target: Path, arms: list[str], *, interrupted: bool, after: Callable[[], None] | None = None
) -> None:
    """Print the arm table, do what comes `after`, say what to do next, exit with the run's code."""
    from sublim_causal.store.tables import committed, read_table
    from sublim_causal.study.tables import arm_tables, attack_tables

    if not any(arm in arms for arm, _ in committed(target)):
        err.print("No block was finished. The same command starts again.")
        raise typer.Exit(INTERRUPTED)
    for table in (*arm_tables(target, arms, out), *attack_tables(target, arms, out)):
        out.print(table)
    columns = ["arm", "seed", "status", "reason"]
    status = read_table(target, "replicates", columns=columns, arms=arms)
    bad = status[status["status"] != "complete"]
    for row in bad.itertuples():
        warn(f"{row.arm}, seed {row.seed}: {row.status}", f"({row.reason})")
    if (bad["status"] == "failed").any():
        told = f"Tracebacks: {target / 'errors'}; the same command tries them again."
        err.print(told, soft_wrap=True)
    if interrupted:
        err.print("Stopped. Finished blocks are kept; the same command resumes the run.")
        raise typer.Exit(INTERRUPTED)
    if after is not None:
        after()
    out.print(f"Tables: {target}", soft_wrap=True)
    if not is_remote(target):
        out.print(f"Next:   sublim-causal ui {shlex.quote(str(target))}", soft_wrap=True)
    raise typer.Exit(INCOMPLETE if len(bad) else DONE)


@contextlib.contextmanager
def progress_bar(what: str) -> Iterator[Callable[[int, int, str], None]]:
    """Show progress over the parts of `what`: a bar on a terminal, a line now and then elsewhere.

    Yields the function that takes parts done, parts in all, and the name of the current part.
    """
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    if not err.is_terminal:
        yield _lines(what)
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, transient=True) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total, name: progress.update(
            task, completed=done, total=total, description=f"{what}: {name}" if name else what
        )


def _lines(what: str) -> Callable[[int, int, str], None]:
    told = time.monotonic()

    def tell(done: int, total: int, name: str) -> None:
        nonlocal told
        if time.monotonic() - told >= LINE_SECONDS:
            told = time.monotonic()
            err.print(f"{what}: {done} of {total}{name and f', {name}'}", soft_wrap=True)

    return tell


def mirror_report(run: Path, tracking_uri: str | None, seconds: float = END_SECONDS) -> None:
    """Put the report of `run` into its MLflow mirror, where there is one; say why if it fails.

    A server may take `seconds` at most.
    """
    from sublim_causal.store.connection import default_tracking_uri
    from sublim_causal.store.tracking import is_mirrored

    beside = not is_remote(run) and (run.resolve().parent / "mlflow.db").exists()
    if tracking_uri is None and not beside:
        return
    try:
        uri = tracking_uri or default_tracking_uri(run)
        if tracking_uri is None and not is_mirrored(run, uri):
            return
    except SublimError as error:
        warn("The report is not in the MLflow mirror:", error)
        return
    with BackgroundMirror(run, uri, replicates=False, seconds=seconds) as mirror:
        mirror.update()
    if mirror.error:
        warn("The report is not in the MLflow mirror:", mirror.error)


def note_analysed(run: Path) -> None:
    """Record with how many seeds `run`, if it is not complete, was looked at; where one may."""
    from sublim_causal.store.lock import manifest_locked
    from sublim_causal.store.manifest import read_manifest
    from sublim_causal.store.tables import read_table
    from sublim_causal.study.manifest import record_analysed

    if is_remote(run) or read_manifest(run)["finished"] is not None:
        return
    seeds = read_table(run, "replicates", columns=["seed"])["seed"].nunique()
    with contextlib.suppress(SublimError, OSError), manifest_locked(run):
        record_analysed(run, int(seeds))


def report_of_run(run: Path, tracking_uri: str | None, seconds: float) -> None:
    """Write the report at the end of `run`; an error is reported, and nothing is lost."""
    from sublim_causal.report import write_report

    try:
        with progress_bar("Reporting") as said:
            page = write_report(run, progress=said)
    except Exception as error:  # the record is safe, and a report can be made at any time
        warn("No report:", error)
        again = f"sublim-causal report {shlex.quote(str(run))}"
        err.print(f"The tables are complete; try: {again}", soft_wrap=True)
        return
    if tracking_uri is not None:
        mirror_report(run, tracking_uri, seconds)
    out.print(f"Report: {page}", soft_wrap=True)


def tell_damage(damaged: Mapping[Path, str]) -> None:
    """Name the damaged files, and say what to do."""
    for path, problem in damaged.items():
        warn("Damaged:", f"{path} ({problem})")
    if damaged:
        err.print("Running the study again repairs it.")
