"""What a plan can ask of measurement error: reliability, and slopes corrected for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pandas as pd

from sublim_causal.analysis.estimates.settings import Settings
from sublim_causal.analysis.estimates.types import FRACTION, Estimand, Result
from sublim_causal.analysis.plan.declaration import (
    OfArm,
    StepColumn,
    WithInterval,
    slope_of,
    with_unit,
)
from sublim_causal.analysis.plan.method import Method, with_note
from sublim_causal.analysis.plan.methods.comparable import entering_arms
from sublim_causal.analysis.plan.methods.slopes import Adjust
from sublim_causal.analysis.plan.methods.summaries import of_each_arm
from sublim_causal.analysis.plan.record import Record
from sublim_causal.analysis.steps.measurement import HALVES, Slopes, corrected_slopes, reliability
from sublim_causal.analysis.steps.slopes import UNADJUSTED
from sublim_causal.analysis.steps.two_way import without_effects


class Reliability(OfArm, WithInterval):
    """Reliability within runs of the alignment, from the two halves of the probe."""

    unit = FRACTION
    adjust: Adjust = "step"
    """`step`: within run and step, so that a trend which all runs of the arm share does not count
    as signal; `none`: within runs."""

    def step_columns(self) -> tuple[str, ...]:
        """Both halves."""
        return HALVES


class CorrectedSlope(WithInterval):
    """Per-step slope on the gradient alignment, plain and corrected for its error."""

    outcome: StepColumn
    """Column of ``steps``."""
    adjust: Adjust = "step"
    """`step`: within run and step, over comparable arms; `none`: within runs, over all arms."""

    def step_columns(self) -> tuple[str, ...]:
        """Outcome and both halves."""
        return (self.outcome, *HALVES)

    def about(self) -> dict[str, str]:
        """Column and unit of the slope."""
        return slope_of(self.outcome, "cos_gradient")

    def endings(self) -> tuple[str, ...]:
        """Both slopes."""
        return ("plain", "corrected")


def _reliability(record: Record, declared: Reliability, settings: Settings) -> Sequence[Result]:
    def estimate(estimand: Estimand, rows: pd.DataFrame) -> Result:
        if declared.adjust == "none":
            found = reliability(rows, estimand=estimand, settings=settings)
            return with_note(found, UNADJUSTED)
        return reliability(without_effects(rows, HALVES), estimand=estimand, settings=settings)

    where = "within run and step" if declared.adjust == "step" else "within runs"
    return of_each_arm(record, declared, f"reliability of cos_gradient {where}", estimate)


def _corrected_slope(
    record: Record, declared: CorrectedSlope, settings: Settings
) -> Sequence[Result]:
    steps, where, notes = record.steps, "within runs", [UNADJUSTED]
    if declared.adjust == "step":
        arms, notes = entering_arms(record)
        steps = without_effects(steps[steps["arm"].isin(arms)], declared.step_columns())
        where = f"within run and step, arms {', '.join(arms)},"
    found = corrected_slopes(
        steps,
        declared.outcome,
        estimand=declared.estimand(
            with_unit("steps", declared.outcome), f"slope {where} on cos_half_a, cos_half_b"
        ),
        settings=settings,
    )
    for note in notes:
        found = Slopes(*(with_note(one, note) for one in found))
    return [
        replace(one, estimand=replace(one.estimand, part=part))
        for part, one in zip(declared.endings(), found, strict=True)
    ]


MEASUREMENT_METHODS: Mapping[str, Method] = {
    "reliability": Method(Reliability, _reliability),
    "corrected_slope": Method(CorrectedSlope, _corrected_slope),
}
