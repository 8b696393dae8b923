"""The command line: one small function a verb; everything heavy is imported inside it."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from sublim_causal.errors import DISK_FULL, RequestError, SublimError, escaped, storage_error
from sublim_causal.location import is_client_error, is_remote, locate, validate_files
from sublim_causal.study.commands import studies
from sublim_causal.study.commands.init import init
from sublim_causal.study.commands.interventions import interventions
from sublim_causal.study.commands.names import complete_plan, complete_study
from sublim_causal.study.console import (
    DONE,
    INCOMPLETE,
    WRONG,
    announce_code,
    duration,
    err,
    finish,
    mirror_report,
    note_analysed,
    out,
    progress_bar,
    report_of_run,
    show_plan,
    tell_damage,
    warn,
)
from sublim_causal.study.mirroring import is_mirroring, sync_in_time
from sublim_causal.study.pipes import tolerate_closed_pipes

app = typer.Typer(
    name="sublim-causal",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(init)
RunArgument = Annotated[
    Path, typer.Argument(parser=locate, metavar="RUN", help="Run directory, or its s3:// address.")
]
TrackingOption = Annotated[
    str | None,
    typer.Option(help="MLflow store or server; default: mlflow.db beside the run directory."),
]


def show_version(wanted: bool) -> None:
    """Print the version of the package and end."""
    if wanted:
        from sublim_causal import __version__

        print(f"sublim-causal {__version__}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=show_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Run subliminal-learning studies under interventions, and estimate what they show."""


@app.command()
def run(
    study: Annotated[
        str,
        typer.Argument(help="Study: a name or a TOML file.", autocompletion=complete_study),
    ] = "quickstart",
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
    seed_range: Annotated[
        str | None,
        typer.Option(
            metavar="FIRST-LAST", help="Run these seeds only, beside processes with others."
        ),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(metavar="K/N", help="Run the part K of N of the seeds only, from 1/N to N/N."),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option(
            metavar="GOAL",
            help="Add seeds until this is seen: 'width(ARM - REFERENCE) < 0.04', "
            "'ARM - REFERENCE excludes 0' or 'ARM - REFERENCE equivalent 0.05'.",
        ),
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(
            metavar="N,N,...", help="Look with these numbers of seeds; default: 8,12,16,20,30."
        ),
    ] = None,
    max_seeds: Annotated[
        int | None, typer.Option(help="Seeds of the last look; default: the last one of --at.")
    ] = None,
    boundary: Annotated[
        str | None,
        typer.Option(help="Interval of the looks: obrien-fleming (the default) or anytime."),
    ] = None,
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
    from sublim_causal.store.connection import default_tracking_uri, validate_address
    from sublim_causal.study.memory import parse_memory
    from sublim_causal.study.planning import RunOptions, seeds_of
    from sublim_causal.study.runner import run_study
    from sublim_causal.study.spec import Study, load_study, study_folder
    from sublim_causal.study.stopping import parse_looks, refuse_seeds, rule_of_run, run_until

    chosen = arms.split(",") if arms is not None else None
    path: list[str] = []

    def prepare_import(spec: Study) -> None:
        if names := spec.named_classes():
            path.append(str(study_folder(study)))
            # At the end: no file beside the study takes the place of a library's module.
            sys.path.append(path[0])
            announce_code(names)

    spec = load_study(
        study, settings=settings or (), seeds=seeds, arms=chosen, before_import=prepare_import
    )
    target = out_dir or Path("runs") / spec.name
    uri = tracking_uri or ("none" if is_remote(target) else default_tracking_uri(target))
    rule = rule_of_run(
        spec,
        target,
        {
            "until": until,
            "at": parse_looks(at) if at is not None else None,
            "max_seeds": max_seeds,
            "boundary": boundary,
        },
    )
    if rule is not None:
        refuse_seeds({"--seeds": seeds, "--seed-range": seed_range, "--shard": shard})
        spec = spec.model_copy(update={"seeds": rule.looks[-1]})
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
        path=tuple(path),
        seed_range=seeds_of(spec, seed_range, shard),
        stopping=rule,
    )
    if options.tracking_uri is not None:
        validate_address(options.tracking_uri)
    if dry_run:
        show_plan(spec, options)
        return
    if is_remote(target) and tracking_uri is None:
        err.print("No MLflow mirror: an object store cannot hold one; --tracking-uri names one.")
    outcome = run_until(spec, rule, options, err) if rule else run_study(spec, options, err)
    if outcome.mirror_error:
        warn("The MLflow mirror is not up to date:", outcome.mirror_error)
        repair = f"sublim-causal sync {shlex.quote(str(target))}"
        err.print(f"The tables are complete; repair it with: {repair}", soft_wrap=True)
    if options.seed_range is not None and not outcome.complete:
        err.print("Replicates of other processes are missing; the last process reports the run.")
        no_report = True
    in_mirror = None if outcome.mirror_error else options.tracking_uri
    reporting = partial(report_of_run, target, in_mirror, outcome.mirror_seconds)
    after = None if no_report else reporting
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


