"""From cross products to the likelihood's input: coded, scaled, aliasing resolved, by group."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import linalg

from sublim_causal.analysis.estimates.types import Floats
from sublim_causal.analysis.mixed.design.cells import (
    cell_keys,
    factor_combinations,
    group_cells,
    ordered_levels,
    residual_variances,
)
from sublim_causal.analysis.mixed.design.crossproducts import CrossProducts
from sublim_causal.analysis.mixed.formula.coding import Coding, code_terms
from sublim_causal.analysis.mixed.formula.terms import MixedFormula
from sublim_causal.errors import DataError

_ALIASED = 1e-7
"""Share of a column's length that must be left after the columns before it (lme4's tolerance)."""
_NOTHING = 1e-14
"""Share of the length expected of a column's units below which the rest is rounding."""
_EXACT = 1e-6
"""Share of the outcome's standard deviation that sums of squares resolve: the root of 1e-12."""
_ROUNDING = 1e-14
"""Share of a number below which a difference from it is rounding."""


@dataclass(frozen=True)
class RandomBlock:
    """One correlated block of random effects of the group.

    Attributes
    ----------
    terms : tuple of str
        Names of its columns.
    columns : slice
        Their places among the Q random-effect columns.
    back : ndarray
        Raw effects are ``back @ scaled effects``.
    """

    terms: tuple[str, ...]
    columns: slice
    back: Floats


@dataclass(frozen=True)
class ModelDesign:
    """Cross products of the rows ``(1, Z, X, y)``, scaled, by group and cell.

    Attributes
    ----------
    parts : ndarray of shape (J, S, A, K, K)
        Components of `CrossProducts.parts` for the A cells of each of S groups, K = 1+Q+P+1;
        absent cells are 0. Columns are scaled so that X'X/n = I and, in each block, Z'Z/n = I;
        y is the residual of least squares, with mean square 1.
    gaps : ndarray of shape (G,)
        Distinct time gaps.
    stratum : ndarray of shape (S, A)
        Index of the residual variance of each cell.
    blocks : tuple of RandomBlock
        Random effects of the group.
    has_cells : bool
        Whether cells have a random intercept.
    names, aliased : tuple of str
        Coefficients kept, and those dropped because others determine them.
    back : ndarray of shape (P, P)
        Raw coefficients are ``offset + y_scale * back @ scaled coefficients``.
    offset : ndarray of shape (P,)
        Least-squares coefficients.
    y_scale : float
        Root mean square of the least-squares residual, in the outcome's unit.
    resolution : float
        Size below which a residual is rounding, in the outcome's unit.
    groups : list
        Labels of the groups.
    cells : DataFrame
        Group position, cell position and label of each cell.
    variances : tuple of str
        Levels of the factor of residual variances, reference first; one when they are equal.
    references : dict of str to str
        Reference level of each factor.
    n_obs : int
        Rows.
    """

    parts: Floats
    gaps: Floats
    stratum: NDArray[np.int64]
    blocks: tuple[RandomBlock, ...]
    has_cells: bool
    names: tuple[str, ...]
    aliased: tuple[str, ...]
    back: Floats
    offset: Floats
    y_scale: float
    resolution: float
    groups: list[object]
    cells: pd.DataFrame
    variances: tuple[str, ...]
    references: dict[str, str]
    n_obs: int

    @property
    def q(self) -> int:
        """Number of random-effect columns of a group."""
        return sum(len(block.terms) for block in self.blocks)

    @property
    def p(self) -> int:
        """Number of coefficients."""
        return len(self.names)

    @property
    def z(self) -> slice:
        """Places of Z in a row."""
        return slice(1, 1 + self.q)

    @property
    def x(self) -> slice:
        """Places of X in a row."""
        return slice(1 + self.q, 1 + self.q + self.p)

    @property
    def cross_products(self) -> Floats:
        """Cross products of the rows of each cell whatever their correlation, (S, A, K, K)."""
        return self.parts[0] + self.parts[1::3].sum(axis=0)

    @property
    def rows(self) -> Floats:
        """Rows of each cell, shape (S, A); for serial correlation, of each run."""
        first = self.parts[0, :, :, 0, 0]
        return first + self.parts[1::3, :, :, 0, 0].sum(axis=0)


