"""``power``: how many seeds a precision or a power needs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sublim_causal.study.commands.options import PlanOption, RunArgument
from sublim_causal.study.console.output import out

if TYPE_CHECKING:
    from sublim_causal.study.running.stopping import Looks


def power(
    run: RunArgument,
    wanted: Annotated[
        float | None, typer.Option(min=0, help="Wanted half-width; default: half of RUN's.")
    ] = None,
    margin: Annotated[
        float | None,
        typer.Option(
            min=0, help="Also give the seeds needed to show equivalence within this margin."
        ),
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
        typer.Option(
            metavar="N,N,...",
            help="Also give the power by each of these looks; default: those of the plan's "
            "stopping rule, or 8,12,16,20,30 with --boundary.",
        ),
    ] = None,
    boundary: Annotated[
        str | None,
        typer.Option(help="Interval of the looks: obrien-fleming (the default) or anytime."),
    ] = None,
    slope: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Smallest slope that matters: also give the power of the plan's per-step slopes.",
        ),
    ] = None,
    power_: Annotated[
        float, typer.Option("--power", min=0.01, max=0.999, help="Wanted power.")
    ] = 0.8,
) -> None:
    """Compute the number of seeds for a precision or power, with RUN as the pilot."""
    from sublim_causal.analysis.arms.contrasts import paired_arms
    from sublim_causal.analysis.arms.power import pilots, power_curve, power_table
    from sublim_causal.analysis.arms.sequential_power import power_by_look
    from sublim_causal.analysis.plan.record import columns_of_run, read_runs
    from sublim_causal.errors import DataError, RequestError
    from sublim_causal.study.console.tables import curve_table, looks_table, seeds_tables
    from sublim_causal.study.running.stopping import planned_looks, smallest_difference

    with columns_of_run(run):
        record = read_runs(run)
        column = outcome or record.outcome.name
        replicates, reference = record.replicates, record.reference
        if not reference:
            raise DataError(
                f"{run}: no reference arm: no arm has the intervention baseline\n"
                'remedy: name one with reference = "ARM" in the study file, or with reference= or '
                "--reference when you make a run of your own"
            )
        found = pilots(replicates, column, reference, paired=record.paired)
        if not found:
            raise DataError(
                f"{run}: no arm has 3 seeds in common with {reference!r} and varying differences\n"
                "remedy: run more seeds, or choose another --outcome"
            )
        aim = (
            smallest_difference(plan, column, record.outcome) if difference is None else difference
        )
    looks = planned_looks(plan, at, boundary)
    if looks is not None and not record.paired:
        raise RequestError("--at", at, "nothing, if the arms are not paired by seed")
    needed = power_table(found, difference=aim, wanted=wanted, margin=margin, power=power_)
    for table in seeds_tables(needed, power_, margin, out):
        out.print(table)
    if not record.paired:
        out.print("The arms share no seeds: numbers are seeds per arm, for Welch's test.")
    for one in found:
        out.print(curve_table(one.contrast, power_curve(one, difference=aim), aim))
        if looks is not None:
            arm = one.contrast.removesuffix(f" - {reference}")
            d = paired_arms(replicates, column, arm, reference).difference(column, arm, reference)
            by_look = power_by_look(d, aim, looks.at, boundary=looks.boundary)
            title = f"{one.contrast}: power to detect {aim:g} by each look ({looks.boundary})"
            out.print(looks_table(title, by_look, power_))
    if slope is not None:
        tell_slopes(run, plan, slope, looks, power_)


def tell_slopes(run: Path, plan: str, slope: float, looks: Looks | None, wanted: float) -> None:
    """Print the power of the per-step slopes that `plan` declares over comparable arms."""
    from sublim_causal.analysis.plan.file import load_plan
    from sublim_causal.analysis.plan.methods.slopes import StepSlope
    from sublim_causal.analysis.plan.power import pilot_slope, power_of_slope
    from sublim_causal.analysis.plan.record import columns_of_run, read_record
    from sublim_causal.errors import RequestError
    from sublim_causal.study.console.tables import looks_table

    slopes = [
        one
        for one in load_plan(plan).estimands
        if isinstance(one, StepSlope) and one.split == "pooled" and one.adjust == "step"
    ]
    if not slopes or slope == 0:
        allowed = "a slope above 0, and a plan that declares a step_slope over comparable arms"
        raise RequestError("--slope", slope, allowed)
    with columns_of_run(run):
        record = read_record(run, {name for one in slopes for name in one.step_columns()})
    for one in slopes:
        pilot = pilot_slope(record, one)
        seeds = _SEEDS if looks is None else looks.at
        boundary = None if looks is None else looks.boundary
        table = power_of_slope(pilot, slope, seeds, boundary=boundary)
        how = "by number of seeds" if boundary is None else f"by each look ({boundary})"
        title = f"{one.outcome} on {one.predictor}: power to detect a slope of {slope:g}, {how}"
        out.print(looks_table(title, table, wanted))


_SEEDS = (4, 6, 8, 12, 16, 20, 30, 50)
"""Numbers of seeds for which the power of a slope is told without looks."""
