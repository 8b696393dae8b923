r"""Covariances, degrees of freedom and resampling of a mixed model's coefficients.

All in the scaled coordinates of `ModelDesign`; a contrast c enters as the vector that gives c'b
there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from sublim_causal.analysis.estimates.bootstrap import Replicated
from sublim_causal.analysis.estimates.types import Floats
from sublim_causal.analysis.mixed.criterion.optimise import steps_of
from sublim_causal.analysis.mixed.criterion.parameters import Problem
from sublim_causal.analysis.mixed.criterion.reml import evaluate, reduce_random
from sublim_causal.analysis.mixed.criterion.residuals import residual_products
from sublim_causal.analysis.mixed.inference.kenward_roger import covariance_patterns

_FLAT = 1e-8
"""Directions of the Hessian below this share of the largest eigenvalue carry no information."""
_NO_SCORE = 1e-10
"""Residual directions with less than this share of variance are fitted by one group alone."""
_DEPENDENT = 1e-11
"""Eigenvalues of a cross-product matrix below this share of the largest are rounding."""


class Inference(Protocol):
    """A covariance matrix of the coefficients with degrees of freedom for contrasts."""

    @property
    def vcov(self) -> Floats:
        """Covariance, shape (P, P)."""

    def df(self, contrast: Floats) -> float:
        """Degrees of freedom of ``contrast @ b``."""


@dataclass(frozen=True)
class GroupProducts:
    """X'V^-1X and X'V^-1y of each group, at fixed variance parameters.

    Attributes
    ----------
    xx : ndarray of shape (S, P, P)
    xy : ndarray of shape (S, P)
    """

    xx: Floats
    xy: Floats


def group_products(problem: Problem, theta: Floats) -> GroupProducts:
    """Cross products of each group in the metric of V, without sigma2."""
    design = problem.design
    at = theta[None]
    residuals = residual_products(problem, at)
    reduced = reduce_random(problem, at, residuals)
    total = residuals.products[0].sum(axis=1)
    if design.has_cells:
        weight = theta[problem.n_cholesky] ** 2 * reduced.shrink[0]
        rows = reduced.row_sums[0]
        total = total - rows.transpose(0, 2, 1) @ (rows * weight[..., None])
    lower = problem.factor(at)[0]
    explained = (lower @ lower.T) @ reduced.u_rows[0]
    total = total - reduced.z_rows[0].transpose(0, 2, 1) @ explained
    return GroupProducts(total[:, design.x, design.x], total[:, design.x, -1])


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
class ModelBased:
    r"""sigma2 (X'V^-1X)^-1 with Satterthwaite's df, :math:`2 v^2 / (g' 2H^{-1} g)`.

    v is the variance of the contrast, g its gradient in (theta, log sigma2), H the Hessian of the
    criterion with sigma2 free (Kuznetsova et al., 2017, doi:10.18637/jss.v082.i13).

    Attributes
    ----------
    vcov : ndarray of shape (P, P)
        Covariance.
    slopes : ndarray of shape (n_theta + 1, P, P)
        Its derivatives.
    spread : ndarray of shape (n_theta + 1, n_theta + 1)
        2 H^-1: covariance of the parameter estimates.
    """

    vcov: Floats
    slopes: Floats
    spread: Floats

    def df(self, contrast: Floats) -> float:
        """Satterthwaite's degrees of freedom."""
        v = contrast @ self.vcov @ contrast
        g = self.slopes @ contrast @ contrast
        return float(2 * v**2 / (g @ self.spread @ g))


def model_based(problem: Problem, theta: Floats) -> ModelBased:
    """Covariance and Satterthwaite's terms, by central differences of the analytic gradient."""
    here = evaluate(problem, theta[None])
    sigma2 = here.sigma2[0]
    vcov = sigma2 * here.xx_inverse[0]
    k = len(theta)
    h = np.zeros((k + 1, k + 1))
    slopes = np.empty((k + 1, *vcov.shape))
    slopes[k] = vcov
    step = steps_of(problem, theta)
    if k:
        points = np.concatenate([theta + np.diag(step), theta - np.diag(step)])
        found = evaluate(problem, points, np.full(2 * k, sigma2))
        change = (found.gradient[:k] - found.gradient[k:]) / (2 * step[:, None])
        h[:k, :k] = (change + change.T) / 2
        slopes[:k] = sigma2 * (found.xx_inverse[:k] - found.xx_inverse[k:])
        slopes[:k] /= 2 * step[:, None, None]
        # dD/dlog(sigma2) = nu - r^2/sigma2, and r^2 at fixed theta is nu times the profiled sigma2.
        profiled = evaluate(problem, points).sigma2
        r2_slope = _freedom(problem) * (profiled[:k] - profiled[k:]) / (2 * step)
        h[k, :k] = h[:k, k] = -r2_slope / sigma2
    h[k, k] = _freedom(problem)
    values, vectors = np.linalg.eigh(h)
    informative = values > _FLAT * values.max()
    vectors = vectors[:, informative]
    return ModelBased(vcov, slopes, 2 * vectors / values[informative] @ vectors.T)


def _freedom(problem: Problem) -> float:
    return problem.design.n_obs - (problem.design.p if problem.reml else 0)


@dataclass(frozen=True)
class ClusterRobust:
    r"""CR0 or CR2 covariance, clusters the groups, with Bell and McCaffrey's df.

    With :math:`M = (X'V^{-1}X)^{-1}`, residuals e and :math:`H_i = A_i V_i^{-1} X_i`,
    vcov = :math:`M \sum_i H_i'e_i e_i'H_i M`. CR0: A = I. CR2: A is the symmetric solution of
    :math:`A_i (V_i - X_i M X_i') A_i = V_i`, so that the estimate is unbiased if V is right
    (Pustejovsky and Tipton, 2018, doi:10.1080/07350015.2016.1247004).

    Attributes
    ----------
    vcov : ndarray of shape (P, P)
        Covariance.
    bread : ndarray of shape (P, P)
        M.
    own : ndarray of shape (S, P, P)
        H_i'V_i H_i.
    cross : ndarray of shape (S, P, P)
        X_i'H_i.
    """

    vcov: Floats
    bread: Floats
    own: Floats
    cross: Floats

    def df(self, contrast: Floats) -> float:
        r"""Satterthwaite's df of the robust variance, tr(Om)^2 / tr(Om^2), under the model.

        :math:`\Omega_{ij} = h_i'(1\{i=j\} V_i - X_i M X_j')h_j` with h = H M c.
        """
        c = self.bread @ contrast
        own = self.own @ c @ c
        e = self.cross @ c
        shared = e @ self.bread
        between = shared.T @ e
        diagonal = (shared * e).sum(axis=1)
        squares = (own**2).sum() - 2 * (own * diagonal).sum() + (between * between.T).sum()
        return float((own.sum() - diagonal.sum()) ** 2 / squares)


def cluster_robust(
    problem: Problem, theta: Floats, coefficients: Floats, *, kind: str
) -> ClusterRobust:
    """CR0 or CR2 from per-group cross products only."""
    products = group_products(problem, theta)
    bread = np.linalg.inv(products.xx.sum(axis=0))
    own = cross = products.xx
    scores = products.xy - products.xx @ coefficients
    if kind == "CR2":
        own, cross, scores = _adjusted(problem, theta, coefficients, bread)
    scores = scores @ bread
    return ClusterRobust(scores.T @ scores, bread, own, cross)


def _adjusted(
    problem: Problem, theta: Floats, coefficients: Floats, bread: Floats
) -> tuple[Floats, Floats, Floats]:
    """H'VH, X'H and H'e of CR2.

    V and V - XMX' are the identity (in the metric of the residuals) outside the span of
    U = (X, Z, cell indicators), and so is A: all is done in an orthonormal basis of that span.
    """
    design = problem.design
    gram, uy = _span_products(problem, theta)
    values, vectors = np.linalg.eigh(gram)
    kept = values > _DEPENDENT * values[:, -1:]
    root = np.sqrt(np.where(kept, values, 0.0))
    basis = root[:, :, None] * vectors.transpose(0, 2, 1)
    inverse_root = np.divide(1.0, root, out=np.zeros_like(root), where=kept)
    residual = uy - gram[:, :, : design.p] @ coefficients
    e = inverse_root * (vectors.transpose(0, 2, 1) @ residual[..., None])[..., 0]

    x, u = basis[:, :, : design.p], basis[:, :, design.p :]
    patterns, psi = covariance_patterns(problem, theta)
    random = np.tensordot(psi, patterns, axes=1) if len(psi) else np.zeros((u.shape[2],) * 2)
    v = np.eye(basis.shape[1]) + u @ random @ u.transpose(0, 2, 1)
    lower = np.linalg.cholesky(v)
    upper = lower.transpose(0, 2, 1)
    inner = upper @ (v - x @ bread @ x.transpose(0, 2, 1)) @ lower
    values, vectors = np.linalg.eigh(inner)
    scored = values > _NO_SCORE * values[:, -1:]
    power = np.divide(1.0, np.sqrt(np.where(scored, values, 1.0))) * scored
    middle = (vectors * power[:, None]) @ vectors.transpose(0, 2, 1)
    h = lower @ middle @ upper @ np.linalg.solve(v, x)
    ht = h.transpose(0, 2, 1)
    return ht @ v @ h, x.transpose(0, 2, 1) @ h, (ht @ e[..., None])[..., 0]


def _span_products(problem: Problem, theta: Floats) -> tuple[Floats, Floats]:
    """U'R^-1U and U'R^-1y of each group, U = (X, Z, cell indicators)."""
    design = problem.design
    cells = residual_products(problem, theta[None]).products[0]
    total = cells.sum(axis=1)
    order = np.r_[design.x, design.z]
    p, a = len(order), cells.shape[1] * design.has_cells
    gram = np.zeros((len(cells), p + a, p + a))
    gram[:, :p, :p] = total[:, order[:, None], order]
    uy = np.zeros((len(cells), p + a))
    uy[:, :p] = total[:, order, -1]
    if a:
        rows = cells[:, :, 0]
        gram[:, p:, :p] = rows[..., order]
        gram[:, :p, p:] = gram[:, p:, :p].transpose(0, 2, 1)
        gram[:, range(p, p + a), range(p, p + a)] = rows[..., 0]
        uy[:, p:] = rows[..., -1]
    return gram, uy
