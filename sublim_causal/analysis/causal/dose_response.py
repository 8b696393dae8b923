r"""Dose-response: whether the outcome is monotone in the strength, and in what shape.

Every seed is run at every dose, so a seed is a block: trends and slopes are taken within seeds
and averaged over them. Curves are means over seeds with bands that hold for all doses at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from scipy import linalg

from sublim_causal.analysis.causal.doses import OUTCOME, DosePanel, dose_panel
from sublim_causal.analysis.estimates.distributions import f_ppf, f_sf, t_isf
from sublim_causal.analysis.estimates.headline import seed_warnings
from sublim_causal.analysis.estimates.intervals import mean_interval
from sublim_causal.analysis.estimates.settings import Settings, validate_level
from sublim_causal.analysis.estimates.types import (
    MIN_SEEDS,
    Estimand,
    Floats,
    NotEstimable,
    Result,
    TestResult,
    too_few,
)
from sublim_causal.errors import RequestError

Direction = Literal["falling", "rising"]


@dataclass(frozen=True)
class DoseCurve:
    """A mean dose-response curve with a simultaneous band.

    Attributes
    ----------
    kind : str
        ``linear`` or ``isotonic``.
    doses : ndarray of shape (D,)
        Strengths, rising.
    mean : ndarray of shape (D,)
        Mean outcome at each dose.
    fitted, low, high : ndarray of shape (D,)
        The curve and its band, in the outcome's unit.
    level : float
        Confidence level that holds for all doses at once.
    n_seeds, n_dropped : int
        Seeds complete at every dose, and seeds left out.
    misfit : TestResult
        Test of the shape: Hotelling's T^2 of what a line leaves, or whether a monotone curve
        fits between the limits of the means.
    warnings : tuple of str
        What a reader must know before quoting the curve.
    """

    kind: str
    doses: Floats
    mean: Floats
    fitted: Floats
    low: Floats
    high: Floats
    level: float
    n_seeds: int
    n_dropped: int
    misfit: TestResult
    warnings: tuple[str, ...]


def dose_slope(
    frame: pd.DataFrame,
    doses: Mapping[str, float],
    *,
    outcome: str = OUTCOME,
    settings: Settings = Settings(),
) -> Result:
    """Mean over seeds of the within-seed linear slope of the outcome on the dose.

    Parameters
    ----------
    frame : DataFrame
        Table ``replicates``: one row per seed and arm.
    doses : mapping of str to float
        Strength of each arm, the undosed arm included.
    outcome : str
        Column of the outcome.
    settings : Settings
        How the intervals are computed.

    Returns
    -------
    Estimate or NotEstimable
        In outcome units per unit of strength.
    """
    dosed = _one_arm_each(frame, doses, outcome)
    return mean_interval(
        dosed.slopes(outcome),
        estimand=Estimand(
            name=f"dose_slope_{outcome}",
            sentence=f"Mean change of {outcome} per unit of strength, within seeds.",
            outcome=outcome,
            contrast="within-seed slope on strength",
            assumptions=("doses are assigned by design", "seeds are independent"),
        ),
        n_dropped=dosed.panel.n_dropped,
        settings=settings,
    )


def adjacent_changes(
    frame: pd.DataFrame,
    doses: Mapping[str, float],
    *,
    outcome: str = OUTCOME,
    settings: Settings = Settings(),
) -> tuple[Result, ...]:
    """Paired change of the outcome from each dose to the next higher one.

    Parameters as in `dose_slope`. The intervals are not simultaneous; `monotone_trend` is the joint
    test.
    """
    panel = _one_arm_each(frame, doses, outcome).panel

    def change(lower: str, upper: str) -> Result:
        return mean_interval(
            panel.difference(outcome, upper, lower),
            estimand=Estimand(
                name=f"step_{outcome}_{upper}",
                sentence=f"Mean change of {outcome} from {lower!r} to {upper!r}, same seed.",
                outcome=outcome,
                contrast=f"{upper} - {lower}",
                assumptions=("doses are assigned by design", "seeds are independent"),
                family="adjacent_doses",
            ),
            n_dropped=panel.n_dropped,
            settings=settings,
        )

    return tuple(map(change, panel.arms[:-1], panel.arms[1:]))


def monotone_trend(
    frame: pd.DataFrame,
    doses: Mapping[str, float],
    *,
    outcome: str = OUTCOME,
    direction: Direction = "falling",
) -> TestResult:
    r"""Page's test of a monotone trend, seeds as blocks.

    ``L = sum_d j_d sum_s rank_s(Y_sd)`` with j the order predicted by `direction`.

    Parameters
    ----------
    frame, doses, outcome
        As in `dose_slope`.
    direction : {"falling", "rising"}
        The alternative.

    Returns
    -------
    TestResult
        One-sided p against no trend: exact where feasible and free of ties, otherwise by the
        normal approximation. Not run with fewer than 3 seeds or doses.

    References
    ----------
    Page (1963), Ordered hypotheses for multiple treatments. JASA 58, 216-230.
    """
    _validate_direction(direction)
    dosed = _one_arm_each(frame, doses, outcome)
    values, strength = dosed.panel.columns[outcome], dosed.strength
    null = f"{outcome} has no trend over the doses (against: {direction})"
    if len(values) < MIN_SEEDS or len(strength) < 3:
        reason = f"{len(values)} seeds and {len(strength)} doses; at least 3 of each are needed"
        return TestResult(null, None, None, reason=reason)
    signed = values if direction == "rising" else -values
    tied = any(len(np.unique(row)) < len(row) for row in signed)
    from scipy import stats

    found = stats.page_trend_test(signed, method="asymptotic" if tied else "auto")
    how = "Page's L, normal" if found.method == "asymptotic" else "Page's L, exact"
    return TestResult(null, float(found.statistic), float(found.pvalue), (), how)


def linear_curve(
    frame: pd.DataFrame, doses: Mapping[str, float], *, outcome: str = OUTCOME, level: float = 0.95
) -> DoseCurve | NotEstimable:
    r"""Mean of the per-seed lines, with a band for all doses at once.

    Per-seed intercepts and slopes have mean c and covariance S; the band at dose x is
    ``x'c +- sqrt(2 (R-1)/(R-2) F(2, R-2)) sqrt(x'S x / R)``, from Hotelling's T^2.

    Parameters
    ----------
    frame, doses, outcome, level
        As in `dose_slope`.

    Returns
    -------
    DoseCurve or NotEstimable
        `misfit` tests the line against any curve, with three doses or more.
    """
    validate_level(level)
    dosed = _one_arm_each(frame, doses, outcome)
    values, strength = dosed.panel.columns[outcome], dosed.strength
    n = len(values)
    if refusal := _too_few("linear_curve", outcome, n):
        return refusal
    design = np.stack([np.ones_like(strength), strength], axis=1)
    coefficients = values @ np.linalg.pinv(design).T
    fitted = design @ coefficients.mean(axis=0)
    spread = design @ np.cov(coefficients.T) @ design.T / n
    width = np.sqrt(2 * (n - 1) / (n - 2) * f_ppf(level, 2, n - 2))
    half = width * np.sqrt(np.diag(spread))
    misfit = _lack_of_fit(values, design)
    bent = misfit.p_value is not None and misfit.p_value < 1 - level
    return DoseCurve(
        kind="linear",
        doses=strength,
        mean=values.mean(axis=0),
        fitted=fitted,
        low=fitted - half,
        high=fitted + half,
        level=level,
        n_seeds=n,
        n_dropped=dosed.panel.n_dropped,
        misfit=misfit,
        warnings=(*seed_warnings(n), *(("a straight line does not fit",) if bent else ())),
    )


def isotonic_curve(
    frame: pd.DataFrame,
    doses: Mapping[str, float],
    *,
    outcome: str = OUTCOME,
    direction: Direction = "falling",
    level: float = 0.95,
) -> DoseCurve | NotEstimable:
    r"""Monotone least-squares curve through the means, with a band for all doses at once.

    Simultaneous t limits of the D means (Bonferroni) are sharpened by monotonicity: a falling
    curve lies below ``min_{d' <= d} U_{d'}`` and above ``max_{d' >= d} L_{d'}``. The band covers
    with at least `level` if the true curve is monotone, without any resampling.

    Parameters
    ----------
    frame, doses, outcome, level
        As in `dose_slope`.
    direction : {"falling", "rising"}
        The direction of the curve.

    Returns
    -------
    DoseCurve or NotEstimable
        Where the sharpened limits cross, no monotone curve fits, and a warning says so.

    References
    ----------
    Barlow, Bartholomew, Bremner and Brunk (1972), Statistical inference under order restrictions;
    Korn (1982), Confidence bands for isotonic dose-response curves. Appl. Stat. 31, 59-63.
    """
    _validate_direction(direction)
    validate_level(level)
    dosed = _one_arm_each(frame, doses, outcome)
    values, strength = dosed.panel.columns[outcome], dosed.strength
    n, n_doses = values.shape
    if refusal := _too_few("isotonic_curve", outcome, n):
        return refusal
    sign = -1.0 if direction == "falling" else 1.0
    rising = sign * values
    mean = rising.mean(axis=0)
    half = t_isf((1 - level) / (2 * n_doses), n - 1) * rising.std(axis=0, ddof=1) / np.sqrt(n)
    low = np.maximum.accumulate(mean - half)
    high = np.minimum.accumulate((mean + half)[::-1])[::-1]
    from scipy import optimize

    fitted = optimize.isotonic_regression(mean).x
    gap = float((low - high).max())
    if direction == "falling":
        low, high = -high, -low
    return DoseCurve(
        kind="isotonic",
        doses=strength,
        mean=sign * mean,
        fitted=sign * fitted,
        low=low,
        high=high,
        level=level,
        n_seeds=n,
        n_dropped=dosed.panel.n_dropped,
        misfit=TestResult(
            null=f"the curve is {direction}",
            statistic=gap,
            p_value=None,
            reason=f"{'rejected' if gap > 0 else 'not rejected'} at {1 - level:.2g}: "
            f"the sharpened limits {'cross' if gap > 0 else 'do not cross'}",
        ),
        warnings=(*seed_warnings(n), *((f"no {direction} curve fits",) if gap > 0 else ())),
    )


def _one_arm_each(frame: pd.DataFrame, doses: Mapping[str, float], outcome: str) -> DosePanel:
    dosed = dose_panel(frame, doses, [outcome])
    if len(set(dosed.strength)) < len(dosed.strength):
        raise RequestError(
            "doses", dict(doses), "one arm for each strength", "analyse each space on its own"
        )
    return dosed


def _validate_direction(direction: str) -> None:
    if direction not in ("falling", "rising"):
        raise RequestError("direction", direction, "falling, rising")


def _too_few(name: str, outcome: str, n_seeds: int) -> NotEstimable | None:
    return too_few(
        Estimand(f"{name}_{outcome}", f"Mean of {outcome} at each dose.", outcome), n_seeds
    )


def _lack_of_fit(values: Floats, design: Floats) -> TestResult:
    """Hotelling's T^2 of the within-seed contrasts that a line leaves."""
    null = "the mean outcome is linear in the dose"
    contrasts = values @ linalg.null_space(design.T)
    n, k = contrasts.shape
    if k == 0:
        return TestResult(null, None, None, reason="two doses: every line fits")
    if n <= k:
        return TestResult(null, None, None, reason=f"{n} seeds for {k} contrasts")
    mean, cov = contrasts.mean(axis=0), np.atleast_2d(np.cov(contrasts.T))
    if np.linalg.matrix_rank(cov) < k:
        return TestResult(null, None, None, reason="doses do not vary independently over seeds")
    f = float(n * mean @ np.linalg.solve(cov, mean)) * (n - k) / ((n - 1) * k)
    return TestResult(null, f, (f_sf(f, k, n - k)), (float(k), float(n - k)), "F")
