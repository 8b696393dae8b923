"""``analyse``: estimate what a plan declares from a run."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated

import typer

from sublim_causal.errors import RequestError, SublimError, escaped
from sublim_causal.location import is_remote, locate, validate_files
from sublim_causal.study.commands.options import PlanOption, RunArgument
from sublim_causal.study.console.output import out, progress_bar


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
        bool, typer.Option("--all", help="Also print exploratory results.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--cross-check", help="Refit mixed models and slopes with statsmodels.")
    ] = False,
    alternatives: Annotated[
        bool,
        typer.Option("--stability", help="Judge each claim again under other defensible choices."),
    ] = False,
) -> None:
    """Estimate what a plan declares from RUN; print the table, and write the results as JSON."""
    from sublim_causal.analysis.plan.run import analyse as analyse_run
    from sublim_causal.analysis.plan.stability.verdicts import analyse_stability

    validate_files(run)
    if out_file is not None and out_file.exists() and not out_file.is_file():
        raise RequestError(
            "--out", str(out_file), "a file, new or existing", "name a file in this folder"
        )
    with progress_bar("Estimating") as progress:
        results = (analyse_stability if alternatives else analyse_run)(run, plan, progress)
    width = out.width if out.is_terminal else None
    print(escaped(results.table(everything=everything, width=width)), flush=True)
    if check:
        from sublim_causal.analysis.plan.crosscheck import cross_check, cross_check_table

        with progress_bar("Refitting") as progress:
            checked = cross_check(run, plan, progress)
        print(f"\n{escaped(cross_check_table(checked, width))}", flush=True)
    note_analysed(run)
    path = results.write(out_file or run / "report" / f"results-{results.plan}.json")
    out.print(f"Results: {path}", soft_wrap=True)


def note_analysed(run: Path) -> None:
    """Record the number of seeds with which an incomplete `run` was analysed, where possible."""
    from sublim_causal.store.lock import manifest_locked
    from sublim_causal.store.manifest import read_manifest
    from sublim_causal.store.tables import read_table

    if is_remote(run) or read_manifest(run)["finished"] is not None:
        return
    from sublim_causal.study.running.manifest import record_analysed

    seeds = read_table(run, "replicates", columns=["seed"])["seed"].nunique()
    with contextlib.suppress(SublimError, OSError), manifest_locked(run):
        record_analysed(run, int(seeds))
