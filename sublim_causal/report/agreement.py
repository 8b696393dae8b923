"""Do two runs that share every random draw show the same? Equivalence, seed by seed.

Runs in another precision or on another device differ in rounding alone. Training amplifies it, so
single seeds move; whether a finding moves is judged against margins fixed here, before
the runs are read.
"""

from __future__ import annotations

import pandas as pd

from sublim_causal.analysis.arms.equivalence import tost
from sublim_causal.analysis.estimates.types import (
    Estimand,
    Estimate,
    NotEstimable,
    Result,
    difference_unit,
)
from sublim_causal.analysis.plan.declaration import column_unit, with_unit

MARGINS = {"final_accuracy": 0.02, "mean_cos_gradient": 0.001, "mean_cos_update": 0.005}
"""Half-widths within which the runs count as equal, in each column's unit: two points of accuracy,
and for the cosines about a tenth of what the paper's network has under baseline."""


def agreement(
    first: pd.DataFrame,
    second: pd.DataFrame,
    names: tuple[str, str],
    arms: tuple[str, ...],
    reference: str = "baseline",
) -> list[Result]:
    """Return paired equivalence tests of the runs, first minus second.

    Parameters
    ----------
    first, second : DataFrame
        Complete replicates of two runs whose seeds mean the same draws: seed, arm and the columns
        of `MARGINS`.
    names : tuple of str
        What the runs are called.
    arms : tuple of str
        Arms that both have.
    reference : str
        Arm that an effect is measured from.

    Returns
    -------
    list of Estimate or NotEstimable
        For every arm the columns of `MARGINS`, then, if both have `reference`, every other arm's
        effect on final accuracy. The diagnostics hold ``margin`` and ``equivalent``.
    """
    sides = [first, second]
    found = [
        _equivalence([side[side["arm"] == arm] for side in sides], names, column, arm)
        for column in MARGINS
        for arm in arms
    ]
    for arm in arms:
        if reference in arms and arm != reference:
            effects = [_effects(side, arm, reference) for side in sides]
            found.append(_equivalence(effects, names, "final_accuracy", arm, reference))
    return found


def _effects(replicates: pd.DataFrame, arm: str, reference: str) -> pd.DataFrame:
    """Return a row a seed: final accuracy under `arm` minus under the reference."""
    wide = replicates.pivot(index="seed", columns="arm", values="final_accuracy")
    wide = wide.reindex(columns=[arm, reference])
    return (wide[arm] - wide[reference]).dropna().rename("final_accuracy").reset_index()


def _equivalence(
    sides: list[pd.DataFrame],
    names: tuple[str, str],
    column: str,
    arm: str,
    reference: str = "",
) -> Result:
    margin = MARGINS[column]
    what = "effect" if reference else column
    label = f"{arm} - {reference}" if reference else arm
    estimand = Estimand(
        name=f"agreement_{what}_{label}",
        sentence=f"The runs differ in mean {what} under {label} by less than {margin:g}.",
        outcome=with_unit("replicates", column),
        contrast=f"{names[0]} - {names[1]}",
        arm=arm,
        reference=reference,
        part=what,
        column=column,
        unit=difference_unit(column_unit("replicates", column)),
    )
    if not all(len(side) for side in sides):
        return NotEstimable(estimand, "a run has no complete seed under it")
    both = pd.concat([side.assign(arm=name) for side, name in zip(sides, names, strict=True)])
    return tost(both, column, names[0], names[1], margin=margin, estimand=estimand)


def equal(result: Result) -> bool:
    """Return whether the runs are shown to be equal in this figure, within its margin."""
    return isinstance(result, Estimate) and bool(result.diagnostics["equivalent"])
