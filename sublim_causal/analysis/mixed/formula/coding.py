"""Treatment coding of terms: design columns as linear maps of a row's numbers."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from math import prod

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sublim_causal.analysis.mixed.formula.terms import Factor, Term, numeric_part
from sublim_causal.errors import DataError

MAX_COLUMNS = 1000
"""Most columns of a coded formula."""


@dataclass(frozen=True)
class Coding:
    """Design columns as linear maps of a row's numbers.

    Attributes
    ----------
    names : tuple of str
        Names of the P columns, treatment-coded: ``arm[T.projection]``, ``alignment``.
    maps : ndarray of shape (U, P, K)
        For each of U combinations of levels, the P columns in terms of the K base columns.
    """

    names: tuple[str, ...]
    maps: NDArray[np.float64]


@dataclass(frozen=True)
class _Scoped:
    """A factor in a part of a term: with all its levels, or all but the first."""

    factor: Factor
    reduced: bool = False


_Part = frozenset[_Scoped]


def code_terms(
    terms: Collection[Term], combinations: pd.DataFrame, products: list[tuple[str, ...]]
) -> Coding:
    """Code `terms` for each row of `combinations` (categorical columns, reference first).

    The base columns are 1, `products`, and the outcome. A factor has all its levels where the
    terms before span less than its reference level, else all but that (Chambers and Hastie, 1992,
    section 2.4).

    Raises
    ------
    DataError
        If there are more than `MAX_COLUMNS` columns, two of one name, or a factor of one level.
    """
    positions = {part: i + 1 for i, part in enumerate(products)} | {(): 0}
    names: list[str] = []
    columns: list[NDArray[np.float64]] = []
    places: list[int] = []
    spanned: set[_Part] = set()
    for term in terms:
        new = [part for part in _span(term) if part not in spanned]
        spanned.update(new)
        coded = [one for part in _simplified(new) for one in _columns(term, part, combinations)]
        if new and not coded:
            raise _without_effect(term, combinations)
        names += [name for name, _ in coded]
        columns += [column for _, column in coded]
        places += [positions[numeric_part(term)]] * len(coded)
    repeated = {name for name in names if names.count(name) > 1}
    if repeated:
        raise DataError(f"two coefficients are called {min(repeated)}; rename a column or level")
    maps = np.zeros((len(combinations), len(names), len(products) + 2))
    for j, (column, place) in enumerate(zip(columns, places, strict=True)):
        maps[:, j, place] = column
    return Coding(tuple(names), maps)


def _span(term: Term) -> list[_Part]:
    """Parts that span a term: each of its factors without the first level, or left out."""
    choices = [(_Scoped(f, True), None) if f.categorical else (_Scoped(f),) for f in term]
    return [frozenset(filter(None, chosen)) for chosen in product(*choices)]


def _without_effect(term: Term, combinations: pd.DataFrame) -> DataError:
    """Return the error that names a factor of one level."""
    constant = min(
        f.name for f in term if f.categorical and len(combinations[f.name].cat.categories) < 2
    )
    return DataError(
        f"{constant} has one level in these data and no effect; leave "
        f"{':'.join(f.name for f in term)} out of the formula"
    )


def _simplified(parts: Iterable[_Part]) -> list[_Part]:
    """Fewest parts with the same span: b:a without its first level, and b, are b:a in full."""
    found: list[_Part] = []
    for part in sorted(parts, key=len):
        for i, shorter in enumerate(found):
            extra = part - shorter
            if len(part) == len(shorter) + 1 and len(extra) == 1:
                (factor,) = extra
                if factor.reduced:
                    whole = part - extra | {_Scoped(factor.factor)}
                    found = _simplified([*found[:i], *found[i + 1 :], whole])
                    break
        else:
            found.append(part)
    return found


def _columns(
    term: Term, part: _Part, combinations: pd.DataFrame
) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """Names and indicators of a part of a term; levels of its first factor vary fastest."""
    scoped = {one.factor: one for one in part}
    chosen = [scoped[factor] for factor in term if factor in scoped]
    count = prod(
        len(combinations[one.factor.name].cat.categories)
        for one in chosen
        if one.factor.categorical
    )
    if count > MAX_COLUMNS:
        raise DataError(
            f"{':'.join(one.factor.name for one in chosen)} needs {count} coefficients, more than "
            f"{MAX_COLUMNS}; a factor with so many levels may be meant as a number"
        )
    if not chosen:
        yield "Intercept", np.ones(len(combinations))
        return
    options = [_indicators(one, combinations) for one in chosen]
    for backwards in product(*reversed(options)):
        named = backwards[::-1]
        yield (
            ":".join(name for name, _ in named),
            np.prod([indicator for _, indicator in named], axis=0),
        )


def _indicators(
    scoped: _Scoped, combinations: pd.DataFrame
) -> list[tuple[str, NDArray[np.float64]]]:
    name = scoped.factor.name
    if not scoped.factor.categorical:
        return [(name, np.ones(len(combinations)))]
    column = combinations[name].cat
    return [
        (f"{name}[{'T.' * scoped.reduced}{level}]", np.asarray(column.codes == code, dtype=float))
        for code, level in enumerate(column.categories)
        if code or not scoped.reduced
    ]
