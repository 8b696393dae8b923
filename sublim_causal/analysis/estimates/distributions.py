"""Tail areas and quantiles that intervals and tests refer to, as in ``scipy.stats``.

They are those of ``scipy.special``: importing ``scipy.stats`` takes as long as a small analysis.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import special


def t_sf(t: Any, df: Any) -> Any:
    """Return P(T > t) for Student's t with `df` degrees of freedom."""
    return special.stdtr(np.asarray(df), -np.asarray(t))


def t_isf(tail: Any, df: Any) -> Any:
    """Return the t with P(T > t) = `tail`."""
    return -special.stdtrit(np.asarray(df), tail)


def t_critical(level: float, df: Any) -> Any:
    """Return the t with P(-t < T < t) = `level`."""
    return t_isf((1 - level) / 2, df)


def f_sf(f: Any, df: float, df_of_error: float) -> float:
    """Return P(F > f)."""
    return float(special.fdtrc(df, df_of_error, np.maximum(f, 0.0)))


def f_ppf(share: float, df: float, df_of_error: float) -> float:
    """Return the f with P(F < f) = `share`."""
    return float(special.fdtri(df, df_of_error, share))


def chi2_sf(chi2: float, df: float) -> float:
    """Return P(chi-squared > chi2)."""
    return float(special.chdtrc(df, np.maximum(chi2, 0.0)))


def norm_sf(z: Any) -> Any:
    """Return P(Z > z) for a standard normal Z."""
    return special.ndtr(-np.asarray(z))


def norm_isf(tail: Any) -> Any:
    """Return the z with P(Z > z) = `tail`."""
    return -special.ndtri(tail)


def beta_ppf(share: float, a: float, b: float) -> float:
    """Return the x with P(X < x) = `share` for a beta-distributed X."""
    return float(special.betaincinv(a, b, share))


def beta_isf(tail: float, a: float, b: float) -> float:
    """Return the x with P(X > x) = `tail`."""
    return float(special.betainccinv(a, b, tail))
