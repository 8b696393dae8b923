r"""Limits over seeds that hold whatever the distribution, where a few seeds may collapse.

A t interval of eight similar seeds is narrow, and does not allow for a tenth of seeds that lose
everything.
"""

from __future__ import annotations

import numpy as np

from sublim_causal.analysis.estimates.bootstrap import Bounds
from sublim_causal.analysis.estimates.distributions import beta_isf, beta_ppf
from sublim_causal.analysis.estimates.types import Floats

N_DRAWS = 20_000
"""Draws of Gaffke's bound; the Monte Carlo error of its level is 0.1 points."""


def lower_mean_bound(values: Floats, alpha: float, rng: np.random.Generator) -> float:
    r"""Return a lower limit of the mean of a quantity that is at least 0.

    The alpha quantile of :math:`\sum_{i=1}^n D_i x_i` with
    :math:`(D_0, ..., D_n) \sim Dirichlet(1, ..., 1)`: a weight is left for a value of 0 that was
    not seen. For n equal values x it is :math:`x \alpha^{1/n}`.

    Parameters
    ----------
    values : ndarray of shape (N,)
        At least 0.
    alpha : float
        Probability in (0, 1) that the limit lies above the mean.
    rng : Generator
        Of the weights.

    References
    ----------
    Gaffke (2005), Three test statistics for a nonparametric one-sided hypothesis on the mean of a
    nonnegative variable. Mathematical Methods of Statistics 14, 451-467; Learned-Miller and Thomas
    (2019), A new confidence interval for the mean of a bounded random variable. arXiv 1905.06208.
    """
    weights = rng.dirichlet(np.ones(len(values) + 1), size=N_DRAWS)[:, 1:]
    return float(np.quantile(weights @ np.maximum(values, 0.0), alpha))


def share_limits(count: int, n: int, level: float) -> Bounds:
    """Return the exact binomial limits (Clopper and Pearson 1934) of a share, `count` of `n`."""
    alpha = (1 - level) / 2
    low = beta_ppf(alpha, count, n - count + 1) if count else 0.0
    high = beta_isf(alpha, count + 1, n - count) if count < n else 1.0
    return Bounds(low, high)
