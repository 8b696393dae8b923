r"""REML and ML criterion of a mixed model from cross products, and its gradient.

Everything is batched over R parameter vectors (bootstrap replicates, difference steps).
With Q_c the cell's inverse covariance, :math:`Q_c = S_c - \tau^2/(1+\tau^2 n_c) s_c s_c'` in cross
products, and per group :math:`A = \sum_c Q_c`, :math:`M = I + A_{zz}\Psi`,

.. math::
   D = \sum_i m_i \Big[\log|M_i| + \sum_c \log(1 + \tau^2 n_c) + \log|R_i|\Big]
       + \log|X'V^{-1}X| + \nu\,[1 + \log(2\pi r^2/\nu)]

(ML: without :math:`\log|X'V^{-1}X|`, :math:`\nu = n`). :math:`\Psi = LL'` with L free of sign, so
that a variance of 0 is an interior point. See Bates et al. (2015), doi:10.18637/jss.v067.i01.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sublim_causal.analysis.estimates.types import Floats
from sublim_causal.analysis.mixed.criterion.parameters import Problem
from sublim_causal.analysis.mixed.criterion.residuals import Residuals, residual_products


@dataclass(frozen=True)
class Reduced:
    """The model with random effects eliminated, for R parameter vectors.

    Attributes
    ----------
    row_sums : ndarray of shape (1 or R, S, A, K)
        1'R^-1 W of each cell; its first entry stands for the number of rows.
    shrink : ndarray of shape (R, S, A)
        1 / (1 + tau^2 n).
    z_rows : ndarray of shape (R, S, Q, K)
        Z'Q W: cell intercepts eliminated.
    u_rows : ndarray of shape (R, S, Q, K)
        Z'V^-1 W.
    kernel : ndarray of shape (R, S, Q, Q)
        Psi M^-1: V^-1 = Q - Q Z kernel Z'Q.
    logdet : ndarray of shape (R, S)
        log|V| of each group, without sigma2.
    """

    row_sums: Floats
    shrink: Floats
    z_rows: Floats
    u_rows: Floats
    kernel: Floats
    logdet: Floats


def reduce_random(problem: Problem, theta: Floats, residuals: Residuals) -> Reduced:
    """Eliminate cell intercepts, then the random effects of the group."""
    design = problem.design
    lower = problem.factor(theta)
    psi = lower @ lower.transpose(0, 2, 1)
    row_sums = residuals.products[..., 0, :]
    n = row_sums[..., 0]
    tau2 = theta[:, problem.n_cholesky] ** 2 if design.has_cells else np.zeros(len(theta))
    spread = 1 + tau2[:, None, None] * n
    shrink = 1 / spread
    logdet = np.log(spread).sum(axis=2) + residuals.logdet
    z_rows = np.repeat(
        residuals.products[:, :, :, design.z].sum(axis=2),
        len(theta) // len(residuals.products),
        axis=0,
    )
    if design.has_cells:
        weight = tau2[:, None, None] * shrink
        for a in range(n.shape[2]):
            row = row_sums[:, :, a]
            outer = row[..., design.z, None] * row[..., None, :]
            z_rows -= weight[:, :, a, None, None] * outer
    zz = z_rows[..., design.z]
    m = np.eye(design.q) + zz @ psi[:, None]
    inverse, log_m = _inverse_logdet(m)
    return Reduced(
        row_sums, shrink, z_rows, inverse @ z_rows, psi[:, None] @ inverse, logdet + log_m
    )


def _inverse_logdet(m: Floats) -> tuple[Floats, Floats]:
    """Inverse and log determinant of many small matrices; two rows in closed form."""
    if m.shape[-1] == 0:
        return m, np.zeros(m.shape[:-2])
    if m.shape[-1] > 2:
        return np.asarray(np.linalg.inv(m), dtype=float), np.asarray(np.linalg.slogdet(m)[1])
    if m.shape[-1] == 1:
        return 1 / m, np.log(m[..., 0, 0])
    determinant = m[..., 0, 0] * m[..., 1, 1] - m[..., 0, 1] * m[..., 1, 0]
    adjugate = np.empty_like(m)
    adjugate[..., 0, 0], adjugate[..., 1, 1] = m[..., 1, 1], m[..., 0, 0]
    adjugate[..., 0, 1], adjugate[..., 1, 0] = -m[..., 0, 1], -m[..., 1, 0]
    return adjugate / determinant[..., None, None], np.log(determinant)


@dataclass(frozen=True)
class Criterion:
    """Criterion, gradient and estimates for R parameter vectors.

    Attributes
    ----------
    criterion : ndarray of shape (R,)
        D, in scaled units; infinite where it cannot be computed.
    gradient : ndarray of shape (R, n_theta)
        dD/dtheta.
    xx_inverse : ndarray of shape (R, P, P)
        (X'V^-1X)^-1.
    coefficients : ndarray of shape (R, P)
        Generalised least squares.
    sigma2 : ndarray of shape (R,)
        Residual variance r^2 / nu.
    """

    criterion: Floats
    gradient: Floats
    xx_inverse: Floats
    coefficients: Floats
    sigma2: Floats


def evaluate(problem: Problem, theta: Floats, sigma2: Floats | None = None) -> Criterion:
    """Criterion and gradient.

    Parameters
    ----------
    problem : Problem
        Model and data.
    theta : ndarray of shape (R, n_theta)
        Parameters.
    sigma2 : ndarray of shape (R,), optional
        Fix the residual variance; default: profile it out.
    """
    with np.errstate(all="ignore"):
        return _evaluate(problem, theta, sigma2)


def _evaluate(problem: Problem, theta: Floats, sigma2: Floats | None) -> Criterion:
    design = problem.design
    residuals = residual_products(problem, theta)
    reduced = reduce_random(problem, theta, residuals)
    r, k = len(theta), design.parts.shape[-1]
    nu = design.n_obs - design.p if problem.reml else design.n_obs

    total = _total(problem, theta, residuals, reduced)
    xx, xy, yy = total[:, design.x, design.x], total[:, design.x, -1], total[:, -1, -1]
    xx_inverse: Floats = np.asarray(np.linalg.inv(xx), dtype=float)
    b = (xx_inverse @ xy[..., None])[..., 0]
    r2 = yy - (b * xy).sum(axis=1)
    variance = r2 / nu if sigma2 is None else sigma2
    criterion = reduced.logdet.sum(axis=1)
    criterion = criterion + nu * np.log(2 * np.pi * variance) + r2 / variance
    if problem.reml:
        criterion = criterion + np.linalg.slogdet(xx)[1]

    # dD = tr(P dW) for a change dW of the total cross products W'V^-1W.
    p = np.zeros((r, k, k))
    if problem.reml:
        p[:, design.x, design.x] = xx_inverse
    direction = np.zeros((r, k))
    direction[:, design.x], direction[:, -1] = -b, 1.0
    p += direction[:, :, None] * direction[:, None, :] / variance[:, None, None]
    gradient = _gradient(problem, theta, residuals, reduced, p)
    bad = ~(np.isfinite(criterion) & np.isfinite(gradient).all(axis=1) & (r2 > 0))
    return Criterion(
        np.where(bad, np.inf, criterion),
        np.where(bad[:, None], 0.0, gradient),
        xx_inverse,
        b,
        variance,
    )


def _total(problem: Problem, theta: Floats, residuals: Residuals, reduced: Reduced) -> Floats:
    """Sum over groups of W'V^-1W, shape (R, K, K)."""
    design = problem.design
    r, s, a = reduced.shrink.shape
    k = design.parts.shape[-1]
    by_group = residuals.products.sum(axis=2).reshape(-1, s, k * k)
    # Not `sum`: a product with ones is several times as fast.
    shared = len(by_group) == 1
    total = np.ones((r, s)) @ by_group[0] if shared else np.ones((1, s)) @ by_group
    total = total.reshape(r, k, k)
    if design.has_cells:
        tau2 = theta[:, problem.n_cholesky] ** 2
        weight = tau2[:, None, None] * reduced.shrink
        rows = reduced.row_sums.reshape(-1, s * a, k)
        total -= rows.transpose(0, 2, 1) @ (rows * weight.reshape(r, s * a, 1))
    left = reduced.z_rows.reshape(r, -1, k)
    lower = problem.factor(theta)
    psi = lower @ lower.transpose(0, 2, 1)
    right = (psi[:, None] @ reduced.u_rows).reshape(r, -1, k)
    return total - left.transpose(0, 2, 1) @ right


def _gradient(
    problem: Problem, theta: Floats, residuals: Residuals, reduced: Reduced, p: Floats
) -> Floats:
    design = problem.design
    r, s, a = reduced.shrink.shape
    k = p.shape[-1]
    gradient = np.empty((r, problem.n_theta))
    if design.q:
        u = reduced.u_rows
        up = (u.reshape(r, -1, k) @ p).reshape(u.shape)
        curvature = np.empty((r, design.q, design.q))
        for i in range(design.q):
            for j in range(design.q):
                quadratic = (up[:, :, i] * u[:, :, j]).sum(axis=-1)
                curvature[:, i, j] = (u[:, :, i, 1 + j] - quadratic).sum(axis=1)
        by_factor = 2 * curvature @ problem.factor(theta)
        gradient[:, : problem.n_cholesky] = by_factor[:, problem.entries[0], problem.entries[1]]
    if design.has_cells:
        rows = reduced.row_sums
        z = rows[..., design.z]
        shifted = np.broadcast_to(rows, (r, s, a, k)).copy()
        through = np.zeros((r, s, a))
        for j in range(design.q):
            hat = np.zeros((r, s, a))
            for i in range(design.q):
                hat += z[..., i] * reduced.kernel[:, :, None, i, j]
            shifted -= hat[..., None] * reduced.z_rows[:, :, None, j]
            through += hat * z[..., j]
        left = (shifted.reshape(r, -1, k) @ p).reshape(shifted.shape)
        quadratic = (left * shifted).sum(axis=-1) + through
        change = rows[..., 0] * reduced.shrink - reduced.shrink**2 * quadratic
        tau = theta[:, problem.n_cholesky]
        gradient[:, problem.n_cholesky] = 2 * tau * change.sum(axis=(1, 2))
    if residuals.slopes:
        gradient[:, problem.serial_at :] = _residual_gradient(problem, theta, residuals, reduced, p)
    return gradient


def _residual_gradient(
    problem: Problem, theta: Floats, residuals: Residuals, reduced: Reduced, p: Floats
) -> Floats:
    """Chain rule through the cells' cross products F: dD = sum_c tr(B_c dF_c)."""
    design = problem.design
    k = p.shape[-1]
    spread = np.zeros((*reduced.kernel.shape[:2], k, k))
    spread[:, :, design.z] = reduced.kernel @ reduced.z_rows
    j = np.eye(k) - spread
    adjoint = j @ p[:, None] @ j.transpose(0, 1, 3, 2)
    adjoint[:, :, design.z, design.z] += reduced.kernel
    rows = reduced.row_sums
    tau2 = theta[:, problem.n_cholesky] ** 2 if design.has_cells else np.zeros(len(theta))
    w = tau2[:, None, None] * reduced.shrink
    hat = rows @ adjoint
    quadratic = (hat * rows).sum(axis=-1)
    columns = []
    for slope, logdet_slope in residuals.slopes:
        through = (adjoint[:, :, None] * slope).sum(axis=(-2, -1))
        through -= 2 * w * (hat * slope[..., 0, :]).sum(axis=-1)
        through += (w**2 * quadratic + w) * slope[..., 0, 0]
        columns.append((through.sum(axis=2) + logdet_slope).sum(axis=1))
    return np.stack(columns, axis=1)
