"""Mixed-model coefficients as functions of how often each group was drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sublim_causal.analysis.estimates.bootstrap import Replicated
from sublim_causal.analysis.estimates.types import Floats
from sublim_causal.analysis.mixed.covariance import GroupProducts


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
