r"""Whether the data identify the variance components of a model.

The covariance of the rows is linear in them, :math:`V = \sum_r \theta_r G_r`, with
:math:`G = Z E Z'` for an entry of a block's covariance, the indicator of rows of one cell, and
the identity (or that of the rows with one residual variance). After the fixed effects, with
:math:`M = I - X(X'X)^{-1}X'`, they are distinguishable if and only if no combination of the
:math:`M G_r M` is 0: if their Gram matrix :math:`tr(M G_r M G_s)` is regular.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sublim_causal.analysis.mixed.design.model import ModelDesign, fitted_exactly
from sublim_causal.errors import DataError

_SAME = 1e-10
"""Squared sine of an angle between covariance patterns that is rounding."""
_DEPENDENT = 1e-9
"""Eigenvalues of a group's cross products below this share of the largest are rounding."""


def validate_identifiable(design: ModelDesign, group: str, cell: str) -> None:
    """Refuse a model whose variance components the rows do not identify.

    Raises
    ------
    DataError
        If there are as many random effects as rows, a random effect does not vary within groups,
        or components are confounded with each other or with the fixed effects.
    """
    _validate_counts(design, group, cell)
    _validate_variation(design, group)
    names = [*_entry_names(design, group)]
    names += [f"the variance of {group}:{cell}"] if design.has_cells else []
    names += [
        f"the residual variance{f' of {level}' if level else ''}" for level in design.variances
    ]
    raw, gram = gram_matrices(design)
    own = np.diag(gram)
    lost = np.flatnonzero(own <= _SAME * np.diag(raw))
    if lost.size:
        _refuse([names[i] for i in lost], "from the fixed effects")
    scaled = gram / np.sqrt(np.outer(own, own))
    values, vectors = np.linalg.eigh(scaled)
    if values[0] <= _SAME:
        mixed = np.abs(vectors[:, 0]) > 1e-3 * np.abs(vectors[:, 0]).max()
        _refuse([name for name, used in zip(names, mixed, strict=True) if used], "apart")


def validate_residual(design: ModelDesign, outcome: str) -> None:
    """Refuse an outcome that fixed effects, groups and cells fit exactly, up to rounding.

    Raises
    ------
    DataError
        If the outcome is fitted exactly.
    """
    cells = design.cross_products
    if design.has_cells:
        cells = _eliminate(cells, slice(0, 1))
    groups = _eliminate(cells.sum(axis=1), design.z)
    rest = _eliminate(groups.sum(axis=0), design.x)[-1, -1]
    left = design.y_scale * float(np.sqrt(max(rest, 0.0) / design.n_obs))
    if left <= design.resolution:
        raise fitted_exactly(outcome, left)


def _eliminate(products: np.ndarray, columns: slice) -> np.ndarray:
    """Cross products of the residuals of a regression on `columns`, shape (..., K, K)."""
    values, vectors = np.linalg.eigh(products[..., columns, columns])
    kept = values > _DEPENDENT * values.max(axis=-1, keepdims=True, initial=0.0)
    inverse = np.divide(1.0, values, out=np.zeros_like(values), where=kept)
    loadings = np.swapaxes(vectors, -1, -2) @ products[..., columns, :]
    return products - np.swapaxes(loadings * inverse[..., None], -1, -2) @ loadings


def _refuse(names: Sequence[str], what: str) -> None:
    raise DataError(
        f"these data cannot tell {', '.join(names)} {what}; drop a random term, or have more rows "
        "where they differ"
    )


def _validate_counts(design: ModelDesign, group: str, cell: str) -> None:
    cells = design.cross_products
    count, what = 0, [term for block in design.blocks for term in block.terms]
    size = np.trace(cells.sum(axis=1)[:, design.z, design.z], axis1=1, axis2=2)
    if design.has_cells:
        count += int((cells[..., 0, 0] > 0).sum())
        cells = _eliminate(cells, slice(0, 1))
    if design.q:
        values = np.linalg.eigvalsh(cells.sum(axis=1)[:, design.z, design.z])
        count += int((values > _DEPENDENT * size[:, None]).sum())
    if count >= design.n_obs:
        by = [f"{', '.join(what)} by {group}"] * bool(what)
        by += [f"{group}:{cell}"] * design.has_cells
        raise DataError(
            f"{count} random effects ({' and '.join(by)}) for {design.n_obs} rows cannot be told "
            "from the residual; drop a random term, or have more rows"
        )


