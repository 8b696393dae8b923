"""``run``: run a study, or complete what is missing of it."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from sublim_causal.location import is_remote, locate
from sublim_causal.study.commands import run_options as option
from sublim_causal.study.commands.options import StudyArgument
from sublim_causal.study.console.output import (
    DONE,
    INCOMPLETE,
    INTERRUPTED,
    err,
    out,
    progress_bar,
    warn,
)

if TYPE_CHECKING:
    from sublim_causal.analysis.arms.stopping import StoppingRule
    from sublim_causal.analysis.plan.file import Plan
    from sublim_causal.study.planning.options import RunOptions
    from sublim_causal.study.spec.study import Study


def run(
    study: StudyArgument = "quickstart",
    out_dir: option.Out = None,
    seeds: option.Seeds = None,
    seed_range: option.SeedRange = None,
    shard: option.Shard = None,
    until: option.Until = None,
    at: option.At = None,
    max_seeds: option.MaxSeeds = None,
    boundary: option.Boundary = None,
    plan: option.Plan = None,
    arms: option.Arms = None,
    settings: option.Set = None,
    device: option.Device = "auto",
    precision: option.Precision = "fp32",
    executor: option.Executor = "local",
    address: option.Address = None,
    workers: option.Workers = None,
    block_size: option.BlockSize = None,
    memory: option.Memory = None,
    data_dir: option.Data = None,
    download: option.Download = False,
    tracking_uri: option.Mirror = None,
    mirror_replicates: option.Replicates = None,
    dry_run: option.DryRun = False,
    no_report: option.NoReport = False,
) -> None:
    """Run STUDY, or the missing part of it."""
    from sublim_causal.study.executors.forkserver import import_for_workers

    spec, path = load_announced(study, settings or [], seeds, arms)
    if executor == "local" and not dry_run:
        import_for_workers()  # while this process imports the same

    from sublim_causal.store.connection import validate_address
    from sublim_causal.study.planning.memory import parse_memory
    from sublim_causal.study.planning.options import RunOptions, seeds_of
    from sublim_causal.study.running.stopping import parse_looks, refuse_seeds, rule_of_run
    from sublim_causal.study.spec.reading import naming_study_file
    from sublim_causal.study.worker.device import validate_precision_name

    target = out_dir or locate(Path("runs") / spec.name)
    uri = tracking_uri or mirror_beside(target)
    looks = parse_looks(at) if at is not None else None
    asked = {"until": until, "at": looks, "max_seeds": max_seeds, "boundary": boundary}
    rule = rule_of_run(spec, target, asked, declared_plan(plan))
    if rule is not None:
        refuse_seeds({"--seeds": seeds, "--seed-range": seed_range, "--shard": shard})
        spec = spec.model_copy(update={"seeds": rule.looks[-1]})
    options = RunOptions(
        run=target,
        device=device,
        precision=validate_precision_name(precision),
        executor=executor,
        address=address,
        workers=workers,
        block_size=block_size,
        memory=parse_memory(memory) if memory is not None else None,
        data_dir=data_dir,
        download=download,
        tracking_uri=None if uri == "none" else uri,
        mirror_replicates=mirror_replicates,
        path=path,
        seed_range=seeds_of(spec, seed_range, shard),
        stopping=rule,
    )
    if options.tracking_uri is not None:
        validate_address(options.tracking_uri)
    with naming_study_file(study, settings or []):
        if dry_run:
            from sublim_causal.study.commands.dry_run import show_plan

            show_plan(spec, options)
            return
        run_and_report(spec, rule, options, plan=plan or "primary", report=not no_report)


def mirror_beside(target: Path) -> str:
    """Return the address of the MLflow store beside a run, or ``none``, which is said, and why."""
    from sublim_causal.store.connection import LockedStoreError, default_tracking_uri

    if is_remote(target):
        err.print(
            "No MLflow mirror: an object store cannot hold one; name one with --tracking-uri."
        )
        return "none"
    try:
        return default_tracking_uri(target)
    except LockedStoreError as error:
        warn("No MLflow mirror:", error)
        return "none"


def declared_plan(name: str | None) -> Plan | None:
    """Load the plan that is named, and the libraries of the analysis with it."""
    if name is None:
        return None
    from sublim_causal.analysis.plan.file import load_plan

    return load_plan(name)


def load_announced(
    name: str, settings: list[str], seeds: int | None, arms: str | None
) -> tuple[Study, tuple[str, ...]]:
    """Load a study, after its own classes are announced; return the folder of these, too."""
    from sublim_causal.study.spec.reading import load_study, study_folder

    path: list[str] = []

    def prepare_import(spec: Study) -> None:
        if names := spec.named_classes():
            path.append(str(study_folder(name)))
            # At the end, so that no file in the study's folder shadows a library's module.
            sys.path.append(path[0])
            announce_code(names)

    chosen = arms.split(",") if arms is not None else None
    study = load_study(
        name, settings=settings, seeds=seeds, arms=chosen, before_import=prepare_import
    )
    return study, tuple(path)


def announce_code(names: list[str]) -> None:
    """Print which classes outside this package a study names, and the files that define them."""
    from sublim_causal.experiment.source import source_file

    for name in names:
        file = source_file(name.partition(":")[0])
        where = f" in {file}" if file else ""
        err.print(f"The study runs its own code: {name}{where}", soft_wrap=True)


def run_and_report(
    spec: Study, rule: StoppingRule | None, options: RunOptions, *, plan: str, report: bool
) -> None:
    """Run `spec`, print its results, write the report, and exit with the code of the run."""
    from sublim_causal.study.running.runner import run_study
    from sublim_causal.study.running.stopping import run_until

    target = options.run
    outcome = run_until(spec, rule, options, err) if rule else run_study(spec, options, err)
    if outcome.mirror_error:
        warn("The MLflow mirror is not up to date:", outcome.mirror_error)
        repair = f"sublim-causal sync {shlex.quote(str(target))}"
        err.print(f"The tables are complete; repair the mirror with: {repair}", soft_wrap=True)
    if options.seed_range is not None and not outcome.complete:
        err.print("Replicates of other processes are missing; the last process writes the report.")
        report = False
    in_mirror = None if outcome.mirror_error else options.tracking_uri
    reporting = partial(report_of_run, target, plan, in_mirror, outcome.mirror_seconds)
    after = reporting if report else None
    finish(target, list(spec.arms), interrupted=outcome.interrupted, after=after)


def finish(
    target: Path, arms: list[str], *, interrupted: bool, after: Callable[[], None] | None = None
) -> None:
    """Print the arm table, call `after`, print the next command, exit with the run's code."""
    from sublim_causal.store.blocks import committed
    from sublim_causal.store.tables import read_table
    from sublim_causal.study.console.tables import arm_tables, attack_tables

    if not any(arm in arms for arm, _ in committed(target)):
        err.print("No block was finished. The same command starts the run again.")
        raise typer.Exit(INTERRUPTED)
    for table in (*arm_tables(target, arms, out), *attack_tables(target, arms, out)):
        out.print(table)
    columns = ["arm", "seed", "status", "reason"]
    status = read_table(target, "replicates", columns=columns, arms=arms)
    bad = status[status["status"] != "complete"]
    for row in bad.itertuples():
        warn(f"{row.arm}, seed {row.seed}: {row.status}", f"({row.reason})")
    if (bad["status"] == "failed").any():
        line = f"Tracebacks: {target / 'errors'}; the same command retries these replicates."
        err.print(line, soft_wrap=True)
    if interrupted:
        err.print("Stopped. Finished blocks are kept; the same command resumes the run.")
        raise typer.Exit(INTERRUPTED)
    if after is not None:
        after()
    out.print(f"Tables: {target}", soft_wrap=True)
    if not is_remote(target):
        out.print(f"Next:   sublim-causal ui {shlex.quote(str(target))}", soft_wrap=True)
    raise typer.Exit(INCOMPLETE if len(bad) else DONE)


def report_of_run(run: Path, plan: str, tracking_uri: str | None, seconds: float) -> None:
    """Write the report at the end of `run`; an error is reported, and nothing is lost."""
    from sublim_causal.report import write_report
    from sublim_causal.study.commands.report import mirror_report

    try:
        with progress_bar("Reporting") as progress:
            page = write_report(run, plan, progress=progress)
    except Exception as error:  # the record is safe, and a report can be made at any time
        warn("No report:", error)
        again = f"sublim-causal report {shlex.quote(str(run))}"
        err.print(f"The tables are complete; try: {again}", soft_wrap=True)
        return
    if tracking_uri is not None:
        mirror_report(run, tracking_uri, seconds)
    out.print(f"Report: {page}", soft_wrap=True)
