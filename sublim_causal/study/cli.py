"""The command line: one small function a verb; everything heavy is imported inside it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from sublim_causal.errors import NO_ROOM, RequestError, SublimError, storage_error
from sublim_causal.store.location import is_client_error, is_remote, locate

DONE, INCOMPLETE, WRONG, INTERRUPTED = 0, 1, 2, 130
"""Exit codes: all done; some replicates failed or diverged; the request is wrong; Ctrl-C."""

app = typer.Typer(
    name="sublim-causal",
    help="Run subliminal-learning studies under interventions, and estimate what they show.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
TABLE_WIDTH = 110
"""Columns of a table where the output is not a terminal."""
out = Console(width=None if sys.stdout.isatty() else TABLE_WIDTH)
err = Console(stderr=True)

RunArgument = Annotated[
    Path, typer.Argument(parser=locate, metavar="RUN", help="Run directory, or its s3:// address.")
]
TrackingOption = Annotated[
    str | None,
    typer.Option(help="MLflow store or server; default: mlflow.db beside the run directory."),
]


@app.command()
def run(
    study: Annotated[str, typer.Argument(help="Study: a name or a TOML file.")] = "quickstart",
    out_dir: Annotated[
        Path | None,
        typer.Option(
            "--out",
            parser=locate,
            metavar="PLACE",
            help="Run directory, or an address such as s3://bucket/prefix; default: runs/NAME.",
        ),
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="Replicates: seeds 0 to N-1.")] = None,
    arms: Annotated[str | None, typer.Option(help="Arms to run, separated by commas.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Change a field of the study file."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    precision: Annotated[
        str, typer.Option(help="Matrix products: fp64, fp32, tf32 or bf16.")
    ] = "fp32",
    executor: Annotated[str, typer.Option(help="Where it runs: local or ray.")] = "local",
    address: Annotated[
        str | None, typer.Option(help="Ray cluster, HOST:PORT; default: one started here.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Workers; default: one a core, or one a GPU.")
    ] = None,
    block_size: Annotated[
        int | None,
        typer.Option(
            min=1, help="Seeds trained together; default: 1 on a CPU, all that fit a GPU."
        ),
    ] = None,
    memory: Annotated[
        str | None, typer.Option(help="Memory of all workers; default: a quarter of the machine.")
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Data sets in torchvision's layout; else SUBLIM_DATA.")
    ] = None,
    download: Annotated[bool, typer.Option("--download", help="Fetch missing data.")] = False,
    tracking_uri: Annotated[
        str | None,
        typer.Option(help="MLflow store or server, or none; default: mlflow.db beside the run."),
    ] = None,
    mirror_replicates: Annotated[
        bool | None,
        typer.Option(help="Mirror every replicate in MLflow; default: up to 500 of them."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and its cost.")] = False,
    no_report: Annotated[bool, typer.Option("--no-report", help="Leave out the report.")] = False,
) -> None:
    """Run STUDY, or complete what is missing of it."""
    from sublim_causal.store.connection import default_tracking_uri
    from sublim_causal.study.plan import parse_memory
    from sublim_causal.study.runner import RunOptions, run_study
    from sublim_causal.study.spec import load_study, study_path

    chosen = arms.split(",") if arms is not None else None
    sys.path.insert(0, str(study_path(study).resolve().parent))
    spec = load_study(study, settings=settings or (), seeds=seeds, arms=chosen)
    target = out_dir or Path("runs") / spec.name
    uri = tracking_uri or ("none" if is_remote(target) else default_tracking_uri(target))
    options = RunOptions(
        run=target,
        device=device,
        precision=check_precision(precision),
        executor=executor,
        address=address,
        workers=workers,
        block_size=block_size,
        memory=parse_memory(memory) if memory is not None else None,
        data_dir=data_dir,
        download=download,
        tracking_uri=None if uri == "none" else uri,
        mirror_replicates=mirror_replicates,
        path=tuple(sys.path[:1]),
    )
    if dry_run:
        show_plan(spec, options)
        return
    announce_user_code(spec)
    if is_remote(target) and tracking_uri is None:
        err.print("No MLflow mirror: an object store cannot hold one; --tracking-uri names one.")
    outcome = run_study(spec, options, err)
    if outcome.mirror_error:
        err.print(f"[yellow]The MLflow mirror is not up to date:[/] {outcome.mirror_error}")
        err.print(f"The tables are complete; repair it with: sublim-causal sync {target}")
    after = None if no_report else partial(report_of_run, target, options.tracking_uri)
    finish(target, list(spec.arms), interrupted=outcome.interrupted, after=after)


def check_precision(name: str) -> Any:
    """Return `name` if it is a precision.

    Raises
    ------
    RequestError
        If it is not.
    """
    from sublim_causal.errors import nearest
    from sublim_causal.study.work import MATMUL_PRECISION

    if name not in MATMUL_PRECISION:
        allowed = ", ".join(MATMUL_PRECISION)
        raise RequestError("--precision", name, allowed, nearest(name, MATMUL_PRECISION))
    return name


def announce_user_code(spec: Any) -> None:
    """Say which code outside this package the study file names."""
    arms = spec.arms.values()
    names = [spec.model.class_, *(arm.intervention for arm in arms)]
    names += [arm.channel.name for arm in arms]
    for name in dict.fromkeys(name for name in names if ":" in name):
        err.print(f"The study uses your own code: {name}")


def show_plan(spec: Any, options: Any) -> None:
    """Print what a run would do: blocks, steps, time and memory."""
    from rich.table import Table

    from sublim_causal.study.estimate import estimate_seconds
    from sublim_causal.study.executors import open_executor
    from sublim_causal.study.plan import finished
    from sublim_causal.study.runner import plan_run

    with open_executor(options.executor, options.address) as executor:
        resources = executor.resources(options.device)
        plan = plan_run(spec, options, resources, finished(options.run))
    seconds = estimate_seconds(spec, plan, options.precision)
    table = Table(title=f"Plan of {spec.name!r}", show_header=False)
    rows = (
        ("run directory", str(options.run)),
        ("arms", ", ".join(spec.arms)),
        ("replicates", f"{plan.total} ({spec.seeds} seeds x {len(spec.arms)} arms)"),
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
    from sublim_causal.study.tables import arm_table, attack_table

    if not any(committed(target)):
        err.print("No block was finished. The same command starts again.")
        raise typer.Exit(INTERRUPTED)
    out.print(arm_table(target, arms))
    if (under_attack := attack_table(target, arms)) is not None:
        out.print(under_attack)
    status = read_table(target, "replicates", columns=["arm", "seed", "status", "reason"])
    bad = status[status["status"] != "complete"]
    for row in bad.itertuples():
        err.print(f"[yellow]{row.arm}, seed {row.seed}: {row.status}[/] ({row.reason})")
    if (bad["status"] == "failed").any():
        err.print(f"Tracebacks: {target / 'errors'}; the same command tries them again.")
    if interrupted:
        err.print("Stopped. Finished blocks are kept; the same command goes on from there.")
        raise typer.Exit(INTERRUPTED)
    if after is not None:
        after()
    out.print(f"Tables: {target}")
    if not is_remote(target):
        out.print(f"Next:   sublim-causal ui {target}", highlight=False)
    raise typer.Exit(INCOMPLETE if len(bad) else DONE)


PlanOption = Annotated[str, typer.Option(help="Analysis plan: a name or a TOML file.")]


@app.command()
def analyse(run: RunArgument, plan: PlanOption = "primary") -> None:
    """Estimate what a plan declares from RUN; prints the table, writes report/results.json."""
    from sublim_causal.analysis.estimation import analyse as analyse_run

    with progress_bar("Estimating") as said:
        results = analyse_run(run, plan, said)
    path = results.write(run / "report" / "results.json")
    print(results.table())
    out.print(f"Results: {path}", highlight=False, soft_wrap=True)


@app.command()
def report(
    run: RunArgument,
    other: Annotated[
        Path | None,
        typer.Argument(parser=locate, metavar="[OTHER]", help="Run to compare RUN with."),
    ] = None,
    plan: PlanOption = "primary",
    out_dir: Annotated[
        Path | None,
        typer.Option(
            "--out", parser=locate, metavar="PLACE", help="Folder; default: report in RUN."
        ),
    ] = None,
    tracking_uri: TrackingOption = None,
) -> None:
    """Write the report of RUN: a page, its tables and figures; or compare RUN with OTHER."""
    from sublim_causal.report import compare_reports, write_report

    with progress_bar("Reporting") as said:
        if other is not None:
            page = compare_reports(run, other, plan, out=out_dir, progress=said)
        else:
            page = write_report(run, plan, out=out_dir, progress=said)
    if out_dir is None and other is None:
        mirror_report(run, tracking_uri)
    out.print(f"Report: {page}", highlight=False, soft_wrap=True)


@contextlib.contextmanager
def progress_bar(what: str) -> Iterator[Callable[[int, int, str], None]]:
    """Show a bar over the parts of `what`; yields the function that moves it."""
    from rich.progress import Progress

    with Progress(console=err, transient=True) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total, name: progress.update(
            task, completed=done, total=total, description=f"{what}: {name}" if name else what
        )


def mirror_report(run: Path, tracking_uri: str | None) -> None:
    """Put the report of `run` into its MLflow mirror, where there is one; say why if it fails."""
    from sublim_causal.store.connection import default_tracking_uri
    from sublim_causal.store.tracking import open_mirror

    beside = not is_remote(run) and (run.resolve().parent / "mlflow.db").exists()
    if tracking_uri is None and not beside:
        return
    try:
        open_mirror(run, tracking_uri or default_tracking_uri(run), replicates=False).finish()
    except SublimError as error:
        err.print(f"[yellow]The report is not in the MLflow mirror:[/] {error}")


def report_of_run(run: Path, tracking_uri: str | None) -> None:
    """Write the report at the end of `run`; whatever goes wrong is said and loses nothing."""
    from sublim_causal.report import write_report

    try:
        with progress_bar("Reporting") as said:
            page = write_report(run, progress=said)
    except Exception as error:  # the record is safe, and a report can be made at any time
        err.print(f"[yellow]No report:[/] {error}", highlight=False)
        err.print(f"The tables are complete; try: sublim-causal report {run}", highlight=False)
        return
    if tracking_uri is not None:
        mirror_report(run, tracking_uri)
    out.print(f"Report: {page}", highlight=False, soft_wrap=True)


@app.command()
def power(
    run: RunArgument,
    wanted: Annotated[
        float | None, typer.Option(min=0, help="Wanted half-width; default: half of RUN's.")
    ] = None,
    outcome: Annotated[
        str, typer.Option(help="Column of the replicates table.")
    ] = "final_accuracy",
    power_: Annotated[
        float, typer.Option("--power", min=0.01, max=0.999, help="Wanted power.")
    ] = 0.8,
) -> None:
    """Tell how many seeds a precision or power needs, with RUN as the pilot."""
    from sublim_causal.analysis.power import pilots, power_curve, power_table
    from sublim_causal.errors import DataError
    from sublim_causal.store.tables import read_table
    from sublim_causal.study.tables import curve_table, seeds_table

    found = pilots(read_table(run, "replicates"), outcome)
    if not found:
        raise DataError(
            f"{run}: no arm has 3 seeds in common with baseline whose differences vary\n"
            "remedy: run more seeds, or another --outcome"
        )
    out.print(seeds_table(power_table(found, wanted=wanted, power=power_), power_))
    for one in found:
        out.print(curve_table(one.contrast, power_curve(one)))


@app.command()
def studies() -> None:
    """List the built-in studies."""
    from rich.table import Table

    from sublim_causal.study.spec import built_in_studies

    table = Table(show_header=False, box=None)
    for name, title in built_in_studies().items():
        table.add_row(f"[bold]{name}[/]", title)
    out.print(table)


@app.command()
def status(
    run: RunArgument,
    watch: Annotated[bool, typer.Option("--watch", help="Follow it until it is finished.")] = False,
) -> None:
    """Show how much of RUN is there, by arm, and which files are damaged."""
    from sublim_causal.study import status as state

    found = state.watch(run, out) if watch else state.read_status(run)
    if not watch:
        out.print(state.status_table(found))
    tell_damage(found.damaged)
    out.print(f"Finished: {found.finished or 'not yet; run the same study again to go on'}")
    raise typer.Exit(INCOMPLETE if found.damaged else DONE)


def tell_damage(damaged: Mapping[Path, str]) -> None:
    """Name the files that are not whole, and say what to do."""
    for path, problem in damaged.items():
        err.print(f"[yellow]Damaged:[/] {path} ({problem})", highlight=False, soft_wrap=True)
    if damaged:
        err.print("Running the study again repairs it.")


@app.command()
def compact(run: RunArgument) -> None:
    """Merge the many small table files of RUN into few large ones; no row changes."""
    import time

    from sublim_causal.store.compact import compact as compact_run
    from sublim_causal.store.manifest import read_manifest, renew_version
    from sublim_causal.study.lock import locked

    started = time.monotonic()
    read_manifest(run)
    with locked(run), progress_bar("Compacting") as said:
        renew_version(run)
        done = compact_run(run, lambda count, total: said(count, total, ""))
    out.print(
        f"Compacted in {duration(time.monotonic() - started)}: "
        f"{done.before.files:,} files, {done.before.bytes / 1e6:,.1f} MB -> "
        f"{done.after.files:,} files, {done.after.bytes / 1e6:,.1f} MB",
        highlight=False,
    )
    tell_damage(done.damaged)
    if done.failed:
        err.print(f"{done.failed} blocks with failed replicates were left as they are.")
    raise typer.Exit(INCOMPLETE if done.damaged else DONE)


@app.command()
def sync(
    run: RunArgument,
    tracking_uri: TrackingOption = None,
    mirror_replicates: Annotated[
        bool | None, typer.Option(help="Mirror every replicate; default: up to 500 of them.")
    ] = None,
) -> None:
    """Rebuild the MLflow mirror of RUN from its tables."""
    from rich.progress import Progress

    from sublim_causal.store.connection import default_tracking_uri
    from sublim_causal.store.tracking import sync as sync_run

    with Progress(console=err, transient=True) as progress:
        task = progress.add_task("Mirroring", total=None)
        result = sync_run(
            run,
            tracking_uri or default_tracking_uri(run),
            replicates=mirror_replicates,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    out.print(
        f"Mirrored: {result.written} replicates written, {result.unchanged} were there, "
        f"{result.left_out} not shown one by one."
    )


@app.command()
def ui(
    runs: Annotated[list[Path] | None, typer.Argument(parser=locate, metavar="[RUN]...")] = None,
    tracking_uri: TrackingOption = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0: any free one.")] = 5000,
) -> None:
    """Open MLflow's UI on 127.0.0.1 over the store of the runs (default: runs/mlflow.db)."""
    from sublim_causal.store.ui import serve_ui

    raise typer.Exit(serve_ui(runs or [], tracking_uri, port=port))


def guarded(command: Callable[[], Any]) -> int:
    """Run `command`; turn errors a user can act on into a message and an exit code."""
    try:
        command()
    except SublimError as error:
        print(f"error: {error}", file=sys.stderr)
        return WRONG
    except KeyboardInterrupt:
        print("Stopped at once. Finished blocks are kept.", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        return DONE
    except Exception as error:
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            print(f"error: {storage_error(Path(error.filename or '.'), error)}", file=sys.stderr)
            return WRONG
        if is_client_error(error):
            print(f"error: {type(error).__name__}: {error}", file=sys.stderr)
            return WRONG
        if not type(error).__module__.startswith("pyarrow"):
            raise
        print(
            f"error: a file of the run is damaged: {error}\n"
            "remedy: sublim-causal status names it; running the study again repairs it",
            file=sys.stderr,
        )
        return WRONG
    return DONE


def main() -> None:
    """Entry point."""
    sys.exit(guarded(app))
