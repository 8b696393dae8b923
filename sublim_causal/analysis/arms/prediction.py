r"""Prediction interval of the value of one more run.

With mean m and standard deviation d of N seeds, a single new run falls into

``m -+ t_{N-1} d sqrt(1 + 1/N)``

with the level's probability if seeds are normal. A figure from one run belongs in this interval;
the interval of the mean is far narrower and misses most single runs.

References
----------
Hahn and Meeker (1991), Statistical Intervals, section 4.7.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from sublim_causal.analysis.estimates.distributions import t_critical
from sublim_causal.analysis.estimates.headline import is_skewed, skewness
from sublim_causal.analysis.estimates.intervals import t_estimate
from sublim_causal.analysis.estimates.settings import validate_level
from sublim_causal.analysis.estimates.types import Estimand, Result, too_few

POWER = 0.8
"""Probability with which a run that is `detectable` off falls outside the interval."""


def prediction_interval(
    values: ArrayLike, *, estimand: Estimand, level: float = 0.95, n_dropped: int = 0
) -> Result:
    """Return the interval for the value of one more seed.

    Parameters
    ----------
    values : array-like of shape (N,)
        One value per seed.
    estimand : Estimand
        What is predicted.
    level : float
        Probability that a new value lies inside, in (0, 1).
    n_dropped : int
        Seeds left out before, for the record.

    Returns
    -------
    Estimate or NotEstimable
        ``se`` is that of the prediction, ``d sqrt(1 + 1/N)``. With skewed values a warning
        says that the limits rely on normality; whatever the distribution, a new value lies
        between ``diagnostics["smallest"]`` and ``["largest"]`` with probability
        ``["range_level"]``, ``(N - 1) / (N + 1)``. ``["detectable"]`` is the distance from our mean
        at which a run is expected to lie if it falls outside with probability `POWER`.
    """
    x = np.asarray(values, dtype=float)
    if reason := too_few(estimand, len(x)):
        return reason
    skewed = ("seeds are skewed: the limits for one more run rely on normality",)
    found = t_estimate(
        estimand,
        float(x.mean()),
        float(x.std(ddof=1) * np.sqrt(1 + 1 / len(x))),
        len(x) - 1,
        level=validate_level(level),
        method="prediction t",
        n_seeds=len(x),
        n_dropped=n_dropped,
        warnings=skewed if is_skewed(x) else (),
        diagnostics={
            "skewness": skewness(x),
            "smallest": float(x.min()),
            "largest": float(x.max()),
            "range_level": (len(x) - 1) / (len(x) + 1),
            "detectable": float(
                x.std(ddof=1) * np.sqrt(1 + 1 / len(x)) * _shift_outside(len(x) - 1, level)
            ),
        },
    )
    # Whether a single run differs from 0 is not of interest.
    return replace(found, p_value=None)


def _shift_outside(df: int, level: float) -> float:
    """Shift, in standard errors of prediction, at which a run falls outside with `POWER`."""
    from scipy import optimize, stats

    limit = float(t_critical(level, df))

    def lacking(shift: float) -> float:
        return float(stats.nct.sf(limit, df, shift)) - POWER

    return float(optimize.brentq(lacking, 0.0, 4 * limit))
