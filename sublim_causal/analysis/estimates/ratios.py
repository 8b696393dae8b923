"""Ratios of means with Fieller's confidence set, which may be unbounded; a warning then says so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sublim_causal.analysis.estimates.bootstrap import Bounds, ClusterRatio, cluster_bootstrap
from sublim_causal.analysis.estimates.distributions import t_critical
from sublim_causal.analysis.estimates.headline import (
    is_skewed,
    is_stable,
    quoted_interval,
    seed_warnings,
    skewness,
)
from sublim_causal.analysis.estimates.intervals import JUDGED_LEVEL, hull, t_p_value
from sublim_causal.analysis.estimates.settings import Settings
from sublim_causal.analysis.estimates.types import (
    Estimand,
    Estimate,
    Floats,
    NotEstimable,
    Result,
    too_few,
)


@dataclass(frozen=True)
class ConfidenceSet:
    """A confidence set on the line: a union of disjoint closed intervals, sorted.

    Attributes
    ----------
    intervals : tuple of (float, float)
        Limits; infinite where the set is unbounded; no interval: the set is empty.
    """

    intervals: tuple[tuple[float, float], ...]

    @property
    def low(self) -> float:
        """Lower end of the smallest interval that contains the set."""
        return self.intervals[0][0]

    @property
    def high(self) -> float:
        """Upper end of the smallest interval that contains the set."""
        return self.intervals[-1][1]

    @property
    def shape(self) -> str:
        """``interval``, ``ray``, ``line``, ``complement`` (all but a gap), ``union``, ``empty``."""
        if not self.intervals:
            return "empty"
        unbounded = int(np.isinf(self.low)) + int(np.isinf(self.high))
        if len(self.intervals) == 1:
            return ("interval", "ray", "line")[unbounded]
        return "complement" if len(self.intervals) == 2 and unbounded == 2 else "union"

    def describe(self) -> str:
        """The set in words and numbers."""
        if self.shape == "line":
            return "every value"
        if self.shape == "complement":
            gap_low, gap_high = self.intervals[0][1], self.intervals[1][0]
            return f"every value outside ({gap_low:.4g}, {gap_high:.4g})"
        return (
            " and ".join(f"[{low:.4g}, {high:.4g}]" for low, high in self.intervals) or "no value"
        )

    def warnings(self, level: float) -> tuple[str, ...]:
        """Return the warning of a set that is not one bounded interval."""
        if self.shape == "interval":
            return ()
        kind = "unbounded" if self.shape in ("ray", "line", "complement") else "not one interval"
        return (f"the {100 * level:.0f} % confidence set is {kind}: {self.describe()}",)

    def diagnostics(self) -> dict[str, Any]:
        """Return shape and intervals, JSON-able but for infinite limits."""
        return {"shape": self.shape, "intervals": [list(pair) for pair in self.intervals]}


def fieller_set(numerator: float, denominator: float, cov: Floats, t: float) -> ConfidenceSet:
    r"""Values r of the ratio with ``(a - r b)^2 <= t^2 Var(a - r b)``.

    With ``r = a/b + s``, ``w = a - (a/b) b`` and V the covariance of the means, the set is
    ``(b^2 - t^2 V_bb) s^2 + 2 t^2 V_wb s - t^2 V_ww <= 0``: an interval if the denominator
    differs from 0 at this level, otherwise the complement of an interval or the whole line.

    Parameters
    ----------
    numerator, denominator : float
        Means a and b; b not 0.
    cov : ndarray of shape (2, 2)
        Covariance of (a, b).
    t : float
        Two-sided critical value.

    References
    ----------
    Fieller (1954), Some problems in interval estimation. J. R. Stat. Soc. B 16, 175-185.
    """
    ratio = numerator / denominator
    # Solving for the distance from a/b keeps full precision where the ratio is nearly exact.
    v_ww = max(0.0, cov[0, 0] - 2 * ratio * cov[0, 1] + ratio**2 * cov[1, 1])
    v_wb = cov[0, 1] - ratio * cov[1, 1]
    lead = denominator**2 - t**2 * cov[1, 1]
    discriminant = t**4 * v_wb**2 + lead * t**2 * v_ww
    if lead == 0 or (lead < 0 and discriminant <= 0):
        return ConfidenceSet(((-np.inf, np.inf),))
    root = np.sqrt(max(0.0, discriminant))
    first, second = sorted(float(ratio + (-(t**2) * v_wb + sign * root) / lead) for sign in (-1, 1))
    if lead > 0:
        return ConfidenceSet(((first, second),))
    return ConfidenceSet(((-np.inf, first), (second, np.inf)))


def ratio_estimate(
    estimand: Estimand,
    numerator: float,
    denominator: float,
    cov: Floats,
    *,
    df: float,
    level: float,
    method: str,
    n_seeds: int,
    n_dropped: int = 0,
    null: float | None = None,
    warnings: tuple[str, ...] = (),
    diagnostics: Mapping[str, Any] | None = None,
) -> Result:
    """Ratio of two estimated means with Fieller's set.

    Parameters
    ----------
    estimand : Estimand
        What the ratio estimates.
    numerator, denominator : float
        The means.
    cov : ndarray of shape (2, 2)
        Their covariance.
    df : float
        Degrees of freedom of the t reference.
    level : float
        Confidence level in (0, 1).
    method : str
        Passed on to the estimate.
    n_seeds, n_dropped : int
        Passed on to the estimate.
    null : float or None
        Null value of the p-value, which comes from the same pivot as the set; None: no p-value.
    warnings, diagnostics
        Passed on to the estimate, beside the shape of the set.

    Returns
    -------
    Estimate or NotEstimable
        The latter when the denominator is exactly 0. The standard error is the delta method's.
    """
    if denominator == 0:
        return NotEstimable(estimand, "the denominator of the ratio is 0")
    ratio = numerator / denominator
    region = fieller_set(numerator, denominator, cov, float(t_critical(level, df)))

    def deviation(value: float) -> float:
        contrast = np.array([1.0, -value])
        return float(np.sqrt(max(0.0, contrast @ cov @ contrast)))

    p_value = None
    if null is not None and deviation(null) > 0:
        p_value = t_p_value(numerator - null * denominator, deviation(null), df)
    return Estimate(
        estimand=estimand,
        value=ratio,
        se=deviation(ratio) / abs(denominator),
        low=region.low,
        high=region.high,
        level=level,
        df=df,
        p_value=p_value,
        method=method,
        n_seeds=n_seeds,
        n_dropped=n_dropped,
        warnings=(*seed_warnings(n_seeds), *region.warnings(level), *warnings),
        diagnostics={**region.diagnostics(), **dict(diagnostics or {})},
    )


def ratio_of_sums(
    estimand: Estimand,
    numerators: Floats,
    denominators: Floats,
    *,
    settings: Settings = Settings(),
    method: str = "ratio of sums",
    n_dropped: int = 0,
    null: float | None = None,
    warnings: tuple[str, ...] = (),
    diagnostics: Mapping[str, Any] | None = None,
) -> Result:
    r"""Ratio ``sum_s a_s / sum_s b_s`` over seeds; never the mean of per-seed ratios.

    Parameters
    ----------
    estimand : Estimand
        What the ratio estimates.
    numerators, denominators : ndarray of shape (R,)
        One value per seed, in one unit each.
    settings : Settings
        How the set is computed; ``interval = "auto"``: Fieller, unless the per-seed residuals
        ``a_s - r b_s`` are skewed, with at least `FEW_SEEDS` of them, a stable bootstrap-t
        interval and a denominator that is clearly not 0 (Fieller's set is bounded): then the
        hull of both. Where all residuals are 0 it is Fieller's in any case.
    method, n_dropped, null, warnings, diagnostics
        As in `ratio_estimate`.

    Returns
    -------
    Estimate or NotEstimable
        The latter below `MIN_SEEDS` seeds or with a denominator of 0. Where bootstrap-t
        or the hull is quoted, Fieller's limits stand in ``diagnostics["also"]``.
    """
    n = len(numerators)
    if reason := too_few(estimand, n):
        return reason
    cov = np.cov(np.stack([numerators, denominators])) / n
    fieller = ratio_estimate(
        estimand,
        float(numerators.mean()),
        float(denominators.mean()),
        cov,
        df=n - 1,
        level=settings.level,
        method=f"Fieller, {method}",
        n_seeds=n,
        n_dropped=n_dropped,
        null=null,
        warnings=warnings,
        diagnostics=diagnostics,
    )
    if isinstance(fieller, NotEstimable):
        return fieller
    residuals = numerators - fieller.value * denominators
    # The skewness of residuals that are rounding errors has no meaning.
    exact = np.abs(residuals).max() <= 1e-9 * np.abs(numerators).max()
    kept = {"skewness": 0.0 if exact else skewness(residuals), **fieller.diagnostics}
    fieller = replace(fieller, diagnostics=kept)
    skewed = is_skewed(residuals)
    if exact or not (
        settings.interval == "bootstrap-t" or (settings.interval == "auto" and skewed)
    ):
        return fieller
    drawn = cluster_bootstrap(
        ClusterRatio(numerators, denominators), n_boot=settings.n_boot, rng=settings.rng
    )
    critical = float(t_critical(JUDGED_LEVEL, n - 1))
    region = fieller_set(float(numerators.mean()), float(denominators.mean()), cov, critical)
    judged = drawn.interval(JUDGED_LEVEL), Bounds(region.low, region.high)
    choice = quoted_interval(settings.interval, residuals, *judged)
    noted = (
        *seed_warnings(n, skewed, is_stable(*judged)),
        *fieller.warnings[len(seed_warnings(n)) :],
    )
    if choice == "hull" and not region.shape == kept["shape"] == "interval":
        choice = "t"
    if choice == "t":
        return replace(fieller, warnings=noted)
    bounds = drawn.interval(settings.level)
    studentised = replace(
        fieller,
        low=bounds.low,
        high=bounds.high,
        df=None,
        p_value=None if null is None else drawn.p_value(null),
        method="bootstrap-t",
    )
    quoted = (
        hull(replace(fieller, method="Fieller"), studentised) if choice == "hull" else studentised
    )
    return replace(
        quoted,
        method=f"{quoted.method}, {method}",
        warnings=noted,
        diagnostics={
            **kept,
            "also": {"method": "Fieller", "low": fieller.low, "high": fieller.high},
        },
        draws=drawn.values,
    )
