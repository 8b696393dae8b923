"""Variance components and predicted random effects at the fitted parameters."""

from __future__ import annotations

import numpy as np
import pandas as pd

from sublim_causal.analysis.estimates.types import Floats
from sublim_causal.analysis.mixed.criterion.parameters import Problem
from sublim_causal.analysis.mixed.criterion.reml import evaluate, reduce_random
from sublim_causal.analysis.mixed.criterion.residuals import residual_products

_SINGULAR = 1e-4
"""A relative standard deviation below this is on the boundary (lme4's tolerance)."""


def variance_components(
    problem: Problem, theta: Floats, sigma2: float, group: str, cell: str
) -> pd.DataFrame:
    """One row a variance or covariance: group, term1, term2, value in the data's units."""
    design = problem.design
    unit = sigma2 * design.y_scale**2
    lower = problem.factor(theta[None])[0]
    rows: list[tuple[str, str, str, float]] = []
    for block in design.blocks:
        root = block.back @ lower[block.columns, block.columns]
        psi = unit * root @ root.T
        names = block.terms
        rows += [(group, name, "", psi[i, i]) for i, name in enumerate(names)]
        rows += [
            (group, names[i], names[j], psi[i, j])
            for i in range(len(names))
            for j in range(i + 1, len(names))
        ]
    if design.has_cells:
        rows.append((f"{group}:{cell}", "Intercept", "", unit * theta[problem.n_cholesky] ** 2))
    rows.append(("Residual", "", "", unit))
    return pd.DataFrame(rows, columns=["group", "term1", "term2", "value"])


def is_singular(problem: Problem, theta: Floats) -> bool:
    """Whether a variance component is on the boundary."""
    lower = problem.factor(theta[None])[0]
    sizes = [
        np.linalg.svd(lower[block.columns, block.columns], compute_uv=False)
        for block in problem.design.blocks
    ]
    if problem.design.has_cells:
        sizes.append(np.abs(theta[problem.n_cholesky, None]))
    return any(size.min() < _SINGULAR for size in sizes)


def sd_ratios(problem: Problem, theta: Floats) -> pd.Series:
    """Residual standard deviations relative to the reference level's; empty when equal."""
    levels = problem.design.variances
    ratios = np.exp([0.0, *theta[problem.ratios_at :]])
    return pd.Series(ratios, levels)[: len(levels) if len(levels) > 1 else 0]


def random_effects(problem: Problem, theta: Floats, components: pd.DataFrame) -> pd.DataFrame:
    """Predicted random effects (BLUP): columns group, level, term, value.

    Psi Z'V^-1 e for groups, tau^2 1'V^-1 e for cells, e the residuals of Xb.
    """
    design = problem.design
    at = theta[None]
    found = evaluate(problem, at)
    reduced = reduce_random(problem, at, residual_products(problem, at))
    direction = np.zeros(design.parts.shape[-1])
    direction[design.x], direction[-1] = -found.coefficients[0], 1.0
    direction *= design.y_scale
    lower = problem.factor(at)[0]
    effects = reduced.u_rows[0] @ direction @ (lower @ lower.T)
    names = list(dict.fromkeys(components["group"]))
    levels = [str(level) for level in design.groups]
    parts = [
        _effects(names[0], levels, term, values)
        for block in design.blocks
        for term, values in zip(block.terms, block.back @ effects[:, block.columns].T, strict=True)
    ]
    if design.has_cells:
        rows = reduced.row_sums[0] * reduced.shrink[0][..., None]
        scores = rows - (rows[..., design.z] @ reduced.kernel[0]) @ reduced.z_rows[0]
        group, place = design.cells["group"].to_numpy(), design.cells["place"].to_numpy()
        cells = [f"{levels[g]}:{c}" for g, c in zip(group, design.cells["label"], strict=True)]
        values = theta[problem.n_cholesky] ** 2 * (scores @ direction)
        parts.append(_effects(names[-2], cells, "Intercept", values[group, place]))
    return pd.concat(parts, ignore_index=True)


def _effects(group: str, levels: list[str], term: str, values: Floats) -> pd.DataFrame:
    return pd.DataFrame({"group": group, "level": levels, "term": term, "value": values})
