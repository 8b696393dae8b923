"""The plan by which two runs are compared, and the record that holds both.

Runs in another precision or on another device differ in rounding alone. Training amplifies it, so
single seeds move; whether a finding moves is judged against margins fixed here, before the runs
are read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import pandas as pd

from sublim_causal.analysis.plan.declaration import Declared
from sublim_causal.analysis.plan.file import Plan
from sublim_causal.analysis.plan.methods.runs import CommonSeeds, RunDifference, RunEquivalence
from sublim_causal.analysis.plan.record import Record

MARGINS = {"final_accuracy": 0.02, "mean_cos_gradient": 0.001, "mean_cos_update": 0.005}
"""Half-widths within which the runs count as equal, in each column's unit: two points of accuracy,
and for the cosines about a tenth of what the paper's network has under baseline."""


def join_runs(first: Record, second: Record, names: tuple[str, str], *, paired: bool) -> Record:
    """Return a record of the replicates of both runs, with the arms that both completed.

    Parameters
    ----------
    first, second : Record
        The runs.
    names : tuple of str
        What they are called: the values of the column ``run``.
    paired : bool
        Whether a seed means the same draws in both; otherwise the second's are renumbered.
    """
    one, other = first.complete, second.complete
    if not paired:
        other = other.assign(seed=other["seed"] + int(one["seed"].max()) + 1)
    sides = [rows.assign(run=name) for rows, name in zip((one, other), names, strict=True)]
    return replace(
        first,
        name=" against ".join(names),
        arms=tuple(arm for arm in first.complete_arms if arm in second.complete_arms),
        replicates=pd.concat(sides, ignore_index=True),
        steps=first.steps[:0],
        layers=first.layers[:0],
        evaluations=first.evaluations[:0],
    )


def comparison_plan(plan: Plan, alike: Sequence[str], reference: str, *, paired: bool) -> Plan:
    """Return what a comparison of two runs estimates.

    Parameters
    ----------
    plan : Plan
        The plan that both were analysed by; gives level and bootstrap replicates.
    alike : sequence of str
        Arms that both runs define alike; in paired runs these are compared with `MARGINS`.
    reference : str
        Arm that an effect is measured from.
    paired : bool
        Whether a seed means the same draws in both.
    """
    return Plan(
        name="comparison",
        sentence="Whether two runs show the same.",
        level=plan.level,
        n_boot=plan.n_boot,
        estimands=(
            CommonSeeds(
                name="common_seeds",
                sentence="Number of seeds that are complete in both runs.",
                method="common_seeds",
            ),
            *_differences(paired),
            *(_agreement(alike, reference) if paired else ()),
        ),
    )


def _differences(paired: bool) -> Iterator[Declared]:
    for column in MARGINS:
        yield RunDifference(
            name=f"difference_{column}",
            sentence=f"Mean difference of {column} under an arm between the runs.",
            method="run_difference",
            outcome=column,
            paired=paired,
        )


def _agreement(arms: Sequence[str], reference: str) -> Iterator[Declared]:
    for column, margin in MARGINS.items() if arms else ():
        yield _equivalence(column, column, margin, tuple(arms))
    others = tuple(arm for arm in arms if arm != reference)
    if others and reference in arms:
        margin = MARGINS["final_accuracy"]
        yield _equivalence("effect", "final_accuracy", margin, others, reference)


def _equivalence(
    what: str, column: str, margin: float, arms: tuple[str, ...], reference: str = ""
) -> Declared:
    return RunEquivalence(
        name=f"agreement_{what}",
        sentence=f"The runs differ in mean {what} under an arm by less than {margin:g}.",
        method="run_equivalence",
        outcome=column,
        margin=margin,
        arms=arms,
        reference=reference,
    )
