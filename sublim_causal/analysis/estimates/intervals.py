"""The interval of a mean, or a ratio of sums, over seeds: t, bootstrap-t, or the hull of both.

Seeds are the clusters, so the interval of any quantity with one number per seed (a paired
difference, a slope, a share) is computed here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from sublim_causal.analysis.estimates.bootstrap import (
    Bounds,
    ClusterMean,
    ClusterRatio,
    Distribution,
    cluster_bootstrap,
)
from sublim_causal.analysis.estimates.distributions import t_critical, t_sf
from sublim_causal.analysis.estimates.headline import (
    is_skewed,
    is_stable,
    quoted_interval,
    seed_warnings,
    skewness,
)
from sublim_causal.analysis.estimates.settings import IntervalRule, Settings
from sublim_causal.analysis.estimates.types import (
    Estimand,
    Estimate,
    Floats,
    NotEstimable,
    Result,
    too_few,
)
from sublim_causal.errors import DataError

JUDGED_LEVEL = 0.95
"""Level at which the rule is judged, so that all intervals of one figure go by one method."""

MEAN = Estimand("mean", "The mean over seeds.")


def t_bounds(value: float, se: float, df: float, level: float) -> Bounds:
    """Return value -+ t_{df, (1 + level) / 2} se."""
    half = float(t_critical(level, df)) * se
    return Bounds(value - half, value + half)


def t_p_value(value: float, se: float, df: float, null: float = 0.0) -> float:
    """Two-sided p of (value - null) / se on df degrees of freedom."""
    return float(2 * t_sf(abs(value - null) / se, df))


def t_estimate(
    estimand: Estimand,
    value: float,
    se: float,
    df: float,
    *,
    level: float,
    method: str,
    n_seeds: int,
    n_dropped: int = 0,
    null: float = 0.0,
    warnings: tuple[str, ...] = (),
    diagnostics: Mapping[str, object] | None = None,
) -> Estimate:
    """Interval ``value -+ t_df se`` with the two-sided p of ``value = null``."""
    low, high = t_bounds(value, se, df, level)
    return Estimate(
        estimand=estimand,
        value=value,
        se=se,
        low=low,
        high=high,
        level=level,
        df=df,
        p_value=t_p_value(value, se, df, null) if se > 0 else None,
        method=method,
        n_seeds=n_seeds,
        n_dropped=n_dropped,
        warnings=(*seed_warnings(n_seeds), *warnings),
        diagnostics=dict(diagnostics or {}),
    )


def beside_bootstrap(
    plain: Estimate, drawn: Distribution, per_seed: Floats, rule: IntervalRule, null: float = 0.0
) -> Estimate:
    """Quote `plain`, the bootstrap-t interval, or the hull of both, as `rule` asks.

    Parameters
    ----------
    plain : Estimate
        The t interval of the statistic.
    drawn : Distribution
        Resampling distribution of the same statistic.
    per_seed : ndarray of shape (R,)
        The values whose skewness the rule looks at.
    rule : {"auto", "t", "bootstrap-t"}
        As in `Settings`.
    null : float
        Null value of the p-values.

    Returns
    -------
    Estimate
        The other interval stands in ``diagnostics["also"]``; beside the hull, `plain`.
    """
    boot = drawn.interval(plain.level)
    assert plain.df is not None
    judged = (drawn.interval(JUDGED_LEVEL), t_bounds(plain.value, plain.se, plain.df, JUDGED_LEVEL))
    choice = quoted_interval(rule, per_seed, *judged)
    studentised = replace(
        plain,
        method="bootstrap-t",
        low=boot.low,
        high=boot.high,
        df=None,
        p_value=drawn.p_value(null),
    )
    head = {"t": plain, "bootstrap-t": studentised, "hull": hull(plain, studentised)}[choice]
    other = studentised if choice == "t" else plain
    also = {name: getattr(other, name) for name in ("method", "low", "high", "p_value")}
    warnings = seed_warnings(plain.n_seeds, is_skewed(per_seed), is_stable(*judged))
    return replace(
        head,
        warnings=(*warnings, *plain.warnings),
        diagnostics={"skewness": skewness(per_seed), **plain.diagnostics, "also": also},
        draws=drawn.values,
    )


def hull(plain: Estimate, studentised: Estimate) -> Estimate:
    """Return `plain` with the smallest interval that holds both, and the larger p."""
    known = [one.p_value for one in (plain, studentised) if one.p_value is not None]
    return replace(
        studentised,
        low=min(plain.low, studentised.low),
        high=max(plain.high, studentised.high),
        p_value=max(known, default=None),
        method=f"hull of {plain.method} and {studentised.method}",
    )


def mean_interval(
    values: ArrayLike,
    *,
    settings: Settings = Settings(),
    estimand: Estimand = MEAN,
    null: float = 0.0,
    n_dropped: int = 0,
    diagnostics: Mapping[str, Any] | None = None,
) -> Result:
    r"""Mean over seeds with :math:`\bar x \pm t_{n-1} s / \sqrt n`, hull with bootstrap-t if skew.

    Parameters
    ----------
    values : array_like of shape (R,)
        One number per seed.
    settings : Settings
        How the interval is computed.
    estimand : Estimand
        What the mean estimates.
    null : float
        Null value of `p_value`.
    n_dropped : int
        Seeds left out before.
    diagnostics : mapping, optional
        Further quantities to keep with the estimate.

    Returns
    -------
    Estimate or NotEstimable
        The other interval stands in ``diagnostics["also"]``. Not estimable below 3 seeds. Where
        all values are equal the interval has no width, and a warning says so.

    Raises
    ------
    DataError
        If a value is missing or infinite.
    """
    x = _validated(values, estimand)
    if refusal := too_few(estimand, len(x)):
        return refusal
    kept = {"sd": float(x.std(ddof=1)), **(diagnostics or {})}
    plain = partial(
        _t_of_seeds,
        estimand,
        len(x),
        null,
        level=settings.level,
        n_dropped=n_dropped,
        diagnostics=kept,
    )
    # Rounding gives identical values a spread of order eps.
    if np.ptp(x) <= 4 * np.finfo(float).eps * np.abs(x).max():
        return plain(float(x[0]), 0.0)
    drawn = cluster_bootstrap(ClusterMean(x), n_boot=settings.n_boot, rng=settings.rng)
    return beside_bootstrap(plain(drawn.value, drawn.se), drawn, x, settings.interval, null)


def ratio_interval(
    ratio: ClusterRatio, *, estimand: Estimand, settings: Settings = Settings()
) -> Result:
    r"""Ratio of sums over seeds :math:`b = \sum u_s / \sum v_s` with its interval.

    The per-seed values of the skewness rule are the influences :math:`(u_s - b v_s) / \bar v`,
    whose spread also gives the standard error. A slope through per-seed cross products is such
    a ratio; its standard error is the cluster-robust one (CR1).

    Parameters
    ----------
    ratio : ClusterRatio
        u and v, one pair per seed.
    estimand, settings
        As in `mean_interval`.

    Returns
    -------
    Estimate or NotEstimable
        Not estimable below 3 seeds, or where the denominators sum to no more than 0.

    Raises
    ------
    DataError
        If a value is missing or infinite.
    """
    u = _validated(ratio.numerators, estimand)
    v = _validated(ratio.denominators, estimand)
    if refusal := too_few(estimand, len(u)):
        return refusal
    if v.sum() <= 0:
        return NotEstimable(estimand, "the denominator is not positive")
    drawn = cluster_bootstrap(ratio, n_boot=settings.n_boot, rng=settings.rng)
    if drawn.se <= 4 * np.finfo(float).eps * abs(drawn.value):
        return _t_of_seeds(estimand, len(u), 0.0, drawn.value, 0.0, level=settings.level)
    plain = _t_of_seeds(estimand, len(u), 0.0, drawn.value, drawn.se, level=settings.level)
    return beside_bootstrap(plain, drawn, (u - drawn.value * v) / v.mean(), settings.interval)


def _validated(values: ArrayLike, estimand: Estimand) -> Floats:
    x = np.asarray(values, dtype=float).ravel()
    if not np.isfinite(x).all():
        raise DataError(f"{estimand.name}: {np.sum(~np.isfinite(x))} of {len(x)} values not finite")
    return x


def _t_of_seeds(
    estimand: Estimand,
    n_seeds: int,
    null: float,
    value: float,
    se: float,
    *,
    level: float,
    n_dropped: int = 0,
    diagnostics: Mapping[str, Any] | None = None,
) -> Estimate:
    """Return the t interval on n - 1 degrees of freedom; a standard error of 0 gives no width."""
    found = t_estimate(
        estimand,
        value,
        se,
        float(n_seeds - 1),
        level=level,
        method="t",
        n_seeds=n_seeds,
        n_dropped=n_dropped,
        null=null,
        diagnostics=diagnostics,
    )
    if se > 0:
        return replace(found, warnings=())
    return replace(
        found,
        df=None,
        p_value=1.0 if value == null else None,
        method="identical",
        warnings=("every seed has exactly this value: the interval has no width",),
    )