def build_design(
    products: CrossProducts, formula: MixedFormula, *, arm_variances: bool = False
) -> ModelDesign:
    """Code, scale and arrange `products` for `formula`.

    Raises
    ------
    DataError
        If there is one group only, a random-effect column is determined by others, the outcome
        is fitted exactly, or a serial-correlation factor varies within a run.
    RequestError
        If `arm_variances` is asked for and there is no factor to carry them.
    """
    labels, references = ordered_levels(products.labels, formula.references)
    factors = formula.factors
    combination, combinations = factor_combinations(labels[factors])
    raw = _raw_map(products)
    total = products.parts[0] + products.parts[1::3].sum(axis=0)
    roots = _roots(total, combination, len(combinations))

    fixed = code_terms(formula.fixed, combinations, formula.products)
    stack = _stack(roots, fixed, raw)
    outcome = np.concatenate([r @ raw[-1] for r in roots])
    kept = _independent(roots, fixed, raw)
    q, r = np.linalg.qr(stack[:, kept])
    n = products.n_obs
    back = np.asarray(linalg.solve_triangular(r, np.eye(len(kept)))) * np.sqrt(n)
    offset = back @ (q.T @ outcome) / np.sqrt(n)
    y_scale = float(np.linalg.norm(outcome - stack[:, kept] @ offset)) / np.sqrt(n)
    resolution = _outcome_resolution(total, raw)
    if y_scale <= resolution:
        raise fitted_exactly(formula.outcome, y_scale)

    blocks, z_maps = _blocks(formula, combinations, roots, raw, n)
    x_maps = back.T @ fixed.maps[:, kept] @ raw
    y_maps = (raw[-1] - offset @ fixed.maps[:, kept] @ raw) / y_scale
    constant = np.zeros((len(combinations), 1, len(raw)))
    constant[:, 0, 0] = 1.0
    maps = np.concatenate([constant, z_maps, x_maps, y_maps[:, None]], axis=1)
    strata = np.empty((*products.parts.shape[:2], maps.shape[1], maps.shape[1]))
    for u, rows in enumerate(maps):
        chosen = combination == u
        strata[:, chosen] = rows @ products.parts[:, chosen] @ rows.T

    keys = cell_keys(formula, arm_variances, bool(len(products.gaps)))
    cells = group_cells(labels, keys, formula)
    parts = np.zeros((len(strata), *cells.shape, *strata.shape[2:]))
    for part, component in zip(parts, strata, strict=True):
        np.add.at(part, (cells.group, cells.place), component)
    if len(products.gaps) and cells.count < len(labels):
        raise DataError(
            "a factor varies within a run, which serial correlation does not allow; "
            "make numeric 0/1 columns of it"
        )
    variances, stratum = residual_variances(labels, cells, formula, arm_variances)
    names = fixed.names
    return ModelDesign(
        parts=parts,
        gaps=products.gaps,
        stratum=stratum,
        blocks=blocks,
        has_cells=bool(formula.cell),
        names=tuple(names[i] for i in kept),
        aliased=tuple(name for i, name in enumerate(names) if i not in kept),
        back=back,
        offset=offset,
        y_scale=y_scale,
        resolution=resolution,
        groups=cells.groups,
        cells=cells.table,
        variances=variances,
        references={name: references[name] for name in factors},
        n_obs=n,
    )


