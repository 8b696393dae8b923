"""What a plan can ask of a dose study; the doses are read from the arms of the recorded study."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import inf, isfinite
from typing import Any, ClassVar, Literal

from pydantic import ValidationInfo, field_validator

from sublim_causal.analysis.causal.dose_response import (
    Direction,
    DoseCurve,
    adjacent_changes,
    dose_slope,
    isotonic_curve,
    linear_curve,
    monotone_trend,
)
from sublim_causal.analysis.causal.doses import OUTCOME, validate_doses
from sublim_causal.analysis.estimates.settings import Settings
from sublim_causal.analysis.estimates.types import Estimate, NotEstimable, Result, difference_unit
from sublim_causal.analysis.plan.declaration import (
    REFERENCE,
    Declared,
    ReplicateColumn,
    WithInterval,
    column_unit,
)
from sublim_causal.analysis.plan.method import (
    Interventions,
    Method,
    absent,
    as_declared,
    quoted,
    studies_with,
)
from sublim_causal.analysis.plan.record import SETTING, Record, same_setting
from sublim_causal.errors import DataError

Space = Literal["update", "gradient"]
Doses = Mapping[str, float]
_PROJECTION = {"strength": 1.0, "space": "gradient", "when": "positive", "layers": ()}
"""Defaults of the paper's projection, which a study may leave out."""


class Dosed(Declared):
    """A quantity over the strengths of the projection in one space."""

    space: Space = "update"
    """Space of the projection; its arms and the undosed one are the doses."""
    undosed: str = REFERENCE
    """Arm of strength 0."""
    arm_fields: ClassVar[tuple[str, ...]] = ("undosed",)
    outcome: ReplicateColumn = OUTCOME
    """Column of ``replicates``."""

    def highest(self) -> float:
        """Return the strength above which arms are left out."""
        return inf


class DoseTrend(Dosed, WithInterval):
    """The shape of the dose-response."""

    shape: Literal["slope", "changes", "linear", "isotonic"] = "slope"
    """Within-seed slope; changes from dose to dose; or a curve with a simultaneous band."""
    direction: Direction = "falling"
    """Direction of the monotone trend."""

    def about(self) -> dict[str, str]:
        """Column, and the unit of the shape asked for."""
        unit = column_unit("replicates", self.outcome)
        units = {"slope": f"{unit} per unit of strength", "changes": difference_unit(unit)}
        return {"column": self.outcome, "unit": units.get(self.shape, unit)}

    @field_validator("shape")
    @classmethod
    def _no_interval_of_a_curve(cls, shape: str, info: ValidationInfo) -> str:
        if shape in ("linear", "isotonic") and info.data.get("interval", "auto") != "auto":
            raise ValueError("slope or changes, where an interval is chosen: a curve has a band")
        return shape

    def endings(self) -> tuple[str, ...] | None:
        """None for the slope, otherwise by arm."""
        return ("",) if self.shape == "slope" else None


def doses(record: Record, space: Space, undosed: str = "baseline") -> dict[str, float]:
    """Return the strength of every arm that projects in `space`, and 0 for `undosed`.

    See `strengths` for which arms count. Of these only the ones in the setting of `undosed`
    (student, channel, targets, inputs) do, because another setting changes the outcome as well.
    Empty without the arm `undosed`.
    """
    return _doses(_options(record), space, undosed)


def _doses(arms: Interventions, space: Space, undosed: str) -> dict[str, float]:
    if undosed not in arms:
        return {}
    alike = {arm: one for arm, one in arms.items() if same_setting(one, arms[undosed])}
    return {undosed: 0.0} | strengths(alike, space)


def _options(record: Record) -> Interventions:
    return {arm: record.options(arm) for arm in record.arms}


