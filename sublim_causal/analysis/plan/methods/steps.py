"""What a plan can ask of the steps: their summary by seed, slopes, and measurement error."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, Self

import numpy as np
import pandas as pd
from pydantic import model_validator

from sublim_causal.analysis.estimates.intervals import mean_interval
from sublim_causal.analysis.estimates.settings import Settings
from sublim_causal.analysis.estimates.shares import share_interval
from sublim_causal.analysis.estimates.types import (
    FRACTION,
    MIN_SEEDS,
    Estimand,
    Estimate,
    NotEstimable,
    Result,
    difference_unit,
    too_few,
)
from sublim_causal.analysis.mixed.crossproducts import read_formula
from sublim_causal.analysis.mixed.fit import fit_mixed
from sublim_causal.analysis.plan.declaration import (
    Declared,
    OfArm,
    StepColumn,
    WithInterval,
    column_unit,
    slope_of,
    with_unit,
)
from sublim_causal.analysis.plan.method import Method, absent, quoted, with_diagnostics, with_note
from sublim_causal.analysis.plan.record import Record
from sublim_causal.analysis.steps.fit_details import describe_fit
from sublim_causal.analysis.steps.measurement import HALVES, Slopes, corrected_slopes, reliability
from sublim_causal.analysis.steps.mundlak import equal_levels
from sublim_causal.analysis.steps.slopes import (
    LEVELS,
    UNADJUSTED,
    Split,
    contrast_estimate,
    fit_slopes,
    fitted_contrast,
    slope_estimates,
    slope_model,
)
from sublim_causal.analysis.steps.two_way import two_way_slope, without_effects
from sublim_causal.analysis.steps.within_runs import finite_columns
from sublim_causal.errors import DataError, RequestError
from sublim_causal.store.own_columns import known_columns

DROP = "early - late"
"""The window that is a difference of two."""
NORMS = ("norm_trait", "norm_update")
"""Columns whose product is, to first order, the slope of `gain` on `cos_update`."""
_SHARED = "adjusted for training time, not for minibatches that the arms of a seed share"
_ACTING = ("projection", "yoked", "clamp", "set_cosine")
"""Interventions whose aim is the alignment itself."""


class SeedSummary(OfArm, WithInterval):
    """Mean over seeds of a summary of each run's steps.

    The null of a share is one half, that of a mean or a difference 0.
    """

    outcome: StepColumn
    """Column of ``steps``."""
    summary: Literal["mean", "share_positive"]
    """Mean over the steps, or share of steps above 0."""
    window: Literal["all", "early", "late", "early - late"] = "all"
    """`early` is the first epoch, `late` all later ones."""

    def about(self) -> dict[str, str]:
        """Column, unit and window."""
        is_share = self.summary == "share_positive"
        unit = FRACTION if is_share else column_unit("steps", self.outcome)
        if self.window == DROP:
            unit = difference_unit(unit)
        return {**super().about(), "column": self.outcome, "unit": unit, "part": self.window}

    def step_columns(self) -> tuple[str, ...]:
        """Outcome and epoch."""
        return (self.outcome, "epoch")


Adjust = Literal["step", "none"]


class StepSlope(WithInterval):
    """Per-step slope of an outcome on alignment.

    `adjust` is ``"none"`` by default where `split` is ``"levels"``, and must be.
    """

    outcome: StepColumn
    """Column of ``steps``."""
    predictor: StepColumn
    """Column of ``steps``."""
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

    def about(self) -> dict[str, str]:
        """Column and unit of the slope."""
        return slope_of(self.outcome, self.predictor)

    def step_columns(self) -> tuple[str, ...]:
        """Outcome and predictor; for the identity the norms too."""
        norms = NORMS if self.is_identity and self.adjust == "step" else ()
        return (self.outcome, self.predictor, *norms)

    def endings(self) -> tuple[str, ...] | None:
        """None for one slope, arms, or levels."""
        return {"pooled": ("",), "by_arm": None, "levels": LEVELS}[self.split]


class SlopeModelInFull(Declared):
    """The pooled model of `StepSlope` in full: coefficients, components, residuals, influence."""

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


class MixedModel(WithInterval):
    """A contrast of the coefficients of a mixed model, given by its formula."""

    table: Literal["steps", "replicates"] = "steps"
    """Where the formula's columns stand; of ``replicates`` the complete ones are used."""
    formula: str
    """In lme4's language, clusters being seeds: ``"gain ~ cos_update + (1 | seed)"``."""
    contrast: str
    """A coefficient, or an expression in them."""
    residual: Literal["iid", "ar1", "car1"] = "iid"
    """Correlation of the residuals within a run."""
    arm_variances: bool = False
    """Whether each arm has a residual variance of its own."""
    df: Literal["cr2", "kenward-roger"] = "cr2"
    """`cr2`: errors robust to the model (CR2) with Satterthwaite's degrees of freedom;
    `kenward-roger`: the model's own, adjusted for few seeds."""

    @model_validator(mode="after")
    def _residuals_of_kenward_roger(self) -> Self:
        if self.df == "kenward-roger" and (self.residual != "iid" or self.arm_variances):
            raise ValueError("df = 'cr2' where residual is not 'iid' or arm_variances is true")
        return self

    def step_columns(self) -> tuple[str, ...]:
        """Columns of ``steps`` that the formula names."""
        if self.table != "steps":
            return ()
        words = set(re.findall(r"[A-Za-z_]\w*", self.formula))
        return tuple(c.name for c in known_columns("steps") if c.name in words - {"seed", "arm"})


