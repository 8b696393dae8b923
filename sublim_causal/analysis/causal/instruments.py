r"""Alignment instrumented by the dose of projection: the effect of alignment under exclusion.

Model, run level: ``Y_sa = c_s + beta M_sa + e_sa`` with instruments ``Z_sa``: the strength of the
projection, linear or one dummy per dose, or dummies of any arms as a check. It identifies beta if
the dose moves alignment (relevance; tested by F), moves the outcome through alignment only
(exclusion; tested by over-identification as far as doses disagree), and is assigned (by design).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from sublim_causal.analysis.causal.doses import OUTCOME, TREATMENT, dose_panel, effect_estimand
from sublim_causal.analysis.causal.two_stage import overidentification, overidentification_note
from sublim_causal.analysis.estimates.intervals import mean_interval, t_estimate, t_p_value
from sublim_causal.analysis.estimates.panel import Panel
from sublim_causal.analysis.estimates.ratios import ratio_of_sums
from sublim_causal.analysis.estimates.settings import Settings, validate_level
from sublim_causal.analysis.estimates.types import (
    Estimand,
    Estimate,
    Floats,
    NotEstimable,
    Result,
    too_few,
)


@dataclass(frozen=True)
class WaldRatio:
    """One dose against no dose.

    Attributes
    ----------
    arm : str
        Name of the arm.
    dose : float
        Its strength.
    treatment_change, outcome_change : Estimate or NotEstimable
        Paired changes of alignment and outcome.
    ratio : Estimate or NotEstimable
        outcome change / treatment change, with Fieller's set.
    covariance : float
        Covariance of the two mean changes, for the error ellipse; NaN below two seeds.
    """

    arm: str
    dose: float
    treatment_change: Result
    outcome_change: Result
    ratio: Result
    covariance: float


def iv_linear_dose(
    frame: pd.DataFrame,
    doses: Mapping[str, float],
    *,
    treatment: str = TREATMENT,
    outcome: str = OUTCOME,
    level: float = 0.95,
) -> Result:
    r"""Effect of alignment from per-seed dose slopes, with Fieller's confidence set.

    ``beta = mean_s slope(Y_s on dose) / mean_s slope(M_s on dose)``: two-stage least squares
    with one linear dose, but with a set that stays valid when the dose hardly moves alignment.

    Parameters
    ----------
    frame : DataFrame
        Table ``replicates``: one row per seed and arm.
    doses : mapping of str to float
        Strength of each arm of the dose study, the undosed arm included.
    treatment, outcome : str
        Columns of alignment and outcome.
    level : float
        Confidence level in (0, 1).

    Returns
    -------
    Estimate or NotEstimable
        In outcome units per unit of alignment. ``p_value`` tests beta = 0 by the same pivot.
        With three doses or more the method states the result of Sargan's test over all doses, and
        ``diagnostics["j_misfit"]`` how far a dose's mean outcome lies from what beta says.
    """
    dosed = dose_panel(frame, doses, [treatment, outcome])
    panel, first = dosed.panel, dosed.slopes(treatment)
    estimand = effect_estimand("linear_dose", treatment, outcome, "linear dose as instrument")
    if refusal := dosed.refusal(estimand, treatment):
        return refusal
    check = overidentification_note(overidentification(panel, treatment, outcome))
    found = ratio_of_sums(
        estimand,
        dosed.slopes(outcome),
        first,
        settings=Settings(level, interval="t"),
        method=f"ratio of per-seed dose slopes{check.method}",
        n_dropped=panel.n_dropped,
        null=0.0,
        warnings=check.warnings,
        diagnostics={
            "first_stage_f": float(len(first) * first.mean() ** 2 / first.var(ddof=1)),
            "slope_treatment": float(first.mean()),
            **check.diagnostics,
        },
    )
    if not isinstance(found, Estimate):
        return found
    apart = _apart(panel, outcome) - found.value * _apart(panel, treatment)
    misfit = {"j_misfit": float(np.abs(apart).max())}
    return replace(found, diagnostics={**found.diagnostics, **misfit})


def _apart(panel: Panel, column: str) -> Floats:
    """Mean of `column` in each arm, less the mean over arms."""
    means = panel.columns[column].mean(axis=0)
    return np.asarray(means - means.mean())


def wald_by_dose(
    frame: pd.DataFrame,
    doses: Mapping[str, float],
    *,
    treatment: str = TREATMENT,
    outcome: str = OUTCOME,
    level: float = 0.95,
) -> tuple[WaldRatio, ...]:
    """Change of outcome over change of alignment, each dose against the lowest.

    Under exclusion and one effect for all doses the ratios agree.

    Parameters
    ----------
    frame, doses, treatment, outcome, level
        As in `iv_linear_dose`.

    Returns
    -------
    tuple of WaldRatio
        By rising dose, the lowest left out.
    """
    panel = dose_panel(frame, doses, [treatment, outcome]).panel
    reference, *dosed = panel.arms

    def change(name: str, arm: str) -> Result:
        estimand = Estimand(
            name=f"change_{name}_{arm}",
            sentence=f"Mean change of {name} from {reference!r} to {arm!r}, same seed.",
            outcome=name,
            contrast=f"{arm} - {reference}",
            assumptions=("seeds are independent",),
        )
        return mean_interval(
            panel.difference(name, arm, reference),
            settings=Settings(level, interval="t"),
            estimand=estimand,
            n_dropped=panel.n_dropped,
        )

    def ratio(arm: str) -> WaldRatio:
        dm, dy = (panel.difference(name, arm, reference) for name in (treatment, outcome))
        return WaldRatio(
            arm=arm,
            dose=doses[arm],
            treatment_change=change(treatment, arm),
            outcome_change=change(outcome, arm),
            ratio=ratio_of_sums(
                effect_estimand(f"wald_{arm}", treatment, outcome, f"{arm} against {reference}"),
                dy,
                dm,
                settings=Settings(level, interval="t"),
                method="Wald ratio",
                n_dropped=panel.n_dropped,
                null=0.0,
            ),
            covariance=float(np.cov(dm, dy)[0, 1] / len(dm)) if len(dm) > 1 else np.nan,
        )

    return tuple(ratio(arm) for arm in dosed)


def egger_intercept(
    frame: pd.DataFrame,
    doses: Mapping[str, float],
    *,
    treatment: str = TREATMENT,
    outcome: str = OUTCOME,
    level: float = 0.95,
) -> Result:
    r"""Egger-type intercept: the change of outcome at no change of alignment.

    Weighted line ``dY_lambda = a + b dM_lambda`` over the doses above the lowest, weights
    ``1 / Var(dY_lambda)``; under exclusion a = 0. Standard error: delete-one-seed jackknife.

    Parameters
    ----------
    frame, doses, treatment, outcome, level
        As in `iv_linear_dose`; at least three doses.

    Returns
    -------
    Estimate or NotEstimable
        In the outcome's unit. Not estimable with two doses, or where no line is determined.
        ``diagnostics["slope"]`` is b, the effect of alignment with an unconstrained direct effect
        (constant over doses, and not correlated with dM).

    Notes
    -----
    All changes share the undosed run, whose noise shifts the whole line: the intercept is less
    precise than one change. Noise in dM flattens the line and pushes the intercept away from 0.

    References
    ----------
    Bowden, Davey Smith and Burgess (2015), Int. J. Epidemiol. 44, 512-525.
    """
    panel = dose_panel(frame, doses, [treatment, outcome]).panel
    estimand = Estimand(
        name=f"direct_effect_dose_{outcome}",
        sentence=f"Change of {outcome} by a dose that would not change {treatment}.",
        outcome=outcome,
        contrast="intercept of outcome change on alignment change, over doses",
        assumptions=("direct effect equal for all doses", "effect of alignment is linear"),
    )
    if reason := too_few(estimand, len(panel.seeds)):
        return reason
    if len(panel.arms) < 3:
        return NotEstimable(estimand, "one dose above the lowest: no line to draw")
    dm, dy = panel.changes(treatment), panel.changes(outcome)
    n = len(dm)
    if not dy.var(axis=0).all() or not np.ptp(dm.mean(axis=0)):
        unmoving = (
            f"{treatment} changes equally at every dose, or {outcome} does not vary over seeds"
        )
        return NotEstimable(estimand, unmoving)
    weights = 1 / dy.var(axis=0, ddof=1)

    full = _weighted_lines(dm.mean(axis=0)[None], dy.mean(axis=0)[None], weights)[0]
    without = _weighted_lines(
        (dm.sum(axis=0) - dm) / (n - 1), (dy.sum(axis=0) - dy) / (n - 1), weights
    )
    deviations = without - without.mean(axis=0)
    se = np.sqrt((n - 1) / n * (deviations**2).sum(axis=0))
    return t_estimate(
        estimand,
        float(full[0]),
        float(se[0]),
        n - 1,
        level=validate_level(level),
        method="Egger-type intercept, jackknife t",
        n_seeds=n,
        n_dropped=panel.n_dropped,
        diagnostics={
            "slope": float(full[1]),
            "slope_se": float(se[1]),
            "slope_p": t_p_value(float(full[1]), float(se[1]), n - 1),
        },
    )


def _weighted_lines(x: Floats, y: Floats, weights: Floats) -> Floats:
    """Intercept and slope of the weighted line through each row of (x, y), shape ``(n, 2)``."""
    w = weights / weights.sum()
    centre_x, centre_y = x @ w, y @ w
    deviations = x - centre_x[:, None]
    slope = (deviations * y) @ w / (deviations**2 @ w)
    return np.stack([centre_y - slope * centre_x, slope], axis=1)