def projection_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a projection with those that its study leaves out."""
    return {**_PROJECTION, **options}


def strengths(arms: Interventions, space: Space) -> dict[str, float]:
    """Return the strength of every arm whose options project in `space`.

    Only projections of positive alignment in the whole network count: ``when = "always"`` and a
    choice of layers are other procedures.
    """
    whole = {arm: projection_options(options) for arm, options in arms.items()}
    return {
        arm: float(one["strength"])
        for arm, one in whole.items()
        if (one.get("intervention"), one["space"], one["when"]) == ("projection", space, "positive")
        and not one["layers"]
    }


def over_doses(
    record: Record, declared: Dosed, least: int, estimate: Callable[[Doses], Sequence[Result]]
) -> Sequence[Result]:
    """Estimate where the run has `least` strengths beside `undosed`; else say what is missing."""
    whole = declared.estimand(declared.outcome, f"strength in {declared.space} space")
    if missing := absent(record, whole, declared.undosed):
        return [missing]
    largest = declared.highest()
    found = _up_to(doses(record, declared.space, declared.undosed), largest)
    if _dosage(found) >= least:
        return estimate(found)
    others = strengths(_options(record), declared.space).keys() - found.keys()
    limit = f" up to {largest:g}" if isfinite(largest) else ""
    reason = (
        f"strengths of projection in {declared.space} space{limit}: {_dosage(found)} in the run, "
        f"at least {least} needed"
    )
    if others:
        setting = f"{', '.join(SETTING)} are not those of {declared.undosed!r}"
        reason += f"; {quoted(sorted(others))} not counted: {setting}"
    where = studies_with(
        lambda arms: (
            _dosage(_up_to(_doses(arms, declared.space, declared.undosed), largest)) >= least
        )
    )
    return [NotEstimable(whole, reason + where)]


def _up_to(found: Doses, largest: float) -> Doses:
    """Leave out the arms whose strength is above `largest`."""
    return {arm: strength for arm, strength in found.items() if strength <= largest}


def _dosage(found: Doses) -> int:
    """Number of strengths other than the undosed arm's."""
    return len(set(found.values())) - 1


def _dose_trend(record: Record, declared: DoseTrend, settings: Settings) -> Sequence[Result]:
    def estimate(found: Doses) -> Sequence[Result]:
        if len(set(found.values())) < len(found):
            shown = ", ".join(f"{arm!r} {strength:g}" for arm, strength in found.items())
            raise DataError(f"a shape needs one arm for each strength; the run has {shown}")
        if declared.shape == "slope":
            return [as_declared(declared, _slope(record, declared, found, settings))]
        if declared.shape == "changes":
            changes = adjacent_changes(
                record.replicates, found, outcome=declared.outcome, settings=settings
            )
            arms = validate_doses(found)
            return [
                as_declared(declared, one, upper, arm=upper, reference=lower)
                for lower, upper, one in zip(arms, arms[1:], changes, strict=False)
            ]
        return _curve_points(record, declared, found, settings)

    return over_doses(record, declared, 2, estimate)


def _slope(record: Record, declared: DoseTrend, found: Doses, settings: Settings) -> Result:
    slope = dose_slope(record.replicates, found, outcome=declared.outcome, settings=settings)
    trend = monotone_trend(
        record.replicates, found, outcome=declared.outcome, direction=declared.direction
    )
    if isinstance(slope, NotEstimable):
        return slope
    suffix = f"; {declared.direction}: {trend.distribution}, p {trend.p_value:.2g}"
    return replace(
        slope,
        method=slope.method + (suffix if trend.p_value is not None else ""),
        diagnostics={**slope.diagnostics, "trend": trend.tidy()},
    )


def _curve_points(
    record: Record, declared: DoseTrend, found: Doses, settings: Settings
) -> list[Result]:
    """One result per dose: the fitted curve with its simultaneous band."""
    common: dict[str, Any] = {"outcome": declared.outcome, "level": settings.level}
    curve = (
        linear_curve(record.replicates, found, **common)
        if declared.shape == "linear"
        else isotonic_curve(record.replicates, found, direction=declared.direction, **common)
    )
    if isinstance(curve, NotEstimable):
        return [as_declared(declared, curve)]
    return [_point(declared, curve, arm, i) for i, arm in enumerate(validate_doses(found))]


def _point(declared: DoseTrend, curve: DoseCurve, arm: str, i: int) -> Estimate:
    strength = f"strength {curve.doses[i]:g} in {declared.space} space"
    return Estimate(
        estimand=declared.estimand(declared.outcome, strength, arm, arm=arm),
        value=float(curve.fitted[i]),
        se=float("nan"),
        low=float(curve.low[i]),
        high=float(curve.high[i]),
        level=curve.level,
        df=None,
        p_value=None,
        method=f"{curve.kind} curve, band for all doses",
        n_seeds=curve.n_seeds,
        n_dropped=curve.n_dropped,
        warnings=curve.warnings,
        diagnostics={
            "dose": float(curve.doses[i]),
            "mean": float(curve.mean[i]),
            "misfit": curve.misfit.tidy(),
        },
    )


DOSE_METHODS: Mapping[str, Method] = {"dose_trend": Method(DoseTrend, _dose_trend)}