class Reliability(OfArm, WithInterval):
    """Reliability within runs of the alignment, from the two halves of the probe."""

    adjust: Adjust = "step"
    """`step`: within run and step, so that a course which all runs of the arm share does not count
    as signal; `none`: within runs."""

    def about(self) -> dict[str, str]:
        """Unit."""
        return {**super().about(), "unit": FRACTION}

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


def _for_arms(
    record: Record,
    declared: SeedSummary | Reliability,
    outcome: str,
    estimate: Callable[[Estimand, pd.DataFrame], Result],
) -> list[Result]:
    results: list[Result] = []
    for arm in declared.chosen(record.arms):
        estimand = declared.estimand(outcome, f"arm {arm}", arm if declared.each else "", arm=arm)
        missing = absent(record, estimand, arm)
        results.append(missing or estimate(estimand, record.steps[record.steps["arm"] == arm]))
    return results


def _seed_summary(record: Record, declared: SeedSummary, settings: Settings) -> Sequence[Result]:
    # A gradient without any bond to the trait is aligned in half of the steps.
    share = declared.summary == "share_positive" and declared.window != DROP
    null = 0.5 if share else 0.0

    def estimate(estimand: Estimand, rows: pd.DataFrame) -> Result:
        values = per_seed_summary(rows, declared.outcome, declared.summary, declared.window)
        found = (share_interval if share else mean_interval)(
            values,
            estimand=estimand,
            null=null,
            diagnostics={"null": null},
            settings=settings,
        )
        if share and isinstance(found, Estimate):
            return replace(found, low=max(found.low, 0.0), high=min(found.high, 1.0))
        return found

    return _for_arms(
        record, declared, f"{declared.summary} of {declared.outcome}, {declared.window}", estimate
    )


def per_seed_summary(steps: pd.DataFrame, column: str, summary: str, window: str) -> pd.Series:
    """Summarise one arm's `column` by seed over a window of epochs.

    Parameters
    ----------
    steps : DataFrame
        seed, epoch and `column` of one arm.
    summary : {"mean", "share_positive"}
        Mean, or share of steps above 0.
    window : {"all", "early", "late", "early - late"}
        Epoch 0 is early, the others are late; the difference is taken by seed.

    Returns
    -------
    Series indexed by seed
        Seeds without a step in the window are left out.

    Raises
    ------
    DataError
        If a value is missing or infinite.
    """
    values = finite_columns(steps, [column])[:, 0]
    values = (values > 0).astype(float) if summary == "share_positive" else values
    frame = pd.DataFrame(
        {"seed": steps["seed"].to_numpy(), "early": steps["epoch"].to_numpy() == 0, "x": values}
    )
    if window != "all" and steps["epoch"].isna().any():
        raise DataError(f"{int(steps['epoch'].isna().sum())} of {len(steps)} steps have no epoch")
    if window == "all":
        return frame.groupby("seed")["x"].mean()
    means = frame.groupby(["seed", "early"])["x"].mean().unstack()
    means = means.reindex(columns=[True, False], fill_value=np.nan)
    parts = {"early": means[True], "late": means[False], "early - late": means[True] - means[False]}
    return parts[window].dropna()


def _reliability(record: Record, declared: Reliability, settings: Settings) -> Sequence[Result]:
    def estimate(estimand: Estimand, rows: pd.DataFrame) -> Result:
        if declared.adjust == "none":
            found = reliability(rows, estimand=estimand, settings=settings)
            return with_note(found, UNADJUSTED)
        return reliability(without_effects(rows, HALVES), estimand=estimand, settings=settings)

    where = "within run and step" if declared.adjust == "step" else "within runs"
    return _for_arms(record, declared, f"reliability of cos_gradient {where}", estimate)


def _corrected_slope(
    record: Record, declared: CorrectedSlope, settings: Settings
) -> Sequence[Result]:
    steps, where, notes = record.steps, "within runs", [UNADJUSTED]
    if declared.adjust == "step":
        arms, notes = _entering(record)
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


