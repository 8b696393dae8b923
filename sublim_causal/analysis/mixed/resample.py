"""Mixed-model coefficients as functions of how often each group was drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sublim_causal.analysis.estimates.bootstrap import Replicated
from sublim_causal.analysis.mixed.covariance import GroupProducts, group_products
from sublim_causal.analysis.mixed.optimise import hessian, minimise, positive_inverse
from sublim_causal.analysis.mixed.parameters import Problem
from sublim_causal.analysis.mixed.reml import Evaluation, evaluate

Floats = NDArray[np.float64]

_BATCH_NUMBERS = 2**21
"""Numbers in the largest array of a batch of refits."""


@dataclass(frozen=True)
class FixedTheta:
    r"""Generalised least squares at the full sample's variance parameters.

    :math:`b^* = (\sum m_i X_i'V_i^{-1}X_i)^{-1} \sum m_i X_i'V_i^{-1}y_i` with the CR0 standard
    error of each replicate.

    Attributes
    ----------
    products : GroupProducts
        Of S groups.
    contrast : ndarray of shape (P,)
        The statistic is ``offset + contrast @ b``.
    offset : float
        Constant.
    """

    products: GroupProducts
    contrast: Floats
    offset: float

    @property
    def n_clusters(self) -> int:
        """Number of groups."""
        return len(self.products.xy)

    def __call__(self, weights: Floats) -> Replicated:
        """Return value and CR0 standard error for each row of multiplicities."""
        s, p = self.products.xy.shape
        flat = self.products.xx.reshape(s, p * p)
        xx = (weights @ flat).reshape(-1, p, p)
        xy = weights @ self.products.xy
        both = np.stack([xy, np.broadcast_to(self.contrast, xy.shape)], axis=-1)
        b, direction = np.moveaxis(np.linalg.solve(xx, both), -1, 0)
        # direction' X_i'V_i^-1X_i b for all replicates and groups, as one matrix product.
        outer = (direction[:, :, None] * b[:, None, :]).reshape(-1, p * p)
        scores = direction @ self.products.xy.T - outer @ flat.T
        return Replicated(
            self.offset + b @ self.contrast, np.sqrt((weights * scores**2).sum(axis=1))
        )


@dataclass(frozen=True)
class FullRefit:
    """The model fitted anew in each replicate: batched BFGS from the full sample's fit.

    Attributes
    ----------
    problem : Problem
        Model and data.
    theta : ndarray of shape (n_theta,)
        The full sample's parameters.
    contrast : ndarray of shape (P,)
        The statistic is ``offset + contrast @ b``.
    offset : float
        Constant.
    """

    problem: Problem
    theta: Floats
    contrast: Floats
    offset: float

    @property
    def n_clusters(self) -> int:
        """Number of groups."""
        return len(self.problem.design.groups)

    def __call__(self, weights: Floats) -> Replicated:
        """Return value and CR0 standard error for each row of multiplicities."""
        start = self._start()
        inverse = self._inverse_hessian(start)
        size = max(1, _BATCH_NUMBERS // self._numbers())
        parts = [
            self._refit(weights[first : first + size], start, inverse)
            for first in range(0, len(weights), size)
        ]
        return Replicated(*(np.concatenate(column) for column in zip(*parts, strict=True)))

    def _numbers(self) -> int:
        """Size of the largest array of one replicate."""
        _, s, a, k, _ = self.problem.design.parts.shape
        residual = self.problem.serial or len(self.problem.design.variances) > 1
        return s * a * k * (k if residual else 1)

    def _start(self) -> Floats:
        """The full sample's theta, off the boundary, where the gradient vanishes."""
        problem = self.problem
        theta = self.theta.copy()
        floor = 1 / np.sqrt(problem.design.n_obs / self.n_clusters)
        rows, columns = problem.entries
        spread = np.flatnonzero(rows == columns)
        spread = np.append(spread, [problem.n_cholesky] * problem.design.has_cells).astype(int)
        small = spread[np.abs(theta[spread]) < floor]
        theta[small] = floor
        return theta

    def _inverse_hessian(self, start: Floats) -> Floats:
        return positive_inverse(hessian(self.problem, start, np.ones((1, self.n_clusters))))

    def _refit(self, weights: Floats, start: Floats, inverse: Floats) -> Replicated:
        def objective(theta: Floats, chosen: NDArray[np.int64]) -> Evaluation:
            return evaluate(self.problem, theta, weights[chosen])

        theta = minimise(objective, np.repeat(start[None], len(weights), axis=0), inverse).theta
        return _robust(self, theta, weights)


def _robust(statistic: FullRefit, theta: Floats, weights: Floats) -> Replicated:
    """Value and CR0 standard error of each replicate at its own theta."""
    rows = [
        FixedTheta(group_products(statistic.problem, t), statistic.contrast, statistic.offset)(
            w[None]
        )
        for t, w in zip(theta, weights, strict=True)
    ]
    return Replicated(*(np.concatenate(column) for column in zip(*rows, strict=True)))
