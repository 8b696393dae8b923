"""What a plan can ask of the slope of a step's gain on its alignment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, Self

from pydantic import model_validator

from sublim_causal.analysis.estimates.settings import Settings
from sublim_causal.analysis.estimates.types import (
    MIN_SEEDS,
    Estimand,
    NotEstimable,
    Result,
    too_few,
)
from sublim_causal.analysis.plan.declaration import (
    Declared,
    StepColumn,
    WithInterval,
    slope_of,
    with_unit,
)
from sublim_causal.analysis.plan.method import Method, with_diagnostics, with_note
from sublim_causal.analysis.plan.methods.comparable import SHARED, entering_arms
from sublim_causal.analysis.plan.record import Record
from sublim_causal.analysis.steps.fit_details import describe_fit
from sublim_causal.analysis.steps.mundlak import equal_levels
from sublim_causal.analysis.steps.slopes import (
    LEVELS,
    UNADJUSTED,
    Split,
    fit_slopes,
    fitted_contrast,
    slope_estimates,
    slope_model,
)
from sublim_causal.analysis.steps.two_way import two_way_slope
from sublim_causal.errors import DataError

NORMS = ("norm_trait", "norm_update")
"""Columns whose product is, to first order, the slope of `gain` on `cos_update`."""

Adjust = Literal["step", "none"]


class OnAlignment(Declared):
    """A slope of a column of ``steps`` on an alignment."""

    outcome: StepColumn
    """Column of ``steps``."""
    predictor: StepColumn
    """Column of ``steps``."""

    def about(self) -> dict[str, str]:
        """Column and unit of the slope."""
        return slope_of(self.outcome, self.predictor)

    def step_columns(self) -> tuple[str, ...]:
        """Outcome and predictor."""
        return (self.outcome, self.predictor)


class StepSlope(OnAlignment, WithInterval):
    """Per-step slope of an outcome on alignment.

    `adjust` is ``"none"`` by default where `split` is ``"levels"``, and must be.
    """

    split: Split = "pooled"
    """`pooled`, over comparable arms; `by_arm`; or `levels`: within a run, between arms, between
    seeds."""
    adjust: Adjust = "step"
    """`step`: within run and step, so that what training time moves in all runs alike does not
    enter; `none`: a mixed model of all arms, which does not adjust for training time."""

    @model_validator(mode="before")
    @classmethod
    def _levels_are_not_adjusted(cls, fields: Any) -> Any:
        if isinstance(fields, dict) and fields.get("split") == "levels":
            return {"adjust": "none", **fields}
        return fields

    @model_validator(mode="after")
    def _no_adjusted_levels(self) -> Self:
        if self.split == "levels" and self.adjust == "step":
            raise ValueError("adjust = 'none' where split is 'levels'")
        return self

    @property
    def is_identity(self) -> bool:
        """Whether to first order the slope is the mean of ``norm_trait * norm_update``."""
        return (self.outcome, self.predictor) == ("gain", "cos_update")

    def step_columns(self) -> tuple[str, ...]:
        """Outcome and predictor; for the identity the norms too."""
        norms = NORMS if self.is_identity and self.adjust == "step" else ()
        return (*super().step_columns(), *norms)

    def endings(self) -> tuple[str, ...] | None:
        """None for one slope, arms, or levels."""
        return {"pooled": ("",), "by_arm": None, "levels": LEVELS}[self.split]


class SlopeModelInFull(OnAlignment):
    """The pooled model of `StepSlope` in full: coefficients, components, residuals, influence."""


def _step_slope(record: Record, declared: StepSlope, settings: Settings) -> Sequence[Result]:
    if declared.adjust == "none":
        return _unadjusted_slope(record, declared, settings)
    if declared.split == "by_arm":
        return [_of_arm(record, declared, settings, arm) for arm in record.arms]
    arms, notes = entering_arms(record)
    estimand = declared.estimand(
        with_unit("steps", declared.outcome),
        f"slope on {declared.predictor} within run and step, arms {', '.join(arms)}",
    )
    return [_within_step(record, declared, settings, estimand, arms, notes)]


def _of_arm(record: Record, declared: StepSlope, settings: Settings, arm: str) -> Result:
    estimand = declared.estimand(
        with_unit("steps", declared.outcome),
        f"slope on {declared.predictor} within run and step, {arm}",
        arm,
        arm=arm,
    )
    try:
        return _within_step(record, declared, settings, estimand, [arm], [SHARED])
    except DataError as error:
        return NotEstimable(estimand, str(error))


def _within_step(
    record: Record,
    declared: StepSlope,
    settings: Settings,
    estimand: Estimand,
    arms: Sequence[str],
    notes: Sequence[str],
) -> Result:
    steps = record.steps[record.steps["arm"].isin(arms)]
    found = two_way_slope(
        steps,
        declared.outcome,
        declared.predictor,
        weighted=NORMS if declared.is_identity else (),
        settings=settings,
        estimand=estimand,
    )
    if isinstance(found, NotEstimable):
        return found
    found = replace(found, warnings=(*found.warnings, *notes))
    if declared.is_identity:
        size = found.diagnostics["mean_product"]
        identity = (
            "to first order this slope is |g_trait| |update| by definition and says little "
            f"about the data; the mean of that product, weighted as the slope, is {size:.4g}"
        )
        found = replace(found, warnings=(*found.warnings, identity))
    return with_diagnostics(found, arms=list(arms))


def _unadjusted_slope(record: Record, declared: StepSlope, settings: Settings) -> Sequence[Result]:
    model = slope_model(
        record.steps, declared.outcome, declared.predictor, declared.split, arms=record.arms
    )
    names = {"pooled": ("",), "by_arm": record.arms, "levels": LEVELS}[declared.split]
    estimands = {
        name: declared.estimand(
            with_unit("steps", declared.outcome),
            f"slope on {declared.predictor}{', ' * bool(name)}{name}",
            name,
            arm=name if declared.split == "by_arm" else "",
            part=name if declared.split == "levels" else "",
        )
        for name in names
    }
    levels = declared.split == "levels"
    fit = fit_slopes(model) if levels and model.data["seed"].nunique() >= MIN_SEEDS else None
    found = slope_estimates(model, estimands, fit=fit, settings=settings)
    equality = {"equality": equal_levels(fit).tidy()} if levels else {}
    return [with_note(with_diagnostics(one, **equality), UNADJUSTED) for one in found.values()]


def _slope_model(record: Record, declared: SlopeModelInFull, settings: Settings) -> list[Result]:
    estimand = declared.estimand(
        with_unit("steps", declared.outcome), f"slope on {declared.predictor}"
    )
    if refusal := too_few(estimand, record.steps["seed"].nunique()):
        return [refusal]
    model = slope_model(
        record.steps,
        declared.outcome,
        declared.predictor,
        arms=[arm for arm in record.arms if (record.steps["arm"] == arm).any()],
    )
    fit = fit_slopes(model)
    estimate = replace(
        fitted_contrast(fit, "x", estimand, settings.level),
        method="mixed model, CR2",
        warnings=(*fit.warnings, UNADJUSTED),
        diagnostics=vars(describe_fit(fit, model, settings.level)),
    )
    return [estimate]


SLOPE_METHODS: Mapping[str, Method] = {
    "step_slope": Method(StepSlope, _step_slope),
    "slope_model": Method(SlopeModelInFull, _slope_model),
}
