"""Least squares within seeds (seed fixed effects) with cluster-robust standard errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sublim_causal.analysis.estimates.types import Floats
from sublim_causal.errors import DataError

_NO_SCORE = 1e-10
"""An eigenvalue 1 - lambda below this is a direction that one seed alone determines."""
_COLLINEAR = 1e-10
"""Share of a regressor's length that must be left after the others are taken out."""


class Contrast(NamedTuple):
    """A linear combination c'b: value, CR2 standard error, Satterthwaite df, per-seed scores."""

    value: float
    se: float
    df: float
    scores: Floats


@dataclass(frozen=True)
class WithinFit:
    """Least squares of y on X after taking out seed means.

    Attributes
    ----------
    params : ndarray of shape (P,)
        Coefficients.
    xx : ndarray of shape (R, P, P)
        Cross products of the demeaned regressors, by seed.
    scores : ndarray of shape (R, P)
        ``X_s' e_s``, by seed.
    """

    params: Floats
    xx: Floats
    scores: Floats

    def contrast(self, weights: Floats) -> Contrast:
        r"""Return ``c'b`` with the CR2 standard error and its Satterthwaite df.

        With ``M = (X'X)^-1``, ``A_s = M^{-1/2} (I - M^{1/2} X_s'X_s M^{1/2})^{-1/2} M^{1/2}`` and
        ``a_s = A_s' M c``: ``Var = sum_s (a_s' X_s'e_s)^2`` and, with
        ``Omega_st = a_s' (1{s=t} X_s'X_s - X_s'X_s M X_t'X_t) a_t``, ``df = tr(Omega)^2 /
        sum Omega_st^2``. Only P x P matrices occur; the seed effects need no columns because
        they are orthogonal to the demeaned regressors.

        References
        ----------
        Pustejovsky and Tipton (2018), Small-sample methods for cluster-robust variance
        estimation. J. Bus. Econ. Stat. 36, 672-683, equations 3 to 9.
        """
        # The estimate does not depend on the units of regressors, but the roots of X'X would.
        scale = np.sqrt(np.diag(self.xx.sum(axis=0)))
        xx = self.xx / np.outer(scale, scale)
        c = np.asarray(weights, dtype=float) / scale
        eigenvalues, vectors = np.linalg.eigh(xx.sum(axis=0))
        root = vectors / np.sqrt(eigenvalues) @ vectors.T
        back = vectors * np.sqrt(eigenvalues) @ vectors.T
        leverage, axes = np.linalg.eigh(root @ xx @ root)
        kept = 1 - leverage
        stretch = np.where(kept > _NO_SCORE, 1 / np.sqrt(np.maximum(kept, _NO_SCORE)), 0.0)
        adjust = back @ (axes * stretch[:, None, :]) @ axes.transpose(0, 2, 1) @ root
        bread = root @ root
        a = (c @ bread) @ adjust
        scores = (a * (self.scores / scale)).sum(axis=1)
        pulled = np.einsum("rpq,rq->rp", xx, a)
        omega = np.diag((a * pulled).sum(axis=1)) - pulled @ bread @ pulled.T
        df = float(np.trace(omega) ** 2 / (omega**2).sum())
        return Contrast(
            float(c @ (scale * self.params)), float(np.sqrt(scores @ scores)), df, scores
        )


def demean(values: Floats, groups: NDArray[np.intp]) -> Floats:
    """Take out group means along the first axis; `groups` holds codes 0..R-1."""
    counts = np.bincount(groups)
    flat = values.reshape(len(values), -1)
    means = np.stack([np.bincount(groups, weights=column) / counts for column in flat.T], axis=1)
    return (flat - means[groups]).reshape(values.shape)


def fit_within(y: Floats, x: Floats, seeds: NDArray[np.intp]) -> WithinFit:
    """Regress `y` on `x` with an effect for every seed.

    Parameters
    ----------
    y : ndarray of shape (n,)
        Outcome.
    x : ndarray of shape (n, P)
        Regressors that vary within seeds and are not collinear.
    seeds : ndarray of shape (n,)
        Seed codes 0..R-1.

    Returns
    -------
    WithinFit
        Identical in coefficients to least squares with a dummy for every seed.

    Raises
    ------
    DataError
        If a regressor does not vary within seeds or is collinear with the others, or the fit
        leaves no degrees of freedom.
    """
    y_within, x_within = demean(y, seeds), demean(x, seeds)
    n_seeds = int(seeds.max()) + 1
    # QR of the rows, not the normal equations, keeps the digits of nearly collinear regressors.
    q, r = np.linalg.qr(x_within)
    pivots = np.abs(np.diag(r))
    if (pivots <= _COLLINEAR * np.linalg.norm(x_within, axis=0)).any():
        raise DataError(
            "a regressor is constant within every seed, or a combination of the others: "
            "its effect is not identified beside theirs"
        )
    if len(y) - n_seeds - x.shape[1] < 1:
        raise DataError(
            f"{len(y)} runs of {n_seeds} seeds for {x.shape[1]} effects: no degrees of "
            "freedom are left for their standard errors"
        )
    params = np.linalg.solve(r, q.T @ y_within)
    residuals = y_within - x_within @ params
    xx = np.zeros((n_seeds, x.shape[1], x.shape[1]))
    np.add.at(xx, seeds, x_within[:, :, None] * x_within[:, None, :])
    scores = np.zeros((n_seeds, x.shape[1]))
    np.add.at(scores, seeds, x_within * residuals[:, None])
    return WithinFit(params, xx, scores)
