r"""Cross products of each run's rows, :math:`S_c = \sum_t w_t w_t'`, in one pass over the data.

A row is :math:`w = (1, \text{numeric products}, y)`, shifted and scaled by the first chunk's means
and deviations so that nothing cancels. Frames, Arrow tables and Parquet datasets are read in
chunks; what is kept is one small matrix a stratum (a combination of labels).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from sublim_causal.analysis.estimates.types import Floats
from sublim_causal.analysis.mixed.design.chunks import (
    Chunk,
    Integers,
    Opened,
    chunks,
    column_kinds,
    sorted_levels,
)
from sublim_causal.analysis.mixed.formula.expressions import SPLINE, evaluate_expression
from sublim_causal.analysis.mixed.formula.syntax import Node
from sublim_causal.analysis.mixed.formula.terms import MixedFormula, parse_formula
from sublim_causal.errors import DataError

MAX_GAPS = 64
"""Distinct time gaps that are kept apart; each costs three matrices a run."""


@dataclass(frozen=True)
class CrossProducts:
    """Result of one pass.

    Attributes
    ----------
    labels : DataFrame
        One row a stratum: group, cell and factor labels.
    parts : ndarray of shape (J, strata, K, K)
        iid: the cross products. With serial correlation: first rows F, then for each gap
        A = sum w_t w_t', B = sum (w_t w_p' + w_p w_t'), C = sum w_p w_p' (p the row before).
    gaps : ndarray of shape (G,)
        Distinct time gaps; empty for iid.
    shift, scale : ndarray of shape (K,)
        A raw row is ``shift + scale * w``.
    n_obs : int
        Rows.
    """

    labels: pd.DataFrame
    parts: Floats
    gaps: Floats
    shift: Floats
    scale: Floats
    n_obs: int


def read_formula(data: Opened, text: str) -> MixedFormula:
    """Parse `text` for the columns of `data`, and set the range of its splines.

    Raises
    ------
    RequestError
        As in `parse_formula`.
    DataError
        If the column of a spline does not vary.
    """
    parsed = parse_formula(text, column_kinds(data))
    calls = {name: node for name, node in parsed.numeric.items() if node.kind == "call"}
    splines = {name: node for name, node in calls.items() if node.value == SPLINE}
    ranges = {
        column: _range(data, column) for column in {n.parts[0].value for n in splines.values()}
    }
    numeric = dict(parsed.numeric)
    for name, node in splines.items():
        ends = ranges[node.parts[0].value]
        limits = [Node("number", repr(end), (), node.start, node.stop) for end in ends]
        numeric[name] = replace(node, parts=(*node.parts, *limits))
    return replace(parsed, numeric=numeric)


def _range(data: Opened, column: str) -> tuple[float, float]:
    """Smallest and largest value of a column, in one pass over it."""
    low, high = np.inf, -np.inf
    for chunk in chunks(data, [], [column]):
        known = chunk.values[column][np.isfinite(chunk.values[column])]
        if known.size:
            low, high = min(low, float(known.min())), max(high, float(known.max()))
    if low >= high:
        raise DataError(f"{column} does not vary, and a spline of it is no more than a constant")
    return low, high


def accumulate(data: Opened, formula: MixedFormula, time: str = "") -> CrossProducts:
    """Read `data` once and return the cross products of every stratum.

    Parameters
    ----------
    data : DataFrame, Table or Dataset
        One row a step.
    formula : MixedFormula
        Which columns, and how they enter.
    time : str
        Column that orders the rows of a run, for serial correlation; empty: order is ignored.

    Raises
    ------
    DataError
        If there are no rows, or missing or infinite values (counted by column), or if a run's
        times repeat or come unordered over chunks.
    """
    labels = list(dict.fromkeys(filter(None, (formula.group, formula.cell, *formula.factors))))
    numbers = list(dict.fromkeys([*formula.columns, *([time] if time else [])]))
    state = _State(labels)
    bad: Counter[str] = Counter()
    for chunk in chunks(data, labels, numbers):
        if _count_bad(chunk, bad) or not chunk.values[numbers[0]].size:
            continue
        columns = _base_columns(chunk, formula)
        if not state.scaling:
            state.scaling.append(_scaling(columns))
        shift, scale = state.scaling[0]
        rows = [(c - a) / b for c, a, b in zip(columns, shift[1:], scale[1:], strict=True)]
        _add_chunk(state, chunk, rows, chunk.values[time] if time else None)
    if bad:
        counts = ", ".join(f"{name}: {count}" for name, count in sorted(bad.items()))
        raise DataError(
            f"{sum(bad.values())} missing or infinite values ({counts}); drop or repair these rows"
        )
    if not state.keys:
        raise DataError("there are no rows")
    return state.collect()


def _count_bad(chunk: Chunk, bad: Counter[str]) -> bool:
    before = sum(bad.values())
    for name, coded in chunk.codes.items():
        bad[name] += int(np.count_nonzero(coded.codes < 0))
    for name, values in chunk.values.items():
        if name not in chunk.codes:
            bad[name] += values.size - int(np.count_nonzero(np.isfinite(values)))
    for name in [name for name, count in bad.items() if not count]:
        del bad[name]
    return sum(bad.values()) > before


def _base_columns(chunk: Chunk, formula: MixedFormula) -> list[Floats]:
    """The base columns after the constant: numeric products, then the outcome."""
    columns = []
    for product in [*formula.products, (formula.outcome,)]:
        factors = [evaluate_expression(formula.numeric[name], chunk.values) for name in product]
        column = factors[0] if len(factors) == 1 else np.prod(factors, axis=0)
        if not np.isfinite(column).all():
            count = np.count_nonzero(~np.isfinite(column))
            raise DataError(f"{':'.join(product)} is not finite in {count} rows")
        columns.append(column)
    return columns


def _scaling(columns: list[Floats]) -> tuple[Floats, Floats]:
    shift = np.array([0.0, *(c.mean() for c in columns)])
    spread = np.array([1.0, *(c.std() for c in columns)])
    return shift, np.where(
        spread > 1e-12 * np.abs(shift), spread, np.maximum(np.abs(shift), 1e-300)
    )


@dataclass(frozen=True)
class _State:
    """State of the pass: levels, strata, and their sums."""

    labels: list[str]
    levels: dict[str, dict[object, int]] = field(default_factory=dict)
    ordered: set[str] = field(default_factory=set)
    keys: dict[tuple[int, ...], int] = field(default_factory=dict)
    scaling: list[tuple[Floats, Floats]] = field(default_factory=list)
    sums: list[tuple[Integers, Floats]] = field(default_factory=list)
    lags: dict[float, list[tuple[Integers, Floats]]] = field(default_factory=dict)
    last: dict[int, tuple[float, Floats]] = field(default_factory=dict)

    def collect(self) -> CrossProducts:
        """Add up the sums of the chunks."""
        n, (shift, scale) = len(self.keys), self.scaling[0]
        total = _sum_strata(self.sums, n, len(shift))
        gaps = sorted(self.lags)
        lagged = [_split_lags(_sum_strata(self.lags[gap], n, 2 * len(shift))) for gap in gaps]
        for a, _, _ in lagged:
            total = total - a
        codes = np.array(list(self.keys)).reshape(n, len(self.labels))
        frame = pd.DataFrame(
            {name: self._labels(name, codes[:, i]) for i, name in enumerate(self.labels)}
        )
        n_obs = round(sum(sums[:, 0, 0].sum() for _, sums in self.sums))
        parts = np.stack([total, *(part for lag in lagged for part in lag)])
        return CrossProducts(frame, parts, np.array(gaps), shift, scale, n_obs)

    def _labels(self, name: str, codes: Integers) -> pd.Categorical:
        """Labels of the strata: levels in their own order, else sorted."""
        levels = pd.Index(list(self.levels[name]), tupleize_cols=False)
        found = pd.Categorical.from_codes(codes, levels)
        return (
            found
            if name in self.ordered
            else found.reorder_categories(pd.Index(sorted_levels(levels), tupleize_cols=False))
        )


def _split_lags(joint: Floats) -> tuple[Floats, Floats, Floats]:
    """A, B and C from the cross products of (row, row before)."""
    k = joint.shape[-1] // 2
    cross = joint[:, :k, k:]
    return joint[:, :k, :k], cross + cross.transpose(0, 2, 1), joint[:, k:, k:]


def _sum_strata(pieces: list[tuple[Integers, Floats]], n: int, k: int) -> Floats:
    total = np.zeros((n, k, k))
    for strata, sums in pieces:
        np.add.at(total, strata, sums)
    return total


def _add_chunk(state: _State, chunk: Chunk, rows: list[Floats], time: Floats | None) -> None:
    key, radix = _row_keys(state, chunk)
    columns = [np.ones(len(key)), *rows]
    if time is None:
        starts = _run_starts(key)
        strata = _strata(state, key[starts], radix)
        state.sums.append((strata, _run_products(columns, starts)))
        return
    if not _ordered(key, time):
        order = np.lexsort((time, key))
        key, time, columns = key[order], time[order], [c[order] for c in columns]
    starts = _run_starts(key)
    strata = _strata(state, key[starts], radix)
    state.sums.append((strata, _run_products(columns, starts)))
    _add_lags(state, strata, starts, np.column_stack(columns), time)


def _row_keys(state: _State, chunk: Chunk) -> tuple[Integers, tuple[int, ...]]:
    """One integer a row for its combination of labels, in mixed radix."""
    key: Integers = np.zeros(1, dtype=np.int64)
    radix = []
    for name in state.labels:
        codes, levels = chunk.codes[name].codes, chunk.codes[name].levels
        if chunk.codes[name].ordered:
            state.ordered.add(name)
        known = state.levels.setdefault(name, {})
        translation = np.array([known.setdefault(level, len(known)) for level in levels])
        if not np.array_equal(translation, np.arange(len(levels))):
            codes = translation[codes]
        key = key * len(known) + codes
        radix.append(len(known))
    return key, tuple(radix)


def _strata(state: _State, keys: Integers, radix: tuple[int, ...]) -> Integers:
    """Number of the stratum of each key; new ones are entered."""
    unique, inverse = np.unique(keys, return_inverse=True)
    combinations = np.stack(np.unravel_index(unique, radix), axis=1).tolist()
    numbers = [state.keys.setdefault(tuple(c), len(state.keys)) for c in combinations]
    return np.array(numbers, dtype=np.int64)[inverse]


def _run_starts(key: Integers) -> Integers:
    """Where a new stratum begins: sorted data make few runs, and each is summed in place."""
    return np.concatenate([[0], np.flatnonzero(key[1:] != key[:-1]) + 1])


def _run_products(columns: list[Floats], starts: Integers) -> Floats:
    k = len(columns)
    products = np.empty((len(starts), k, k))
    for i in range(k):
        for j in range(i, k):
            column = columns[j] if i == 0 else columns[i] * columns[j]
            products[:, i, j] = products[:, j, i] = np.add.reduceat(column, starts)
    return products


def _ordered(key: Integers, time: Floats) -> bool:
    same = key[1:] == key[:-1]
    runs = np.count_nonzero(~same) + 1
    return bool(np.all(time[1:][same] > time[:-1][same])) and runs == len(np.unique(key))


def _add_lags(
    state: _State, strata: Integers, starts: Integers, rows: Floats, time: Floats
) -> None:
    """Add each row with the one before it, also across the boundary of two chunks."""
    lengths = np.diff([*starts, len(rows)])
    owner = np.repeat(strata, lengths)
    before, previous = np.roll(rows, 1, axis=0), np.roll(time, 1)
    has_previous = np.ones(len(rows), dtype=bool)
    for stratum, start, length in zip(
        strata.tolist(), starts.tolist(), lengths.tolist(), strict=True
    ):
        has_previous[start] = stratum in state.last
        if stratum in state.last:
            previous[start], before[start] = state.last[stratum]
        state.last[stratum] = (float(time[start + length - 1]), rows[start + length - 1].copy())
    gap = (time - previous)[has_previous]
    if np.any(gap <= 0):
        raise DataError(
            "the times of a run must rise from row to row; where two rows share a time, name the "
            "factor that tells the runs apart, as in (1 | seed:arm)"
        )
    joint = np.concatenate([rows, before], axis=1)[has_previous]
    owner = owner[has_previous]
    for value in np.unique(gap):
        chosen = gap == value
        starts_ = _run_starts(owner[chosen])
        products = _run_products(list(joint[chosen].T), starts_)
        state.lags.setdefault(float(value), []).append((owner[chosen][starts_], products))
    if len(state.lags) > MAX_GAPS:
        raise DataError(f"more than {MAX_GAPS} distinct time gaps; round the times to a grid")
