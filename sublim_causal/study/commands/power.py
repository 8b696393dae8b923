"""``power``: how many seeds a precision or a power needs."""

from __future__ import annotations

from typing import Annotated

import typer

from sublim_causal.study.commands.options import PlanOption, RunArgument
from sublim_causal.study.console.output import out


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
    from sublim_causal.study.console.tables import curve_table, looks_table, seeds_tables
    from sublim_causal.study.running.stopping import parse_looks, smallest_difference

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
