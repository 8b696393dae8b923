"""What a plan can ask so that a claim does not rest on a mean alone: every epoch, every seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from sublim_causal.analysis.causal.bounds import lower_mean_bound, share_limits
from sublim_causal.analysis.estimates.intervals import mean_interval
from sublim_causal.analysis.estimates.panel import paired_panel
from sublim_causal.analysis.estimates.settings import Settings
from sublim_causal.analysis.estimates.types import (
    FRACTION,
    Estimate,
    Floats,
    NotEstimable,
    Result,
    too_few,
)
from sublim_causal.analysis.plan.declaration import (
    REFERENCE,
    Contrasted,
    Declared,
    ReplicateColumn,
    StepColumn,
    column_unit,
    with_unit,
)
from sublim_causal.analysis.plan.method import ACQUIRED, Method, Pair, absent, acquired, by_pair
from sublim_causal.analysis.plan.record import Record


class WeakestEpoch(Declared):
    """A summary of an arm's steps in its weakest epoch after the first, and in its last one."""

    outcome: StepColumn
    """Column of ``steps``."""
    summary: Literal["mean", "share_positive"] = "mean"
    """Mean over the steps of an epoch, or share of steps above 0."""
    arm: str = REFERENCE
    """The arm."""
    arm_fields: ClassVar[tuple[str, ...]] = ("arm",)

    def about(self) -> dict[str, str]:
        """Arm, column and unit."""
        unit = FRACTION if self.summary == "share_positive" else column_unit("steps", self.outcome)
        return {"arm": self.arm, "column": self.outcome, "unit": unit}

    def step_columns(self) -> tuple[str, ...]:
        """Outcome and epoch."""
        return (self.outcome, "epoch")

    def endings(self) -> tuple[str, ...]:
        """The weakest epoch, and the last."""
        return ("weakest", "last")


class RetainedBound(Contrasted):
    """Mean over seeds of the retained share, with a lower limit for any distribution of seeds."""

    unit = "1"


class SimilarSeeds(Contrasted):
    """Share of seeds whose paired difference lies inside a margin, exact binomial."""

    outcome: ReplicateColumn = "final_accuracy"
    """Column of ``replicates``."""
    margin: float = Field(gt=0, allow_inf_nan=False)
    """Largest difference that would not matter, in the outcome's unit."""

    def about(self) -> dict[str, str]:
        """Arms, column and unit."""
        return {**super().about(), "column": self.outcome, "unit": FRACTION}


class CollapseLoss(Declared):
    """Mean loss of outcome through collapsed runs in the arms named, with an exact upper limit.

    A run has collapsed if it acquires less than half of what the reference acquires on its seed.
    """

    arms: tuple[str, ...] = Field(min_length=1)
    """Arms whose runs are pooled as draws of one probability; those that the run has."""
    reference: str = REFERENCE
    """The arm they are compared with."""
    arm_fields: ClassVar[tuple[str, ...]] = ("reference",)

    def about(self) -> dict[str, str]:
        """Reference and unit."""
        return {"reference": self.reference, "unit": FRACTION}


def _weakest_epoch(record: Record, declared: WeakestEpoch, settings: Settings) -> Sequence[Result]:
    """Estimate the smallest of the epochs' means, and the last.

    That every epoch is above a value holds where each one's interval is (intersection-union test,
    Berger 1982), so the lower limit is the lowest of them at the level itself. The upper limit is
    the lowest of theirs at the level divided among the epochs (Bonferroni).
    """
    outcome = with_unit("steps", declared.outcome)
    if missing := absent(record, declared.estimand(outcome, f"arm {declared.arm}"), declared.arm):
        return [missing]
    by_epoch = _by_epoch(record, declared)
    named = {
        part: declared.estimand(outcome, f"arm {declared.arm}", part, part=part)
        for part in declared.endings()
    }
    if not by_epoch:
        return [NotEstimable(one, "the run has one epoch") for one in named.values()]
    shared = replace(settings, level=1 - (1 - settings.level) / len(by_epoch))

    def means(part: str, how: Settings) -> dict[int, Result]:
        return {
            epoch: mean_interval(values, estimand=named[part], settings=how)
            for epoch, values in by_epoch.items()
        }

    last = means("last", settings)[max(by_epoch)]
    found = {k: one for k, one in means("weakest", settings).items() if isinstance(one, Estimate)}
    wide = [one for one in means("weakest", shared).values() if isinstance(one, Estimate)]
    if len(found) < len(by_epoch):
        return [NotEstimable(named["weakest"], "too few seeds in an epoch"), last]
    weakest = min(found, key=lambda epoch: found[epoch].value)
    value = found[weakest].value
    smallest = replace(
        found[weakest],
        low=min(one.low for one in found.values()),
        high=max(value, min(one.high for one in wide)),
        p_value=None,
        method=f"the weakest of {len(found)} epochs is epoch {weakest}; limits over all of them",
    )
    return [smallest, last]


