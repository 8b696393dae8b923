"""What a plan can ask of two runs: whether an arm did the same in both.

Both runs stand in one record, whose replicates have a column ``run``; see `comparison.join_runs`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from pydantic import Field

from sublim_causal.analysis.arms.equivalence import tost
from sublim_causal.analysis.arms.independent import welch_interval
from sublim_causal.analysis.estimates.intervals import mean_interval
from sublim_causal.analysis.estimates.settings import Settings
from sublim_causal.analysis.estimates.types import (
    FEW_SEEDS,
    MIN_SEEDS,
    Estimand,
    NotEstimable,
    Result,
)
from sublim_causal.analysis.plan.declaration import (
    Declared,
    ReplicateColumn,
    difference_of,
    with_unit,
)
from sublim_causal.analysis.plan.method import Method
from sublim_causal.analysis.plan.methods.descriptives import described, none_complete
from sublim_causal.analysis.plan.record import Record

ByRun = Mapping[str, pd.DataFrame]
"""Complete replicates by run: the first, and the second that is subtracted from it."""


class OfRuns(Declared):
    """A quantity of arms that two runs have in common, the first run minus the second."""

    outcome: ReplicateColumn
    """Column of ``replicates``."""
    arms: tuple[str, ...] = ()
    """Arms; none: every arm of the record."""

    def about(self) -> dict[str, str]:
        """Column, unit, and the column as the part."""
        return {**difference_of(self.outcome), "part": self.outcome}

    def endings(self) -> None:
        """One by arm."""


class RunDifference(OfRuns):
    """Mean difference of an outcome between two runs."""

    paired: bool = True
    """Whether a seed means the same draws in both; else Welch's t."""

    def count_seeds(self, replicates: pd.DataFrame) -> int:
        """Count a seed once where both runs share it, else once in each run."""
        if self.paired or "run" not in replicates:
            return super().count_seeds(replicates)
        return len(replicates[["run", "seed"]].drop_duplicates())


class RunEquivalence(OfRuns):
    """Equivalence of two runs in an outcome, seed by seed, within a margin."""

    margin: float = Field(gt=0, allow_inf_nan=False)
    """Largest difference that would not matter, in the outcome's unit."""
    reference: str = ""
    """Where an arm's effect is compared: the arm that it is measured from."""

    def about(self) -> dict[str, str]:
        """Column and unit; an effect is a part of its own."""
        part = {"part": "effect"} if self.reference else {}
        return {**super().about(), "reference": self.reference, **part}


class CommonSeeds(Declared):
    """Number of seeds that have a complete replicate in both runs."""


_ONE_RUN = "one run: compare two with `sublim-causal report RUN OTHER`"


def _common_seeds(record: Record, declared: CommonSeeds, settings: Settings) -> Sequence[Result]:
    estimand = declared.estimand("seeds", "both runs", unit="seeds")
    if "run" not in record.replicates:
        return [NotEstimable(estimand, _ONE_RUN)]
    runs = record.complete.groupby("seed")["run"].nunique()
    if refusal := none_complete(estimand, len(runs)):
        return [refusal]
    count, level = int((runs > 1).sum()), settings.level
    return [described(estimand, count, "count", n_seeds=record.n_seeds, level=level)]


def _for_arms(
    record: Record, declared: OfRuns, estimate: Callable[[Estimand, str, ByRun], Result]
) -> list[Result]:
    """Estimate for each arm, from its complete replicates in both runs."""
    contrast = "first run - second run"
    if "run" not in record.replicates:
        whole = declared.estimand(with_unit("replicates", declared.outcome), contrast)
        return [NotEstimable(whole, _ONE_RUN)]
    complete = record.complete
    runs = record.replicates["run"].unique()
    sides = {str(name): complete[complete["run"] == name] for name in runs}
    reference = getattr(declared, "reference", "")
    results = []
    for arm in declared.arms or record.arms:
        estimand = declared.estimand(
            with_unit("replicates", declared.outcome),
            " - ".join(sides),
            f"{arm} - {reference}" if reference else arm,
            arm=arm,
        )
        results.append(estimate(estimand, arm, sides))
    return results


def _values(rows: pd.DataFrame, arm: str, column: str) -> pd.Series:
    return rows[rows["arm"] == arm].set_index("seed")[column].dropna()


def _run_difference(
    record: Record, declared: RunDifference, settings: Settings
) -> Sequence[Result]:
    def estimate(estimand: Estimand, arm: str, sides: ByRun) -> Result:
        values = {name: _values(rows, arm, declared.outcome) for name, rows in sides.items()}
        return (_paired if declared.paired else _welch)(estimand, values, settings)

    return _for_arms(record, declared, estimate)


def _paired(estimand: Estimand, values: Mapping[str, pd.Series], settings: Settings) -> Result:
    x, y = values.values()
    apart = (x - y).dropna().to_numpy()
    found = mean_interval(apart, settings=settings, estimand=estimand)
    if isinstance(found, NotEstimable):
        return found
    # Where all seeds differ alike, and most of all where none does, there is nothing to test.
    p_value = found.p_value if np.ptp(apart) > 0 else None
    return replace(found, method=f"paired {found.method}", p_value=p_value)


def _welch(estimand: Estimand, values: Mapping[str, pd.Series], settings: Settings) -> Result:
    x, y = (one.to_numpy() for one in values.values())
    if min(len(x), len(y)) < MIN_SEEDS:
        return NotEstimable(estimand, f"fewer than {MIN_SEEDS} complete seeds in a run")
    found = welch_interval(estimand, x, y, settings.level)
    if found is None:
        return NotEstimable(estimand, "neither run varies over seeds")
    return replace(found, warnings=_seeds_of({name: len(one) for name, one in values.items()}))


def _seeds_of(counts: Mapping[str, int]) -> tuple[str, ...]:
    """Say how many seeds each run has, and which has few."""
    each = " and ".join(f"{n} seeds of {name}" for name, n in counts.items())
    few = [f"only {n} seeds of {name}" for name, n in counts.items() if n < FEW_SEEDS]
    return (each, *(f"{one}: the t interval relies on normal per-seed values" for one in few))


def _run_equivalence(
    record: Record, declared: RunEquivalence, settings: Settings
) -> Sequence[Result]:
    def estimate(estimand: Estimand, arm: str, sides: ByRun) -> Result:
        values = {name: _effects(rows, arm, declared) for name, rows in sides.items()}
        if not all(map(len, values.values())) or len(values) < 2:
            return NotEstimable(estimand, "a run has no complete seed under it")
        both = pd.concat([one.reset_index().assign(arm=name) for name, one in values.items()])
        return tost(
            both,
            declared.outcome,
            *values,
            margin=declared.margin,
            settings=settings,
            estimand=estimand,
        )

    return _for_arms(record, declared, estimate)


def _effects(rows: pd.DataFrame, arm: str, declared: RunEquivalence) -> pd.Series:
    """Return the outcome by seed, minus that under the reference where there is one."""
    values = _values(rows, arm, declared.outcome)
    if declared.reference:
        values = values - _values(rows, declared.reference, declared.outcome)
    return values.dropna().rename(declared.outcome)


RUN_METHODS: Mapping[str, Method] = {
    "common_seeds": Method(CommonSeeds, _common_seeds),
    "run_difference": Method(RunDifference, _run_difference),
    "run_equivalence": Method(RunEquivalence, _run_equivalence),
}
