"""How well one number ranks another: Spearman's correlation and the area under the ROC curve."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sublim_causal.analysis.estimates.types import Floats


@dataclass(frozen=True)
class Ranking:
    """A rank statistic and its cluster bootstrap.

    Attributes
    ----------
    value : float
    draws : ndarray of shape (B,)
        Without the replicates in which the statistic is not defined.
    """

    value: float
    draws: Floats

    @property
    def se(self) -> float:
        """Standard deviation of the draws."""
        return float(self.draws.std(ddof=1))

    def interval(self, level: float) -> tuple[float, float]:
        """Return the percentile interval."""
        low, high = np.quantile(self.draws, [(1 - level) / 2, (1 + level) / 2])
        return float(low), float(high)


def spearman(x: Floats, y: Floats) -> float:
    """Return Spearman's rank correlation; NaN where one of both is constant."""
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    from scipy import stats

    return float(np.corrcoef(stats.rankdata(x), stats.rankdata(y))[0, 1])


def auroc(x: Floats, is_positive: NDArray[np.bool_]) -> float:
    """Return how often `x` of a positive exceeds that of a negative, ties counting half.

    NaN where there are no positives, or no negatives.
    """
    n_positive = int(is_positive.sum())
    n_negative = len(x) - n_positive
    if not (n_positive and n_negative):
        return float("nan")
    from scipy import stats

    ranks = float(stats.rankdata(x)[is_positive].sum())
    return (ranks - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative)


def ranked_by_cluster(
    x: Floats,
    y: Floats | NDArray[np.bool_],
    clusters: NDArray[Any],
    *,
    binary: bool,
    n_boot: int,
    rng: np.random.Generator,
) -> Ranking:
    """Return `spearman`, or `auroc` if `y` is `binary`, with whole clusters resampled.

    Parameters
    ----------
    x, y, clusters : ndarray of shape (n,)
        One row a replicate; a drawn cluster brings all of its rows.
    binary : bool
        Whether `y` says what is positive.
    n_boot : int
        Bootstrap replicates.
    rng : Generator
    """
    statistic: Callable[[Any, Any], float] = auroc if binary else spearman
    order = np.argsort(clusters, kind="stable")
    starts = np.unique(clusters[order], return_index=True)[1]
    rows = np.split(order, starts[1:])
    draws = np.empty(n_boot)
    for b in range(n_boot):
        drawn = np.concatenate([rows[i] for i in rng.integers(len(rows), size=len(rows))])
        draws[b] = statistic(x[drawn], y[drawn])
    return Ranking(statistic(x, y), draws[np.isfinite(draws)])