def _outcome_resolution(total: Floats, raw: Floats) -> float:
    """Size below which a residual of the outcome is rounding."""
    products = total.sum(axis=0)
    n = products[0, 0]
    mean = float(products[0] @ raw[-1] / n)
    centred = raw[-1].copy()
    centred[0] -= mean
    variance = max(float(centred @ products @ centred) / n, 0.0)
    return max(_EXACT * np.sqrt(variance), _ROUNDING * abs(mean))


def fitted_exactly(outcome: str, left: float) -> DataError:
    """Return the error that says that what is `left` of the outcome is rounding."""
    return DataError(
        f"{outcome} is fitted exactly: the residual, {left:.1g}, is rounding, so that "
        "no effect has a standard error"
    )


def _raw_map(products: CrossProducts) -> Floats:
    """Raw base columns in terms of the shifted and scaled ones."""
    raw = np.diag(products.scale)
    raw[:, 0] += products.shift
    return raw


def _roots(total: Floats, combination: NDArray[np.int64], count: int) -> list[Floats]:
    """Square roots of the cross products of each combination: a few rows with the same products.

    A QR of these rows is a QR of the data, so that the condition number is not squared.
    """
    roots = []
    for u in range(count):
        values, vectors = np.linalg.eigh(total[combination == u].sum(axis=0))
        roots.append(np.sqrt(np.maximum(values, 0.0))[:, None] * vectors.T)
    return roots


def _stack(roots: list[Floats], coding: Coding, raw: Floats) -> Floats:
    """Rows whose cross products are those of the data's design matrix."""
    return np.concatenate([r @ raw.T @ c.T for r, c in zip(roots, coding.maps, strict=True)])


def _independent(roots: list[Floats], coding: Coding, raw: Floats) -> list[int]:
    """Columns not determined by those before them: QR whose pivots keep the formula's order.

    A column is measured against its length without cancellation, so that one that is constantly
    0 but for rounding is dropped; never against other columns, whose units may be any.
    """
    rows = _stack(roots, coding, raw)
    absolute = Coding(coding.names, np.abs(coding.maps))
    lengths = np.linalg.norm(_stack([np.abs(r) for r in roots], absolute, np.abs(raw)), axis=0)
    counts = [np.linalg.norm(root[:, 0]) for root in roots]
    typical = absolute.maps @ np.abs(raw).sum(axis=1)
    sizes = np.linalg.norm(np.array(counts)[:, None] * typical, axis=0)
    kept: list[int] = []
    basis = np.zeros((len(rows), 0))
    for j, column in enumerate(rows.T):
        rest = column - basis @ (basis.T @ column)
        rest -= basis @ (basis.T @ rest)
        left = float(np.linalg.norm(rest))
        if left > max(_ALIASED * lengths[j], _NOTHING * sizes[j]):
            kept.append(j)
            basis = np.column_stack([basis, rest / left])
    return kept


def _blocks(
    formula: MixedFormula, combinations: pd.DataFrame, roots: list[Floats], raw: Floats, n: int
) -> tuple[tuple[RandomBlock, ...], Floats]:
    """Random-effect blocks and their row maps, orthonormal within each block."""
    blocks, maps, start = [], [np.zeros((len(combinations), 0, len(raw)))], 0
    for terms in formula.blocks:
        coding = code_terms(terms, combinations, formula.products)
        stack = _stack(roots, coding, raw)
        if len(_independent(roots, coding, raw)) < stack.shape[1]:
            raise DataError(
                f"the random effects {', '.join(coding.names)} of {formula.group} are not "
                "distinguishable in these data: a column is constant, repeats another, or varies "
                "by less than a ten-millionth of its size (subtract its mean)"
            )
        r = np.linalg.qr(stack, mode="r")
        back = np.asarray(linalg.solve_triangular(r, np.eye(len(r)))) * np.sqrt(n)
        maps.append(back.T @ coding.maps @ raw)
        blocks.append(RandomBlock(coding.names, slice(start, start + len(back)), back))
        start += len(back)
    return tuple(blocks), np.concatenate(maps, axis=1)
