"""What a plan can ask of runs by themselves: the mean over seeds of a run-level column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pandas as pd

from sublim_causal.analysis.estimates.intervals import mean_interval
from sublim_causal.analysis.estimates.panel import validate_columns
from sublim_causal.analysis.estimates.settings import Settings
from sublim_causal.analysis.estimates.types import Estimand, NotEstimable, Result
from sublim_causal.analysis.plan.declaration import (
    OfArm,
    ReplicateColumn,
    WithInterval,
    column_unit,
    difference_of,
    with_unit,
)
from sublim_causal.analysis.plan.method import Method, absent
from sublim_causal.analysis.plan.ranges import within
from sublim_causal.analysis.plan.record import Record


class ArmMean(OfArm, WithInterval):
    """Mean over an arm's complete seeds of a run-level column, or of a difference of two."""

    outcome: ReplicateColumn
    """Column of ``replicates``."""
    start: ReplicateColumn | None = None
    """Column that is subtracted run by run: its value before training."""

    def about(self) -> dict[str, str]:
        """Arm, column and unit."""
        own = {"column": self.outcome, "unit": column_unit("replicates", self.outcome)}
        return {**super().about(), **(difference_of(self.outcome) if self.start else own)}


class SeedMean(WithInterval):
    """Mean over seeds of a column that the arms of a seed share.

    Where they do not, as accuracies of teachers of an arm's own, it is the reference arm's in seeds
    in which that is complete.
    """

    outcome: ReplicateColumn
    """Column of ``replicates``."""

    def about(self) -> dict[str, str]:
        """Column and unit."""
        return {"column": self.outcome, "unit": column_unit("replicates", self.outcome)}


def _arm_mean(record: Record, declared: ArmMean, settings: Settings) -> Sequence[Result]:
    results: list[Result] = []
    outcome = with_unit("replicates", declared.outcome)
    if declared.start:
        outcome = f"{declared.outcome} - {outcome.replace(declared.outcome, declared.start)}"
    complete = record.complete
    validate_columns(complete, list(filter(None, (declared.outcome, declared.start))))
    for arm in declared.chosen(record.arms):
        estimand = declared.estimand(outcome, f"arm {arm}", arm if declared.each else "", arm=arm)
        if missing := absent(record, estimand, arm):
            results.append(missing)
            continue
        rows = complete[complete["arm"] == arm]
        values = rows[declared.outcome] - (rows[declared.start] if declared.start else 0.0)
        found = _mean(values.dropna(), estimand, settings)
        results.append(found if declared.start else within(found, declared.outcome))
    return results


def _mean(values: pd.Series, estimand: Estimand, settings: Settings) -> Result:
    """Return the mean; of too few seeds for an interval, the mean alone."""
    found = mean_interval(values.to_numpy(), estimand=estimand, settings=settings)
    if isinstance(found, NotEstimable) and len(values):
        return replace(found, value=float(values.mean()))
    return found


def _seed_mean(record: Record, declared: SeedMean, settings: Settings) -> Sequence[Result]:
    estimand = declared.estimand(with_unit("replicates", declared.outcome), "every arm of a seed")
    complete = record.complete
    validate_columns(complete, [declared.outcome])
    by_arm = complete.pivot(index="seed", columns="arm", values=declared.outcome)
    values = by_arm.mean(axis=1)
    if record.reference in by_arm:
        values = by_arm[record.reference].combine_first(values)
    return [within(_mean(values.dropna(), estimand, settings), declared.outcome)]


MEAN_METHODS: Mapping[str, Method] = {
    "arm_mean": Method(ArmMean, _arm_mean),
    "seed_mean": Method(SeedMean, _seed_mean),
}