def acts_on_alignment(options: Mapping[str, Any]) -> bool:
    """Whether an arm of these options sets, removes or shifts alignment itself.

    Such an arm's steps are driven to an alignment, over-corrected or clamped, so that what a step
    gains there is another relation than in a run that is left to itself.
    """
    if options.get("intervention") in _ACTING:
        return True
    shuffles = options.get("intervention") == "shuffled"
    if shuffles and "probe" in (options.get("shuffle"), options.get("0.shuffle")):
        return True  # another probe's gradient is a trait gradient
    return any(acts_on_alignment(member) for member in options.get("members", ()))


def comparable_arms(record: Record) -> tuple[str, ...]:
    """Return the arms over which one slope is taken: the reference, and those that compare.

    They have the reference's student, channel, targets and inputs, and do not act on alignment.
    The reference is the study's, else the first arm whose intervention is the baseline, else the
    first arm.
    """
    options = {arm: record.options(arm) for arm in record.arms}
    plain = (arm for arm, one in options.items() if one["intervention"] == "baseline")
    candidates = (record.reference, *plain, *record.arms)
    reference = next((arm for arm in candidates if arm in record.arms), "")
    return tuple(
        arm
        for arm in record.arms
        if arm == reference
        or (record.is_comparable(arm, reference) and not acts_on_alignment(options[arm]))
    )


def _step_slope(record: Record, declared: StepSlope, settings: Settings) -> Sequence[Result]:
    if declared.adjust == "none":
        return _unadjusted_slope(record, declared, settings)
    if declared.split == "by_arm":
        return [_of_arm(record, declared, settings, arm) for arm in record.arms]
    arms, notes = _entering(record)
    estimand = declared.estimand(
        with_unit("steps", declared.outcome),
        f"slope on {declared.predictor} within run and step, arms {', '.join(arms)}",
    )
    return [_within_step(record, declared, settings, estimand, arms, notes)]


def _entering(record: Record) -> tuple[list[str], list[str]]:
    """Return the arms of one slope that have steps, and what the row says of them."""
    present = set(record.steps["arm"].unique())
    arms = [arm for arm in comparable_arms(record) if arm in present]
    others = [arm for arm in record.arms if arm not in arms]
    note = f"one slope over the arms {quoted(arms)}"
    if others:
        note += f"; others act on alignment or have another setting: {quoted(others)}"
    return arms, [note, *[_SHARED] * (len(arms) == 1)]


def _of_arm(record: Record, declared: StepSlope, settings: Settings, arm: str) -> Result:
    estimand = declared.estimand(
        with_unit("steps", declared.outcome),
        f"slope on {declared.predictor} within run and step, {arm}",
        arm,
        arm=arm,
    )
    try:
        return _within_step(record, declared, settings, estimand, [arm], [_SHARED])
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
            "to first order this slope is |g_trait| |update| by definition, so that it says little "
            f"of the world; the mean of that product, weighted as the slope, is {size:.4g}"
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


def rows_of_formula(record: Record, declared: MixedModel) -> pd.DataFrame:
    """Return the rows of the table that a formula reads, arms as labels whatever they are."""
    data = record.steps if declared.table == "steps" else record.complete
    return data.assign(arm=pd.Categorical(data["arm"], sorted(data["arm"].unique())))


def _mixed_model(record: Record, declared: MixedModel, settings: Settings) -> Sequence[Result]:
    data = rows_of_formula(record, declared)
    estimand = declared.estimand(declared.formula, declared.contrast)
    if refusal := too_few(estimand, data["seed"].nunique()):
        return [refusal]
    try:
        _validate_group(data, declared.formula)
        fit = fit_mixed(
            data,
            declared.formula,
            residual=declared.residual,
            arm_variances=declared.arm_variances,
            vcov="CR2" if declared.df == "cr2" else "model",
            df=declared.df,
        )
        found = contrast_estimate(
            fit,
            declared.contrast,
            estimand,
            settings=settings,
        )
    except RequestError as error:
        if not error.field.startswith(("formula", "contrast")):
            raise
        return [NotEstimable(estimand, f"estimand {declared.name}: {error}")]
    return [found]


def _validate_group(data: pd.DataFrame, formula: str) -> None:
    """Refuse groups other than seeds, which are the clusters of every interval of a plan."""
    group = read_formula(data, formula).group
    if group != "seed":
        remedy = "write (1 | seed), or (1 | seed:arm) for the runs of a seed"
        raise RequestError("formula: group", group, "seed: seeds are the clusters", remedy)


STEP_METHODS: Mapping[str, Method] = {
    "seed_summary": Method(SeedSummary, _seed_summary),
    "step_slope": Method(StepSlope, _step_slope),
    "slope_model": Method(SlopeModelInFull, _slope_model),
    "mixed_model": Method(MixedModel, _mixed_model),
    "reliability": Method(Reliability, _reliability),
    "corrected_slope": Method(CorrectedSlope, _corrected_slope),
}
