"""What a plan can ask of the dose as an instrument of alignment."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from pydantic import Field

from sublim_causal.analysis.causal.anderson_rubin import anderson_rubin
from sublim_causal.analysis.causal.doses import TREATMENT
from sublim_causal.analysis.causal.instruments import (
    WaldRatio,
    egger_intercept,
    iv_linear_dose,
    wald_by_dose,
)
from sublim_causal.analysis.causal.plausibly_exogenous import plausibly_exogenous
from sublim_causal.analysis.causal.two_stage import iv_2sls
from sublim_causal.analysis.estimates.settings import Settings
from sublim_causal.analysis.estimates.types import Estimate, NotEstimable, Result
from sublim_causal.analysis.plan.declaration import ReplicateColumn, column_unit, difference_of
from sublim_causal.analysis.plan.method import Method, as_declared, with_diagnostics
from sublim_causal.analysis.plan.methods.doses import Dosed, Doses, over_doses
from sublim_causal.analysis.plan.record import Record


class Instrumented(Dosed):
    """Effect of alignment on the outcome, with the dose as its instrument."""

    treatment: ReplicateColumn = TREATMENT
    """Column of ``replicates`` that the dose moves."""

    def about(self) -> dict[str, str]:
        """Column, and unit per unit of the treatment."""
        unit = f"{column_unit('replicates', self.outcome)} per unit of {self.treatment}"
        return {"column": self.outcome, "unit": unit}


class LinearDose(Instrumented):
    """The effect, with the strength itself as the instrument: the outcome is taken as linear."""

    largest_dose: float = Field(default=1.0, gt=0, le=10)
    """Strengths above it are left out: past 1 the alignment is reversed, and an outcome that
    cannot fall below chance no longer follows it."""

    def highest(self) -> float:
        """Return `largest_dose`."""
        return self.largest_dose


class DirectDose(LinearDose):
    """The same effect, allowing for a direct effect of the dose on the outcome."""

    direct: float = Field(default=0.05, ge=0, allow_inf_nan=False)
    """Largest direct change of the outcome per unit of strength, in either direction."""


class Egger(Instrumented):
    """Direct effect of a dose on the outcome: an intercept over doses."""

    def about(self) -> dict[str, str]:
        """Column and unit of a difference."""
        return difference_of(self.outcome)


class TwoStage(Instrumented):
    """The same by two-stage least squares."""

    instruments: Literal["doses", "linear", "arms"] = "doses"
    """A dummy for every dose, the strength itself, or a dummy for every arm of the run."""


class WaldByDose(Instrumented):
    """One ratio per dose."""

    def endings(self) -> None:
        """One by arm."""


def _effect(
    estimator: Callable[..., Result], least: int, *fields: str
) -> Callable[[Record, Instrumented, Settings], Sequence[Result]]:
    """Return the row's function for an instrumented effect; it passes on `fields`."""

    def row(record: Record, declared: Instrumented, settings: Settings) -> Sequence[Result]:
        def estimate(found: Doses) -> Sequence[Result]:
            effect = estimator(
                record.replicates,
                found,
                treatment=declared.treatment,
                outcome=declared.outcome,
                level=settings.level,
                **{name: getattr(declared, name) for name in fields},
            )
            return [as_declared(declared, effect)]

        return over_doses(record, declared, least, estimate)

    return row


def _two_stage(record: Record, declared: TwoStage, settings: Settings) -> Sequence[Result]:
    def estimate(found: Doses | None) -> Sequence[Result]:
        fit = iv_2sls(
            record.replicates,
            found,
            instruments=declared.instruments,
            treatment=declared.treatment,
            outcome=declared.outcome,
            level=settings.level,
        )
        effect = with_diagnostics(
            fit.effect,
            first_stage=fit.first_stage.tidy(),
            overidentification=fit.overidentification.tidy(),
            endogeneity=fit.endogeneity.tidy(),
        )
        return [as_declared(declared, effect)]

    if declared.instruments != "arms":
        return over_doses(record, declared, 1, estimate)
    if len(record.arms) < 2:
        whole = declared.estimand(declared.outcome, "arms as instruments")
        return [NotEstimable(whole, "the run has one arm: nothing to compare")]
    return estimate(None)


def _wald_by_dose(record: Record, declared: WaldByDose, settings: Settings) -> Sequence[Result]:
    def estimate(found: Doses) -> Sequence[Result]:
        ratios = wald_by_dose(
            record.replicates,
            found,
            treatment=declared.treatment,
            outcome=declared.outcome,
            level=settings.level,
        )
        return [
            as_declared(
                declared, _with_changes(one), one.arm, arm=one.arm, reference=declared.undosed
            )
            for one in ratios
        ]

    return over_doses(record, declared, 1, estimate)


def _with_changes(one: WaldRatio) -> Result:
    """Return the ratio with the two changes it is made of, and their covariance."""
    changes = {
        f"{name}_change": {"value": change.value, "se": change.se, "n_seeds": change.n_seeds}
        for name, change in (("treatment", one.treatment_change), ("outcome", one.outcome_change))
        if isinstance(change, Estimate)
    }
    return with_diagnostics(one.ratio, dose=one.dose, covariance=one.covariance, **changes)


INSTRUMENT_METHODS: Mapping[str, Method] = {
    "iv_linear_dose": Method(LinearDose, _effect(iv_linear_dose, 1)),
    "plausibly_exogenous": Method(DirectDose, _effect(plausibly_exogenous, 1, "direct")),
    "iv_2sls": Method(TwoStage, _two_stage),
    "anderson_rubin": Method(Instrumented, _effect(anderson_rubin, 1)),
    "wald_by_dose": Method(WaldByDose, _wald_by_dose),
    "egger_intercept": Method(Egger, _effect(egger_intercept, 2)),
}