def _by_epoch(record: Record, declared: WeakestEpoch) -> dict[int, Floats]:
    """Summary of every seed in every epoch after the first."""
    steps = record.steps[record.steps["arm"] == declared.arm]
    values = steps[declared.outcome]
    if declared.summary == "share_positive":
        values = (values > 0).astype(float)
    means = values.groupby([steps["epoch"], steps["seed"]]).mean()
    later = sorted({int(epoch) for epoch in steps["epoch"].unique()} - {0})
    return {epoch: means.loc[epoch].to_numpy(dtype=float) for epoch in later}


def _retained_bound(
    record: Record, declared: RetainedBound, settings: Settings
) -> Sequence[Result]:
    def estimate(pair: Pair) -> list[Result]:
        panel = acquired(record, pair.arm, pair.reference)
        arm, reference = panel.columns[ACQUIRED].T
        if reason := too_few(pair.estimand, len(panel.seeds)):
            return [reason]
        if (reference <= 0).any():
            return [
                NotEstimable(pair.estimand, f"{pair.reference!r} acquires nothing in some seed")
            ]
        shares = np.maximum(arm / reference, 0.0)
        mean = mean_interval(shares, estimand=pair.estimand, settings=settings)
        if not isinstance(mean, Estimate):
            return [mean]
        low = lower_mean_bound(
            shares, (1 - settings.level) / 2, np.random.default_rng(settings.rng)
        )
        method = "mean over seeds, lower limit for any distribution (Gaffke)"
        return [replace(mean, low=min(low, mean.low), p_value=None, method=method)]

    return by_pair(record, declared, "share of acquired accuracy (1)", estimate)


def _similar_seeds(record: Record, declared: SimilarSeeds, settings: Settings) -> Sequence[Result]:
    def estimate(pair: Pair) -> list[Result]:
        panel = paired_panel(record.replicates, [declared.outcome], (pair.arm, pair.reference))
        apart = np.abs(panel.difference(declared.outcome, pair.arm, pair.reference))
        n = len(apart)
        if reason := too_few(pair.estimand, n):
            return [reason]
        count = int((apart < declared.margin).sum())
        limits = share_limits(count, n, settings.level)
        share = count / n
        return [
            Estimate(
                estimand=pair.estimand,
                value=share,
                se=float(np.sqrt(share * (1 - share) / n)),
                low=limits.low,
                high=limits.high,
                level=settings.level,
                df=None,
                p_value=None,
                method=f"{count} of {n} seeds within {declared.margin:g}, exact binomial",
                n_seeds=n,
                n_dropped=panel.n_dropped,
                diagnostics={"margin": declared.margin, "count": count},
            )
        ]

    return by_pair(record, declared, "share of seeds (fraction)", estimate)


def _collapse_loss(record: Record, declared: CollapseLoss, settings: Settings) -> Sequence[Result]:
    arms = [arm for arm in declared.arms if arm in record.complete_arms]
    estimand = declared.estimand(
        with_unit("replicates", record.outcome.name), f"{', '.join(arms)} - {declared.reference}"
    )
    if missing := absent(record, estimand, declared.reference, *(arms or declared.arms)):
        return [missing]
    panel = acquired(record, *arms, declared.reference)
    if reason := too_few(estimand, len(panel.seeds)):
        return [reason]
    start = panel.column(record.outcome.start, declared.reference)
    gained = panel.column(ACQUIRED, declared.reference)
    collapsed = sum(
        int((panel.column(record.outcome.name, arm) - start < gained / 2).sum()) for arm in arms
    )
    n = len(arms) * len(panel.seeds)
    # One-sided while none has been seen: there is no lower limit to allow for.
    level = settings.level if collapsed else 2 * settings.level - 1
    limits, size = share_limits(collapsed, n, level), float(gained.mean())
    share = collapsed / n
    return [
        Estimate(
            estimand=estimand,
            value=share * size,
            se=float(np.sqrt(share * (1 - share) / n)) * size,
            low=limits.low * size,
            high=limits.high * size,
            level=settings.level,
            df=None,
            p_value=None,
            method=f"{collapsed} of {n} runs collapsed, exact binomial times {size:.3g} acquired",
            n_seeds=len(panel.seeds),
            n_dropped=panel.n_dropped,
            diagnostics={"collapsed": collapsed, "runs": n, "arms": arms, "acquired": size},
        )
    ]


BOUND_METHODS: Mapping[str, Method] = {
    "weakest_epoch": Method(WeakestEpoch, _weakest_epoch),
    "retained_bound": Method(RetainedBound, _retained_bound),
    "similar_seeds": Method(SimilarSeeds, _similar_seeds),
    "collapse_loss": Method(CollapseLoss, _collapse_loss),
}
