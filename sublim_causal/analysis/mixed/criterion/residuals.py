r"""Cross products in the metric of the residuals, :math:`W'R^{-1}W`, and their derivatives.

R has serial correlation :math:`\rho^{gap}` within runs, a variance for each level of a factor, or
neither. With serial correlation a row enters as its innovation: it minus :math:`\rho^{gap}` times
the row before, with variance :math:`1 - \rho^{2 gap}` (Pinheiro and Bates, 2000, section 5.3).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sublim_causal.analysis.estimates.types import Floats
from sublim_causal.analysis.mixed.criterion.parameters import Problem


@dataclass(frozen=True)
class Residuals:
    """Cross products in the residual's metric, and the derivatives they need.

    Attributes
    ----------
    products : ndarray of shape (1 or R, S, A, K, K)
        W'R^-1 W of each cell.
    logdet : ndarray of shape (1 or R, S)
        log|R| of each group.
    slopes : list of (ndarray, ndarray)
        For each residual parameter, the derivatives of both.
    """

    products: Floats
    logdet: Floats
    slopes: list[tuple[Floats, Floats]]


def residual_products(problem: Problem, theta: Floats) -> Residuals:
    """Cross products of every cell in the metric of its residual covariance."""
    design = problem.design
    products, slopes = design.parts[:1], []
    logdet = np.zeros((1, design.parts.shape[1]))
    if problem.serial:
        eta = theta[:, problem.serial_at]
        rho = problem.correlation(eta)
        by_eta = 1 - rho**2 if problem.residual == "ar1" else rho * (1 - rho)
        a, b, c = (design.parts[1 + i :: 3] for i in range(3))
        counts = a[..., 0, 0].sum(axis=-1)
        power = _powers(rho, design.gaps)
        power_slope = design.gaps * _powers(rho, design.gaps - 1) * by_eta[:, None]
        rest = 1 - power**2
        weights = np.stack([1 / rest, -power / rest, power**2 / rest])
        weight_slopes = np.stack([2 * power, -(1 + power**2), 2 * power]) / rest**2 * power_slope
        products = products + _mix(weights, (a, b, c))
        logdet = np.log(rest) @ counts
        slopes.append((_mix(weight_slopes, (a, b, c)), (-2 * power * power_slope / rest) @ counts))
    if len(design.variances) > 1:
        log_sd = np.pad(theta[:, problem.ratios_at :], ((0, 0), (1, 0)))
        inverse = np.exp(-2 * log_sd)[:, design.stratum][..., None, None]
        products = products * inverse
        slopes = [(product * inverse, slope) for product, slope in slopes]
        for level in range(1, len(design.variances)):
            here = design.stratum == level
            rows = 2 * (design.rows * here).sum(axis=1)
            slopes.append((-2 * products * here[..., None, None], rows[None]))
            logdet = logdet + rows * log_sd[:, level, None]
    return Residuals(products, logdet, slopes)


def _powers(rho: Floats, exponents: Floats) -> Floats:
    """rho^gap, also for negative rho, where gaps are whole numbers."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.power(rho[:, None], exponents)


def _mix(weights: Floats, parts: tuple[Floats, Floats, Floats]) -> Floats:
    return sum(
        (np.tensordot(w, part, axes=(1, 0)) for w, part in zip(weights, parts, strict=True)),
        start=np.zeros(()),
    )
