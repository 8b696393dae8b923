"""The variance parameters of a mixed model, and where to start their optimisation."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sublim_causal.analysis.estimates.types import Floats
from sublim_causal.analysis.mixed.design.model import ModelDesign

Residual = Literal["iid", "ar1", "car1"]


@dataclass(frozen=True)
class Problem:
    """A design with a residual structure, for which the criterion is a function of theta.

    theta = (free entries of L by block, tau, serial correlation, log sd ratios).

    Attributes
    ----------
    design : ModelDesign
        Cross products.
    reml : bool
        REML or ML.
    residual : str
        ``iid``, ``ar1`` or ``car1``.
    """

    design: ModelDesign
    reml: bool
    residual: Residual

    @cached_property
    def entries(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows and columns of the free entries of L."""
        rows, columns = [], []
        for block in self.design.blocks:
            r, c = np.tril_indices(len(block.terms))
            rows.append(r + block.columns.start)
            columns.append(c + block.columns.start)
        empty = [np.zeros(0, dtype=np.int64)]
        return np.concatenate(rows or empty), np.concatenate(columns or empty)

    @property
    def n_cholesky(self) -> int:
        """Number of free entries of L."""
        return len(self.entries[0])

    @property
    def serial_at(self) -> int:
        """Place of the serial-correlation parameter."""
        return self.n_cholesky + self.design.has_cells

    @property
    def serial(self) -> bool:
        """Whether residuals are serially correlated."""
        return self.residual != "iid"

    @property
    def ratios_at(self) -> int:
        """Place of the first log ratio of residual standard deviations."""
        return self.serial_at + self.serial

    @property
    def n_theta(self) -> int:
        """Number of parameters."""
        return self.ratios_at + len(self.design.variances) - 1

    def correlation(self, eta: Floats) -> Floats:
        """Serial correlation at gap 1: in (-1, 1) for ``ar1``, in (0, 1) for ``car1``."""
        return np.tanh(eta) if self.residual == "ar1" else 1 / (1 + np.exp(-eta))

    def factor(self, theta: Floats) -> Floats:
        """L of each parameter vector, shape (R, Q, Q)."""
        lower = np.zeros((len(theta), self.design.q, self.design.q))
        lower[:, self.entries[0], self.entries[1]] = theta[:, : self.n_cholesky]
        return lower

    def start(self) -> Floats:
        """Moment estimates: spread of per-group coefficients, then of the cells' mean residuals.

        Only their order of magnitude matters, which differs by powers of ten between data sets.
        """
        design = self.design
        cells = design.cross_products
        total = cells.sum(axis=1)
        ridge = 1e-6 * np.trace(total, axis1=1, axis2=2)[:, None, None] * np.eye(design.q)
        zz, zy = total[:, design.z, design.z], total[:, design.z, -1]
        u = np.linalg.solve(zz + ridge, zy[..., None])[..., 0]
        noise = max((total[:, -1, -1] - (u * zy).sum(axis=1)).sum() / design.n_obs, 1e-12)
        theta = np.zeros(self.n_theta)
        resolution = len(design.groups) / design.n_obs
        if design.has_cells:
            sums = cells[:, :, 0, -1] - (cells[:, :, 0, design.z] * u[:, None]).sum(axis=-1)
            here = design.rows > 0
            between = np.mean((sums[here] / design.rows[here]) ** 2)
            noise = max(noise - between, 1e-4 * noise)
            theta[self.n_cholesky] = np.sqrt(between / noise + resolution)
        lower = np.zeros((design.q, design.q))
        for block in design.blocks:
            # Each block by itself: jointly, collinear blocks get estimates without bound.
            own = (slice(None), block.columns, block.columns)
            b = np.linalg.solve((zz + ridge)[own], zy[:, block.columns, None])[..., 0]
            psi = b.T @ b / len(b) / noise + resolution * np.eye(b.shape[1])
            lower[own[1:]] = np.linalg.cholesky(psi)
        theta[: self.n_cholesky] = lower[self.entries]
        if self.serial:
            theta[self.serial_at] = 0.2 if self.residual == "ar1" else -1.0
        return theta

    def starts(self) -> Floats:
        """The moment start; with several blocks also one for each that gives it the whole spread.

        Nearly collinear uncorrelated blocks have a local optimum near each.
        """
        first = self.start()
        starts = [first]
        if len(self.design.blocks) > 1:
            small = np.sqrt(len(self.design.groups) / self.design.n_obs)
            rows, columns = self.entries
            for block in self.design.blocks:
                theta = first.copy()
                others = (rows < block.columns.start) | (rows >= block.columns.stop)
                theta[: self.n_cholesky][others] = small * (rows == columns)[others]
                starts.append(theta)
        return np.stack(starts)