PlanOption = Annotated[
    str,
    typer.Option(help="Analysis plan: a name or a TOML file.", autocompletion=complete_plan),
]


@app.command()
def analyse(
    run: RunArgument,
    plan: PlanOption = "primary",
    out_file: Annotated[
        Path | None,
        typer.Option(
            "--out", parser=locate, metavar="FILE", help="Default: report/results-PLAN.json in RUN."
        ),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Print exploratory results too.")
    ] = False,
    check: Annotated[
        bool,
        typer.Option("--cross-check", help="Refit mixed models and slopes with statsmodels."),
    ] = False,
) -> None:
    """Estimate what a plan declares from RUN; print the table, and write the results as JSON."""
    from sublim_causal.analysis.plan.run import analyse as analyse_run

    validate_files(run)
    if out_file is not None and out_file.exists() and not out_file.is_file():
        raise RequestError("--out", str(out_file), "a file, be it new", "name a file in a folder")
    with progress_bar("Estimating") as said:
        results = analyse_run(run, plan, said)
    print(escaped(results.table(everything=everything)), flush=True)
    if check:
        from sublim_causal.analysis.plan.crosscheck import cross_check, cross_check_table

        with progress_bar("Refitting") as said:
            checked = cross_check(run, plan, said)
        print(f"\n{escaped(cross_check_table(checked))}", flush=True)
    note_analysed(run)
    path = results.write(out_file or run / "report" / f"results-{results.plan}.json")
    out.print(f"Results: {path}", soft_wrap=True)


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
            note_analysed(run)
    if out_dir is None and other is None:
        mirror_report(run, tracking_uri)
    out.print(f"Report: {page}", soft_wrap=True)


