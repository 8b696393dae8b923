"""``report``: write the report of a run, or compare two runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sublim_causal.errors import SublimError
from sublim_causal.location import is_remote, locate
from sublim_causal.study.commands.analyse import note_analysed
from sublim_causal.study.commands.options import PlanOption, RunArgument, TrackingOption
from sublim_causal.study.console.output import out, progress_bar, warn
from sublim_causal.study.running.mirroring import END_SECONDS, BackgroundMirror


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

    with progress_bar("Reporting") as progress:
        if other is not None:
            page = compare_reports(run, other, plan, out=out_dir, progress=progress)
        else:
            page = write_report(run, plan, out=out_dir, progress=progress)
            note_analysed(run)
    if out_dir is None and other is None:
        mirror_report(run, tracking_uri)
    out.print(f"Report: {page}", soft_wrap=True)


def mirror_report(run: Path, tracking_uri: str | None, seconds: float = END_SECONDS) -> None:
    """Copy the report of `run` into its MLflow mirror, if it has one; warn if that fails.

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
