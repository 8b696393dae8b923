"""Mixed models refitted with statsmodels' ``MixedLM``, as an independent check.

It gets the same design matrix, each column in units of its root mean square; nothing else is
shared with `fit_mixed`: neither cross products nor likelihood nor search.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from sublim_causal.analysis.estimates.types import Floats
from sublim_causal.analysis.mixed.design.crossproducts import read_formula
from sublim_causal.analysis.mixed.fit import fit_mixed
from sublim_causal.analysis.mixed.formula.coding import Coding, code_terms
from sublim_causal.analysis.mixed.formula.expressions import evaluate_expression
from sublim_causal.analysis.mixed.formula.terms import MixedFormula
from sublim_causal.analysis.mixed.result import MixedFit

AGREES = 1e-3
"""Differences up to this share of a standard error, or of its size, are due to the optimisation."""
_LOWER = 1e-3
"""A log-likelihood this much lower than ours was not maximised."""
_FROM_OURS = "agrees from our start, not from its own"


@dataclass(frozen=True)
class CrossCheck:
    """Comparison of a second library's fit with ours.

    Attributes
    ----------
    software : str
        The library.
    coefficients : float or None
        Largest difference of a coefficient, in standard errors.
    errors : float or None
        Largest relative difference of a standard error.
    likelihood : float or None
        Our log-likelihood minus theirs; None where neither maximises one.
    verdict : str
        ``"agrees"``, ``"differs"``, or why there is no comparison.
    note : str
        Why the other library is taken not to have converged.
    """

    software: str
    coefficients: float | None
    errors: float | None
    likelihood: float | None
    verdict: str
    note: str = ""

    @property
    def agrees(self) -> bool:
        """Whether the two fits agree up to the precision of the optimisation."""
        return self.verdict in ("agrees", _FROM_OURS)


def check_mixed(
    data: pd.DataFrame, formula: str, *, residual: str = "iid", arm_variances: bool = False
) -> CrossCheck:
    """Refit `formula` by REML with statsmodels' ``MixedLM`` and compare.

    Coefficients are compared, and their model-based standard errors at MixedLM's variances. MixedLM
    has failed by its own flag, or where its log-likelihood is lower than ours by more than 0.001;
    then it is started again from our estimates, to see whether it stays there.

    Raises
    ------
    RequestError, DataError
        As in `fit_mixed`.
    """
    software = "statsmodels MixedLM, REML"
    if residual != "iid" or arm_variances:
        reason = "not refitted: MixedLM has independent residuals of one variance"
        return CrossCheck(software, None, None, None, reason)
    ours = fit_mixed(data, formula)
    parsed = read_formula(data, formula)
    if sum(len(block) > 1 for block in parsed.blocks) > 1:
        reason = "not refitted: MixedLM has one block of correlated random effects"
        return CrossCheck(software, None, None, None, reason)
    rows = _rows(data, parsed, ours)
    random = _random(rows, data, parsed)
    alone = _compare(software, rows, random, ours, None)
    if alone.verdict in ("agrees", "differs") or alone.likelihood is None:
        return alone
    helped = _compare(software, rows, random, ours, _start(rows, random, parsed, ours))
    if not helped.agrees:
        return alone
    return replace(helped, verdict=_FROM_OURS, note=alone.note)


def _compare(software: str, rows: _Rows, random: _Random, ours: MixedFit, start: Any) -> CrossCheck:
    try:
        with warnings.catch_warnings(record=True) as raised:
            warnings.simplefilter("always")
            found = _fit_with_statsmodels(rows, random, start)
    except (np.linalg.LinAlgError, ValueError) as error:
        return CrossCheck(software, None, None, None, f"MixedLM failed: {error}")
    own = ours.se.to_numpy()
    shift = np.abs(found.fe_params / rows.scale - ours.params.to_numpy()) / own
    change = np.abs(_errors(rows, random, found) / own - 1)
    missed = -ours.criterion / 2 - (float(found.llf) - rows.jacobian)
    note = ""
    if max(shift.max(), change.max()) <= AGREES:
        verdict = "agrees"
    elif missed < -_LOWER:
        verdict = f"differs: MixedLM's log-likelihood is higher by {-missed:.3g}"
    elif found.converged and missed <= _LOWER:
        verdict = "differs"
    else:
        gradients = [str(one.message) for one in raised if "|grad|" in str(one.message)]
        seen = ["its own flag says so"] * (not found.converged) + gradients[-1:]
        seen += [f"its log-likelihood is lower by {missed:.3g}"] * (missed > _LOWER)
        verdict, note = "MixedLM did not converge", "; ".join(seen)
    return CrossCheck(software, float(shift.max()), float(change.max()), missed, verdict, note)


@dataclass(frozen=True)
class _Rows:
    """Return the design in units of the columns' size, and the units' effect on a likelihood."""

    y: Floats
    x: Floats
    blocks: list[Floats]
    sizes: list[Floats]
    scale: Floats
    jacobian: float


def _rows(data: pd.DataFrame, parsed: MixedFormula, ours: MixedFit) -> _Rows:
    numbers = {name: data[name].to_numpy(dtype=float) for name in parsed.columns}
    factors = pd.DataFrame(
        {name: _ordered(data[name], ours.references[name]) for name in parsed.factors},
        index=data.index,
    )
    parts = [
        np.prod([evaluate_expression(parsed.numeric[name], numbers) for name in product], axis=0)
        for product in parsed.products
    ]
    base = np.column_stack([np.ones(len(data)), *parts, np.zeros(len(data))])
    y = evaluate_expression(parsed.numeric[parsed.outcome], numbers)
    fixed = code_terms(parsed.fixed, factors, parsed.products)
    kept = [fixed.names.index(name) for name in ours.params.index]
    x = _columns(fixed, base)[:, kept]
    blocks = [_columns(code_terms(b, factors, parsed.products), base) for b in parsed.blocks]
    sizes = [np.sqrt((z**2).mean(axis=0)) for z in blocks]
    size, unit = np.sqrt((x**2).mean(axis=0)), float(y.std())
    n, p = x.shape
    return _Rows(
        y=y / unit,
        x=x / size,
        blocks=[z / one for z, one in zip(blocks, sizes, strict=True)],
        sizes=sizes,
        scale=size / unit,
        jacobian=(n - p) * float(np.log(unit)) + float(np.log(size).sum()),
    )


def _columns(coding: Coding, base: Floats) -> Floats:
    return np.asarray(np.einsum("npk,nk->np", coding.maps, base))


def _ordered(column: pd.Series, reference: str) -> pd.Series:
    labels = column.astype(str)
    rest = sorted(set(labels) - {reference})
    return pd.Series(pd.Categorical(labels, [reference, *rest]), column.index)


@dataclass(frozen=True)
class _Random:
    """Random effects as MixedLM takes them.

    Attributes
    ----------
    groups : ndarray of shape (n,)
        Label of each row's group.
    places : list of ndarray
        Rows of each group, by sorted label.
    correlated : ndarray of shape (n, q)
        Columns of the one correlated block; q may be 0.
    names : list of str
        Variance components beside it.
    matrices : list of list of ndarray
        Columns of each component in each group.
    """

    groups: np.ndarray
    places: list[np.ndarray]
    correlated: Floats
    names: list[str]
    matrices: list[list[Floats]]


def _random(rows: _Rows, data: pd.DataFrame, parsed: MixedFormula) -> _Random:
    groups = data[parsed.group].astype(str).to_numpy()
    places = [np.flatnonzero(groups == label) for label in sorted(set(groups))]
    whole = _correlated(rows)
    single = {f"block {k}": z for k, z in enumerate(rows.blocks) if k != whole}
    matrices = [[z[here] for here in places] for z in single.values()]
    names = [*single]
    if parsed.cell:
        cell = data[parsed.cell].astype(str).reset_index(drop=True)
        names.append("cell")
        matrices.append([pd.get_dummies(cell[here]).to_numpy(float) for here in places])
    correlated = rows.blocks[whole] if rows.blocks else np.zeros((len(rows.y), 0))
    return _Random(groups, places, correlated, names, matrices)


def _correlated(rows: _Rows) -> int:
    """Place of the block that is MixedLM's correlated one."""
    return next((k for k, z in enumerate(rows.blocks) if z.shape[1] > 1), 0)