@app.command()
def power(
    run: RunArgument,
    wanted: Annotated[
        float | None, typer.Option(min=0, help="Wanted half-width; default: half of RUN's.")
    ] = None,
    margin: Annotated[
        float | None,
        typer.Option(min=0, help="Also give the seeds that show equivalence within this margin."),
    ] = None,
    outcome: Annotated[
        str | None,
        typer.Option(help="Column of the replicates table; default: the outcome of RUN's task."),
    ] = None,
    difference: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Smallest difference that matters; default: the margin of the plan's "
            "equivalence test of the outcome.",
        ),
    ] = None,
    plan: PlanOption = "primary",
    at: Annotated[
        str | None,
        typer.Option(metavar="N,N,...", help="Also tell the power by each of these looks."),
    ] = None,
    power_: Annotated[
        float, typer.Option("--power", min=0.01, max=0.999, help="Wanted power.")
    ] = 0.8,
) -> None:
    """Compute how many seeds a precision or power needs, with RUN as the pilot."""
    from sublim_causal.analysis.arms.contrasts import paired_arms
    from sublim_causal.analysis.arms.power import pilots, power_curve, power_table
    from sublim_causal.analysis.arms.sequential_power import power_by_look
    from sublim_causal.errors import DataError
    from sublim_causal.store.damage import validate_undamaged
    from sublim_causal.store.manifest import read_manifest, reference_of
    from sublim_causal.store.outcome import outcome_of
    from sublim_causal.store.tables import read_table
    from sublim_causal.study.stopping import parse_looks, smallest_difference
    from sublim_causal.study.tables import curve_table, looks_table, seeds_tables

    manifest = read_manifest(run)
    reference = reference_of(manifest["study"])
    if reference is None:
        raise DataError(
            f"{run}: its study has no arm to compare with: none has the intervention baseline\n"
            'remedy: name one in the study file, reference = "ARM", and run the study again'
        )
    validate_undamaged(run)
    column = outcome or outcome_of(manifest).name
    replicates = read_table(run, "replicates")
    found = pilots(replicates, column, reference)
    if not found:
        raise DataError(
            f"{run}: no arm has 3 seeds in common with {reference!r} whose differences vary\n"
            "remedy: run more seeds, or another --outcome"
        )
    aim = smallest_difference(plan, column) if difference is None else difference
    needed = power_table(found, difference=aim, wanted=wanted, margin=margin, power=power_)
    for table in seeds_tables(needed, power_, margin, out):
        out.print(table)
    for one in found:
        out.print(curve_table(one.contrast, power_curve(one, difference=aim), aim))
        if at is not None:
            arm = one.contrast.removesuffix(f" - {reference}")
            d = paired_arms(replicates, column, arm, reference).difference(column, arm, reference)
            by_look = power_by_look(d, aim, parse_looks(at))
            out.print(looks_table(one.contrast, by_look, aim))


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
    out.print(state.ending(found))
    raise typer.Exit(INCOMPLETE if found.damaged else DONE)


@app.command()
def compact(run: RunArgument) -> None:
    """Merge the many small table files of RUN into few large ones; no row changes."""
    import time

    from sublim_causal.store.compact import compact as compact_run
    from sublim_causal.store.lock import locked
    from sublim_causal.store.manifest import read_manifest, renew_version

    started = time.monotonic()
    read_manifest(run)
    with locked(run), progress_bar("Compacting") as said:
        renew_version(run)
        done = compact_run(run, lambda count, total: said(count, total, ""))
    out.print(
        f"Compacted in {duration(time.monotonic() - started)}: "
        f"{done.before.files:,} files, {done.before.bytes / 1e6:,.1f} MB -> "
        f"{done.after.files:,} files, {done.after.bytes / 1e6:,.1f} MB"
    )
    tell_damage(done.damaged)
    if done.failed:
        err.print(
            f"{done.failed} blocks with failed replicates were not merged; run the study again."
        )
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
    from sublim_causal.store.connection import default_tracking_uri

    with progress_bar("Mirroring") as said:
        result = sync_in_time(
            run,
            tracking_uri or default_tracking_uri(run),
            replicates=mirror_replicates,
            progress=lambda done, total: said(done, total, ""),
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


app.add_typer(studies.app, name="studies")
app.command()(interventions)


def guarded(command: Callable[[], Any]) -> int:
    """Run `command`; turn errors a user can act on into a message and an exit code."""
    try:
        command()
    except SublimError as error:
        return _refuse(error)
    except SystemExit as end:  # typer makes one of Ctrl-C, and says nothing
        if isinstance(getattr(end.__context__, "__cause__", None), KeyboardInterrupt):
            print("Stopped at once. Finished blocks are kept.", file=sys.stderr)
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in DISK_FULL:
            return _refuse(storage_error(Path(error.filename or "."), error))
        if is_client_error(error):
            return _refuse(f"{type(error).__name__}: {error}")
        if not type(error).__module__.startswith("pyarrow"):
            raise
        return _refuse(
            f"a file of the run is damaged: {error}\n"
            "remedy: sublim-causal status names it; running the study again repairs it"
        )
    return DONE


def _refuse(reason: object) -> int:
    print(f"error: {escaped(reason)}", file=sys.stderr)
    return WRONG


def main() -> None:
    """Entry point."""
    tolerate_closed_pipes()
    code: str | int | None = WRONG
    try:
        code = guarded(app)
    except SystemExit as end:
        code = end.code
    if is_mirroring():  # its library would wait for the server at exit
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else WRONG)
    sys.exit(code)
