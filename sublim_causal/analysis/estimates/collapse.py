"""Seeds whose training collapsed: values below a gap that is too wide for one population."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from sublim_causal.analysis.estimates.types import Floats

FALSE_ALARMS = 0.01
"""Share of normal samples of fewer than 12 values in which a gap is found; fewer with more."""
_WIDE = 4.0
"""From 12 values on: least gap, in standard deviations of the values above it."""
_CALIBRATED_BELOW = 12
_DRAWS = 20_000


@dataclass(frozen=True)
class Gap:
    """The widest gap below at least half of the values.

    Attributes
    ----------
    below : ndarray of shape (n,)
        Which values lie below it.
    ratio : float
        Its width over the standard deviation of the values above it; infinite if these are equal.
    limit : float
        The ratio beyond which the values below count as collapsed.
    """

    below: np.ndarray
    ratio: float
    limit: float

    @property
    def is_wide(self) -> bool:
        """Whether the values below it count as collapsed."""
        return self.ratio > self.limit


def widest_gap(values: Floats) -> Gap:
    """Return the widest gap in `values`, of shape (n,), n at least 3.

    Notes
    -----
    The limit is 4, and with fewer than 12 values the 99 % quantile of normal samples, in which a
    gap is therefore rare. In samples with a long left tail it is more frequent, and says that a few
    seeds lie apart, not that they belong to another population. Of 6 values a collapse of a tenth
    of seeds is often missed, because few such samples contain a collapsed seed.
    """
    ordered = np.argsort(values, kind="stable")
    n_below, ratio = _ratios(values[ordered][None])
    below = np.zeros(len(values), dtype=bool)
    below[ordered[: n_below[0]]] = True
    return Gap(below, float(ratio[0]), _limit(len(values)))


def _ratios(ordered: Floats) -> tuple[np.ndarray, Floats]:
    """Return number of values below the widest gap, and its ratio, for rows that rise."""
    gaps = np.diff(ordered, axis=1)
    ratios = np.zeros((len(ordered), ordered.shape[1] // 2))
    for k in range(ratios.shape[1]):
        sd = ordered[:, k + 1 :].std(axis=1, ddof=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratios[:, k] = np.where(gaps[:, k] > 0, gaps[:, k] / sd, 0.0)
    best = ratios.argmax(axis=1)
    return best + 1, ratios[np.arange(len(ordered)), best]


@cache
def _limit(n: int) -> float:
    if n >= _CALIBRATED_BELOW:
        return _WIDE
    normal = np.sort(np.random.default_rng(n).standard_normal((_DRAWS, n)), axis=1)
    return max(_WIDE, float(np.quantile(_ratios(normal)[1], 1 - FALSE_ALARMS)))