def _fit_with_statsmodels(rows: _Rows, random: _Random, start: Any) -> Any:
    from statsmodels.regression.mixed_linear_model import MixedLM, VCSpec

    columns = [
        [[f"{name} {k}" for k in range(z.shape[1])] for z in matrices]
        for name, matrices in zip(random.names, random.matrices, strict=True)
    ]
    model = MixedLM(
        rows.y,
        rows.x,
        random.groups,
        exog_re=random.correlated if random.correlated.shape[1] else None,
        exog_vc=VCSpec(random.names, columns, random.matrices) if random.names else None,
    )
    if start is None:
        return model.fit(reml=True, method=["bfgs", "lbfgs", "cg"])
    return model.fit(start_params=start, reml=True, method=["bfgs", "lbfgs", "cg"])


def _start(rows: _Rows, random: _Random, parsed: MixedFormula, ours: MixedFit) -> Any:
    """Our estimates as MixedLM's parameters: variances over that of the residual."""
    from statsmodels.regression.mixed_linear_model import MixedLMParams

    table = ours.variance_components
    whole, found = _correlated(rows), []
    own = table[table["group"] == parsed.group].to_dict("records")
    for size in rows.sizes:
        q = len(size)
        count = q * (q + 1) // 2
        values, own = [row["value"] for row in own[:count]], own[count:]
        psi = np.zeros((q, q))
        psi[range(q), range(q)] = values[:q]
        psi[np.triu_indices(q, 1)] = values[q:]
        psi = psi + np.triu(psi, 1).T
        found.append(psi * np.outer(size, size) / ours.sigma2)
    single = [float(psi[0, 0]) for k, psi in enumerate(found) if k != whole]
    if parsed.cell:
        cells = table[table["group"] == f"{parsed.group}:{parsed.cell}"]
        single.append(float(cells["value"].iloc[0]) / ours.sigma2)
    psi = found[whole] if found else np.zeros((0, 0))
    # Off the boundary, where its parameters have no derivative.
    psi = psi + 1e-6 * np.eye(len(psi)) * max(1.0, np.trace(psi))
    return MixedLMParams.from_components(
        fe_params=ours.params.to_numpy() * rows.scale, cov_re=psi, vcomp=np.maximum(single, 1e-6)
    )


def _errors(rows: _Rows, random: _Random, found: Any) -> Floats:
    """Standard errors at MixedLM's variances; its own need a Hessian, which fails on a boundary."""
    total = np.zeros((rows.x.shape[1],) * 2)
    for k, here in enumerate(random.places):
        z = np.column_stack([random.correlated[here], *(m[k] for m in random.matrices)])
        sizes = [m[k].shape[1] for m in random.matrices]
        d = np.zeros((z.shape[1],) * 2)
        q = random.correlated.shape[1]
        d[:q, :q] = found.cov_re
        d[range(q, len(d)), range(q, len(d))] = np.repeat(found.vcomp, sizes)
        x = rows.x[here]
        inner = np.linalg.solve(d @ (z.T @ z) + found.scale * np.eye(len(d)), d)
        total += (x.T @ x - x.T @ z @ inner @ z.T @ x) / found.scale
    return np.sqrt(np.diag(np.linalg.inv(total))) / rows.scale
