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
        typer.Option(metavar="N,N,...", help="Also give the power by each of these looks."),
    ] = None,
    power_: Annotated[
        float, typer.Option("--power", min=0.01, max=0.999, help="Wanted power.")
    ] = 0.8,
) -> None:
    """Compute how many seeds a precision or power needs, with RUN as the pilot."""
    from sublim_causal.analysis.arms.contrasts import paired_arms
    from sublim_causal.analysis.arms.power import pilots, power_curve, power_table
    from sublim_causal.analysis.arms.sequential_power import power_by_look
    from sublim_causal.analysis.plan.record import columns_of_run, read_runs
    from sublim_causal.errors import DataError, RequestError
    from sublim_causal.study.console.tables import curve_table, looks_table, seeds_tables
    from sublim_causal.study.running.stopping import parse_looks, smallest_difference

    with columns_of_run(run):
        record = read_runs(run)
        column = outcome or record.outcome.name
        replicates, reference = record.replicates, record.reference
        if not reference:
            raise DataError(
                f"{run}: it has no arm to compare with: none has the intervention baseline\n"
                'remedy: name one: reference = "ARM" in the study file, or reference= and '
                "--reference where a run of your own is made"
            )
        found = pilots(replicates, column, reference, paired=record.paired)
        if not found:
            raise DataError(
                f"{run}: no arm has 3 seeds in common with {reference!r} whose differences vary\n"
                "remedy: run more seeds, or another --outcome"
            )
        aim = (
            smallest_difference(plan, column, record.outcome) if difference is None else difference
        )
    if at is not None and not record.paired:
        raise RequestError("--at", at, "nothing, where the arms are not paired by seed")
    needed = power_table(found, difference=aim, wanted=wanted, margin=margin, power=power_)
    for table in seeds_tables(needed, power_, margin, out):
        out.print(table)
    if not record.paired:
        out.print("The arms share no seeds: these are seeds in each arm, compared by Welch's test.")
    for one in found:
        out.print(curve_table(one.contrast, power_curve(one, difference=aim), aim))
        if at is not None:
            arm = one.contrast.removesuffix(f" - {reference}")
            d = paired_arms(replicates, column, arm, reference).difference(column, arm, reference)
            by_look = power_by_look(d, aim, parse_looks(at))
            out.print(looks_table(one.contrast, by_look, aim))