def _validate_variation(design: ModelDesign, group: str) -> None:
    """Each random effect must differ from the others within two groups at least."""
    if not design.q:
        return
    back = np.zeros((design.q, design.q))
    for block in design.blocks:
        back[block.columns, block.columns] = block.back
    # Lengths of the raw columns: rows of the inverse, as the scaled ones have length 1.
    lengths = np.linalg.norm(np.linalg.inv(back), axis=0)
    zz = design.cross_products.sum(axis=1)[:, design.z, design.z]
    values, vectors = np.linalg.eigh(zz)
    null = values <= _DEPENDENT * values[:, -1:]
    loadings = np.abs(back @ vectors) * lengths[:, None]
    size = loadings.max(axis=1, keepdims=True)
    determined = ((loadings > 1e-6 * size) & null[:, None, :]).any(axis=2)
    places = np.flatnonzero((~determined).sum(axis=0) < 2)
    if places.size:
        terms = [term for block in design.blocks for term in block.terms]
        raise DataError(
            f"{terms[places[-1]]} does not vary within enough levels of {group} beside the other "
            "random effects: it cannot have a random effect of its own"
        )


def _entry_names(design: ModelDesign, group: str) -> list[str]:
    names = []
    for block in design.blocks:
        for i, one in enumerate(block.terms):
            for other in block.terms[: i + 1]:
                names.append(
                    f"the variance of {one} by {group}"
                    if one == other
                    else f"the covariance of {other} and {one} by {group}"
                )
    return names


def _patterns(design: ModelDesign) -> np.ndarray:
    """E of each entry of the groups' covariance, shape (N, Q, Q)."""
    found = []
    for block in design.blocks:
        for i in range(block.columns.start, block.columns.stop):
            for j in range(block.columns.start, i + 1):
                pattern = np.zeros((design.q, design.q))
                pattern[i, j] = pattern[j, i] = 1.0
                found.append(pattern)
    return np.array(found).reshape(len(found), design.q, design.q)


def gram_matrices(design: ModelDesign) -> tuple[np.ndarray, np.ndarray]:
    """tr(G_r G_s) and tr(M G_r M G_s) of entries, cells and residual variances."""
    cells = design.cross_products
    groups = cells.sum(axis=1)
    e = _patterns(design)
    n_entries, q = len(e), design.q
    size = n_entries + design.has_cells + len(design.variances)
    plain, through = np.zeros((size, size)), np.zeros((size, size))
    products = np.zeros((size, design.p, design.p))

    zz, zx = groups[:, design.z, design.z], groups[:, design.z, design.x]
    flat = zz.reshape(len(zz), q * q)
    both = (zx @ zx.transpose(0, 2, 1)).reshape(len(zz), q * q)
    plain[:n_entries, :n_entries] = _traces(e, flat, flat, e)
    through[:n_entries, :n_entries] = _traces(e, flat, both, e)
    outer = np.tensordot(zx, zx, axes=(0, 0))
    products[:n_entries] = np.einsum("nab,axby->nxy", e, outer)

    rows, z_rows, x_rows = cells[..., 0, 0], cells[..., 0, design.z], cells[..., 0, design.x]
    if design.has_cells:
        c = n_entries
        plain[c, c] = (rows**2).sum()
        through[c, c] = (rows[..., None] * x_rows**2).sum()
        products[c] = np.tensordot(x_rows, x_rows, axes=([0, 1], [0, 1]))
        plain[c, :c] = np.einsum("nab,sca,scb->n", e, z_rows, z_rows, optimize=True)
        seen = x_rows @ zx.transpose(0, 2, 1)
        through[c, :c] = np.einsum("nab,sca,scb->n", e, z_rows, seen, optimize=True)
    for level in range(len(design.variances)):
        k = size - len(design.variances) + level
        here = design.stratum == level
        own = (cells * here[..., None, None]).sum(axis=1)
        total = own.sum(axis=0)
        plain[k, k] = total[0, 0]
        products[k] = total[design.x, design.x]
        through[k, k] = np.trace(products[k])
        plain[k, :n_entries] = np.einsum("nab,ab->n", e, total[design.z, design.z])
        shared = np.tensordot(zx, own[:, design.z, design.x], axes=([0, 2], [0, 2]))
        through[k, :n_entries] = np.einsum("nab,ab->n", e, shared)
        if design.has_cells:
            plain[k, n_entries] = (rows * here).sum()
            through[k, n_entries] = ((x_rows**2).sum(axis=-1) * here).sum()
    plain, through = (np.tril(m) + np.tril(m, -1).T for m in (plain, through))
    # X'X is the number of rows times the identity: see `ModelDesign.parts`.
    n, projected = design.n_obs, products.reshape(size, -1)
    gram = plain - 2 * through / n + projected @ projected.T / n**2
    return plain, gram


def _traces(e: np.ndarray, one: np.ndarray, other: np.ndarray, f: np.ndarray) -> np.ndarray:
    """Sum over groups of tr(E A F B), shape (N, N), from A and B of shape (S, Q * Q)."""
    q = e.shape[-1]
    joint = (one.T @ other).reshape(q, q, q, q)
    left = np.einsum("nab,bcda->ncd", e, joint)
    return np.einsum("ncd,mcd->nm", left, f)
