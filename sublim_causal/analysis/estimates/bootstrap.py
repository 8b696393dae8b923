r"""Cluster bootstrap: seeds are drawn with all their arms and steps, never steps or runs.

A statistic is a function of the multiplicities :math:`m_{bs}`, how often seed :math:`s` was drawn
in replicate :math:`b`. The point estimate is the statistic at :math:`m = 1`, a jackknife value
the statistic with one multiplicity at 0, so one function serves both.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np

from sublim_causal.analysis.estimates.settings import N_BOOT, validate_level
from sublim_causal.analysis.estimates.types import Floats
from sublim_causal.errors import RequestError

_BATCH_BYTES = 64 * 2**20


class Replicated(NamedTuple):
    """A statistic and its standard error in each replicate, both of shape ``(B,)``."""

    values: Floats
    ses: Floats


class Bounds(NamedTuple):
    """Limits of an interval."""

    low: float
    high: float


class OneSided(NamedTuple):
    """P-values of the null "not greater" and of the null "not less"."""

    greater: float
    less: float


class ClusterStatistic(Protocol):
    """A statistic of resampled clusters."""

    @property
    def n_clusters(self) -> int:
        """Number of clusters, R."""

    def __call__(self, weights: Floats) -> Replicated:
        """Return the statistic for multiplicities `weights` of shape ``(B, R)``."""


@dataclass(frozen=True)
class ClusterMean:
    r"""Mean over clusters, :math:`\bar x = \sum m_s x_s / n`, SE :math:`\sqrt{s^2/n}`.

    Attributes
    ----------
    values : ndarray of shape (R,)
        One number a cluster.
    """

    values: Floats

    @property
    def n_clusters(self) -> int:
        """Number of clusters."""
        return len(self.values)

    def __call__(self, weights: Floats) -> Replicated:
        """Return mean and standard error for each row of multiplicities."""
        centre = self.values.mean()
        deviations = self.values - centre
        n = weights.sum(axis=1)
        mean = weights @ deviations / n
        # Deviations from the full mean keep the subtraction free of cancellation.
        squares = np.maximum(weights @ deviations**2 - n * mean**2, 0.0)
        return Replicated(centre + mean, np.sqrt(squares / (n * (n - 1))))


@dataclass(frozen=True)
class ClusterRatio:
    r"""Ratio of sums, :math:`b = \sum m_s u_s / \sum m_s v_s`, with linearised SE.

    .. math:: \widehat{se}^2 = \frac{n}{n-1} \frac{\sum m_s (u_s - b v_s)^2}{(\sum m_s v_s)^2}

    A slope from cluster cross products is such a ratio: :math:`u = S_{xy}, v = S_{xx}`.

    Attributes
    ----------
    numerators, denominators : ndarray of shape (R,)
        u and v.
    """

    numerators: Floats
    denominators: Floats

    @property
    def n_clusters(self) -> int:
        """Number of clusters."""
        return len(self.numerators)

    def __call__(self, weights: Floats) -> Replicated:
        """Return ratio and standard error for each row of multiplicities.

        A row whose denominator is 0, or so near it that a square overflows, has neither: NaN.
        """
        n = weights.sum(axis=1)
        total = weights @ self.denominators
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            value = weights @ self.numerators / total
            residuals = self.numerators - value[:, None] * self.denominators
            squares = (weights * residuals**2).sum(axis=1)
            se = np.sqrt(n / (n - 1) * squares) / np.abs(total)
        known = np.isfinite(value) & np.isfinite(se)
        return Replicated(np.where(known, value, np.nan), np.where(known, se, np.nan))


@dataclass(frozen=True)
class Distribution:
    """A resampling distribution, kept so that it can be inspected.

    Attributes
    ----------
    value, se : float
        The statistic on the data themselves.
    values, ses : ndarray of shape (B,)
        The statistic in each replicate.
    jackknife : ndarray of shape (R,)
        The statistic without each cluster; NaN where it is singular.
    """

    value: float
    se: float
    values: Floats = field(repr=False)
    ses: Floats = field(repr=False)
    jackknife: Floats = field(repr=False)

    @property
    def n_clusters(self) -> int:
        """Number of clusters."""
        return len(self.jackknife)

    @property
    def n_failed(self) -> int:
        """Replicates without a value; intervals and p-values leave them out."""
        return int(np.isnan(self.values).sum())

    @property
    def pivots(self) -> Floats:
        """Studentised replicates (value* - value) / se*; infinite where se* is 0."""
        shift = self.values - self.value
        with np.errstate(divide="ignore", invalid="ignore"):
            pivots = np.where(shift == 0, 0.0, shift / self.ses)
        return pivots[~np.isnan(pivots)]

    def interval(self, level: float = 0.95) -> Bounds:
        """Return the equal-tailed studentised interval, ``value - pivot se`` (bootstrap-t).

        Notes
        -----
        Second-order accurate (Hall, 1988); ``docs/coverage.csv`` has the coverage of the hull with
        the t interval, which estimators quote. With 3 clusters it is unbounded: one draw in nine
        has se* = 0.

        Raises
        ------
        RequestError
            If `level` is not in (0, 1).
        """
        tail, pivots = (1 - validate_level(level)) / 2, np.sort(self.pivots)
        return Bounds(
            self.value - _order_statistic(pivots, 1 - tail) * self.se,
            self.value - _order_statistic(pivots, tail) * self.se,
        )

    def one_sided(self, null: float = 0.0) -> OneSided:
        """P-values of the studentised statistic against `null` in both directions, never 0."""
        observed = (self.value - null) / self.se
        pivots = self.pivots
        more, less = np.sum(pivots >= observed), np.sum(pivots <= observed)
        return OneSided(
            float((1 + more) / (len(pivots) + 1)), float((1 + less) / (len(pivots) + 1))
        )

    def p_value(self, null: float = 0.0) -> float:
        """Two-sided equal-tailed p against `null`, dual to the studentised interval."""
        return min(1.0, 2 * min(self.one_sided(null)))


def cluster_bootstrap(
    statistic: ClusterStatistic,
    *,
    n_boot: int = N_BOOT,
    batch: int | None = None,
    rng: np.random.Generator | int = 0,
) -> Distribution:
    """Resample clusters with replacement and keep the distribution.

    Parameters
    ----------
    statistic : ClusterStatistic
        `ClusterMean`, `ClusterRatio`, or any function of multiplicities.
    n_boot : int
        Replicates, at least 1. One that is singular counts in `Distribution.n_failed`.
    batch : int, optional
        Replicates held in memory at once; the results do not depend on it. Default: as many as
        fit into 64 MiB.
    rng : Generator or int
        Source of randomness; a generator advances.

    Raises
    ------
    RequestError
        If `n_boot` or `batch` is below 1.
    """
    n = statistic.n_clusters
    point = statistic(np.ones((1, n)))
    values, ses = _draw(statistic, n_boot, batch, np.random.default_rng(rng))
    return Distribution(
        float(point.values[0]), float(point.ses[0]), values, ses, jackknife(statistic)
    )


def jackknife(statistic: ClusterStatistic) -> Floats:
    """Return the statistic without each cluster, shape ``(R,)``; NaN where it is singular."""
    return _evaluate(statistic, 1.0 - np.eye(statistic.n_clusters)).values


def _draw(
    statistic: ClusterStatistic, n_boot: int, batch: int | None, rng: np.random.Generator
) -> Replicated:
    n = statistic.n_clusters
    batch = max(1, _BATCH_BYTES // (8 * n)) if batch is None else batch
    for name, number in (("n_boot", n_boot), ("batch", batch)):
        if number < 1:
            raise RequestError(name, number, "a whole number, at least 1")
    parts = [
        _evaluate(statistic, multiplicities(rng, min(batch, n_boot - first), n))
        for first in range(0, n_boot, batch)
    ]
    values, ses = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Replicated(values, ses)


def _evaluate(statistic: ClusterStatistic, weights: Floats) -> Replicated:
    """Return the statistic; NaN where a replicate is singular (an arm was never drawn)."""
    try:
        return statistic(weights)
    except np.linalg.LinAlgError:
        if len(weights) == 1:
            return Replicated(np.array([np.nan]), np.array([np.nan]))
    rows = [_evaluate(statistic, row[None]) for row in weights]
    values, ses = (np.concatenate(column) for column in zip(*rows, strict=True))
    return Replicated(values, ses)


def multiplicities(rng: np.random.Generator, n_boot: int, n_clusters: int) -> Floats:
    """Draw how often each cluster is in each replicate; shape ``(n_boot, n_clusters)``."""
    drawn = rng.integers(n_clusters, size=(n_boot, n_clusters))
    flat = (drawn + n_clusters * np.arange(n_boot)[:, None]).ravel()
    counts = np.bincount(flat, minlength=n_boot * n_clusters)
    return counts.reshape(n_boot, n_clusters).astype(float)


def _order_statistic(ordered: Floats, probability: float) -> float:
    """Quantile by rank (B + 1) p, rounded outwards: no interpolation, so infinities are safe."""
    rank = (len(ordered) + 1) * probability
    whole = np.floor(rank + 1e-9) if probability < 0.5 else np.ceil(rank - 1e-9)
    return float(ordered[int(np.clip(whole, 1, len(ordered))) - 1])
