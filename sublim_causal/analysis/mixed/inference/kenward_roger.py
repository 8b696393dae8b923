"""Covariance and degrees of freedom of coefficients by Kenward and Roger (1997)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sublim_causal.analysis.estimates.types import Floats
from sublim_causal.analysis.mixed.criterion.parameters import Problem
from sublim_causal.analysis.mixed.criterion.reml import evaluate, reduce_random
from sublim_causal.analysis.mixed.criterion.residuals import residual_products


@dataclass(frozen=True)
class KenwardRoger:
    """Kenward and Roger's (1997) adjusted covariance and df, for contrasts of one dimension.

    Attributes
    ----------
    vcov : ndarray of shape (P, P)
        Adjusted covariance.
    phi : ndarray of shape (P, P)
        Unadjusted covariance.
    first : ndarray of shape (N, P, P)
        -X'V^-1 G_r V^-1X for each variance parameter.
    spread : ndarray of shape (N, N)
        Covariance of the variance parameters: the inverse expected REML information.
    """

    vcov: Floats
    phi: Floats
    first: Floats
    spread: Floats

    def df(self, contrast: Floats) -> float:
        """Degrees of freedom 2 / A1; for one dimension the F scaling is 1."""
        c = self.phi @ contrast
        g = self.first @ c @ c
        v = contrast @ c
        return float(2 * v**2 / (g @ self.spread @ g))


def kenward_roger(problem: Problem, theta: Floats) -> KenwardRoger:
    r"""Kenward-Roger terms from U'V^-1U and U'V^-1X alone, U = (Z, cell indicators).

    In units with sigma2 = 1, V = I + sum psi_r G_r with G_r = U E_r U'; the residual's own
    terms follow from V^-1 = I - sum psi_r V^-1 G_r.
    """
    design = problem.design
    here = evaluate(problem, theta[None])
    phi = here.xx_inverse[0]
    patterns, psi = covariance_patterns(problem, theta)
    uu, ux = _random_products(problem, theta)
    n, p = len(patterns), len(phi)
    euu = [e @ uu for e in patterns]
    eux = [e @ ux for e in patterns]
    transposed = ux.transpose(0, 2, 1)

    traces = np.array([np.trace(m, axis1=1, axis2=2).sum() for m in euu])
    first = np.zeros((n + 1, p, p))
    second = np.zeros((n + 1, n + 1, p, p))
    double = np.zeros((n + 1, n + 1))
    for r in range(n):
        first[r] = -(transposed @ eux[r]).sum(axis=0)
        left = transposed @ patterns[r] @ uu
        for s in range(n):
            second[r, s] = (left @ eux[s]).sum(axis=0)
            double[r, s] = (euu[r] * euu[s].transpose(0, 2, 1)).sum()
    first[n] = -(np.linalg.inv(phi) + np.tensordot(psi, first[:n], axes=1))
    for r in range(n):
        rest = -first[r] - np.tensordot(psi, second[r, :n], axes=1)
        second[r, n], second[n, r] = rest, rest.T
        double[r, n] = double[n, r] = traces[r] - psi @ double[r, :n]
    second[n, n] = -first[n] - np.tensordot(psi, second[:n, n], axes=1)
    own_trace = design.n_obs - psi @ traces
    double[n, n] = own_trace - psi @ double[n, :n]

    pp = first @ phi
    information = double - 2 * np.einsum("ij,rsji->rs", phi, second)
    information = (information + np.einsum("rij,sji->rs", pp, pp)) / 2
    spread = np.linalg.pinv((information + information.T) / 2, hermitian=True)
    inner = np.einsum("rs,rsij->ij", spread, second)
    inner -= np.einsum("rs,rij,sjk->ik", spread, pp, first)
    sigma2 = here.sigma2[0]
    return KenwardRoger(sigma2 * (phi + 2 * phi @ inner @ phi), phi, first, spread)


def covariance_patterns(problem: Problem, theta: Floats) -> tuple[Floats, Floats]:
    """E_r for each variance parameter, and the parameters' values relative to sigma2."""
    design = problem.design
    size = design.q + design.parts.shape[2] * design.has_cells
    lower = problem.factor(theta[None])[0]
    covariance = lower @ lower.T
    patterns, values = [], []
    for i, j in zip(*problem.entries, strict=True):
        pattern = np.zeros((size, size))
        pattern[i, j] = pattern[j, i] = 1.0
        patterns.append(pattern)
        values.append(covariance[i, j])
    if design.has_cells:
        patterns.append(np.diag(np.repeat([0.0, 1.0], [design.q, size - design.q])))
        values.append(theta[problem.n_cholesky] ** 2)
    return np.array(patterns).reshape(-1, size, size), np.array(values)


def _random_products(problem: Problem, theta: Floats) -> tuple[Floats, Floats]:
    """U'V^-1U and U'V^-1X of each group."""
    design = problem.design
    at = theta[None]
    reduced = reduce_random(problem, at, residual_products(problem, at))
    z_part = reduced.u_rows[0]
    if not design.has_cells:
        return z_part[..., design.z], z_part[..., design.x]
    rows = reduced.row_sums[0] * reduced.shrink[0][..., None]
    through = rows[..., design.z] @ reduced.kernel[0]
    cell_part = rows - through @ reduced.z_rows[0]
    both = np.concatenate([z_part, cell_part], axis=1)
    q, a = design.q, rows.shape[1]
    uu = np.empty((len(rows), q + a, q + a))
    uu[:, :, :q] = both[..., design.z]
    uu[:, :q, q:] = uu[:, q:, :q].transpose(0, 2, 1)
    uu[:, q:, q:] = -through @ rows[..., design.z].transpose(0, 2, 1)
    uu[:, range(q, q + a), range(q, q + a)] += rows[..., 0]
    return uu, both[..., design.x]
