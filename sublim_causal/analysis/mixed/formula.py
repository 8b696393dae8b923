"""Mixed-model formulas: lme4's random-effects syntax around a formulaic fixed part."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sublim_causal.errors import RequestError

T = TypeVar("T")

_ELSEWHERE = "statsmodels' MixedLM with variance components, or lme4 in R"
_CALLS = {
    name: getattr(np, name) for name in ("log", "log2", "log10", "log1p", "exp", "sqrt", "abs")
} | {"I": lambda value: value}


@dataclass(frozen=True)
class Factor:
    """One factor of a term: a column or expression, categorical or not.

    Attributes
    ----------
    name : str
        Column (categorical) or expression (numeric).
    categorical : bool
        Whether it is coded by levels.
    """

    name: str
    categorical: bool


Term = tuple[Factor, ...]
"""A product of factors; the empty product is the intercept."""


@dataclass(frozen=True)
class MixedFormula:
    """A parsed formula.

    Attributes
    ----------
    text : str
        As given.
    outcome : str
        Column or expression left of ``~``.
    fixed : tuple of Term
        Fixed effects.
    blocks : tuple of tuple of Term
        Random effects of the group, one correlated block each.
    group : str
        Grouping factor: the cluster.
    cell : str
        Factor whose cells within a group have a random intercept; empty: none.
    references : dict of str to str
        Reference levels asked for by ``C(factor, level)``.
    """

    text: str
    outcome: str
    fixed: tuple[Term, ...]
    blocks: tuple[tuple[Term, ...], ...]
    group: str
    cell: str
    references: dict[str, str]

    def terms(self) -> Iterator[Term]:
        """Every term, fixed and random."""
        yield from self.fixed
        for block in self.blocks:
            yield from block

    @property
    def factors(self) -> list[str]:
        """Categorical columns of the terms, in order of appearance."""
        return _unique(f.name for term in self.terms() for f in term if f.categorical)

    @property
    def products(self) -> list[tuple[str, ...]]:
        """Numeric parts of the terms, in order of appearance, without the empty one."""
        return _unique(part for term in self.terms() if (part := numeric_part(term)))

    @property
    def expressions(self) -> list[str]:
        """Numeric expressions, the outcome last."""
        return _unique([*(name for part in self.products for name in part), self.outcome])


def numeric_part(term: Term) -> tuple[str, ...]:
    """Return the numeric factors of `term`."""
    return tuple(f.name for f in term if not f.categorical)


def parse_formula(
    text: str, columns: Collection[str], categorical: Collection[str]
) -> MixedFormula:
    """Parse ``outcome ~ fixed + (terms | group) + (1 | group:cell)``.

    Parameters
    ----------
    text : str
        lme4's language for one grouping factor and cells nested in it: ``(1 | g)``,
        ``(1 + x | g)``, ``(1 + x || g)``, ``(1 | g:a)``, ``(1 | g/a)``; factors, interactions and
        ``C(factor, reference)`` in the fixed part.
    columns : collection of str
        Columns of the data.
    categorical : collection of str
        Those that are not numbers.

    Raises
    ------
    RequestError
        If the formula cannot be read, names an absent column, or has another random structure
        (crossed groups, three levels, slopes of cells).
    """
    outcome, separator, right = text.partition("~")
    if not separator or not outcome.strip():
        raise RequestError("formula", text, "outcome ~ fixed + (terms | group)")
    pieces = _split(right, "+")
    bars = [piece[1:-1] for piece in pieces if _is_random(piece)]
    fixed_text = " + ".join(piece for piece in pieces if not _is_random(piece)) or "1"
    if "|" in fixed_text or not bars:
        raise RequestError(
            "formula", text, "at least one random term in parentheses, like (1 | seed)"
        )
    references: dict[str, str] = {}
    reader = _Reader(text, frozenset(columns), frozenset(categorical), references)
    blocks: list[tuple[Term, ...]] = []
    groups: list[str] = []
    cells: list[tuple[str, str]] = []
    for bar in bars:
        terms, uncorrelated, grouping = _split_bar(bar, text)
        block = reader.terms(terms)
        plain, nested = _grouping(grouping, text)
        groups += plain
        cells += nested
        if nested and block != ((),):
            raise RequestError("formula", bar, "(1 | group:cell)", f"fit it with {_ELSEWHERE}")
        if plain:
            blocks += [(term,) for term in block] if uncorrelated else [block]
    group, cell = _hierarchy(groups, cells, text)
    formula = MixedFormula(
        text, outcome.strip(), reader.terms(fixed_text), tuple(blocks), group, cell, references
    )
    _validate(formula, reader)
    return formula


def _validate(formula: MixedFormula, reader: _Reader) -> None:
    random = [term for block in formula.blocks for term in block]
    if len(set(random)) < len(random):
        raise RequestError("formula", formula.text, "each random term once")
    for name in filter(None, (formula.group, formula.cell)):
        reader.require(name)
    reader.numeric(formula.outcome)


@dataclass(frozen=True)
class _Reader:
    """Turns formulaic's terms into ours, knowing which columns there are."""

    text: str
    columns: frozenset[str]
    categorical: frozenset[str]
    references: dict[str, str]

    def terms(self, text: str) -> tuple[Term, ...]:
        from formulaic import Formula
        from formulaic.errors import FormulaicError

        try:
            parsed = list(Formula(text))
        except FormulaicError as error:
            raise RequestError("formula", text, "a formula formulaic can read") from error
        return tuple(
            tuple(self._factor(f.expr) for f in term.factors if f.expr != "1") for term in parsed
        )

    def _factor(self, expression: str) -> Factor:
        tree = ast.parse(expression.strip("`"), mode="eval").body
        if isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name) and tree.func.id == "C":
            return Factor(self._coded(tree), True)
        if expression in self.columns and expression in self.categorical:
            return Factor(expression, True)
        self.numeric(expression)
        return Factor(expression, False)

    def _coded(self, call: ast.Call) -> str:
        name = ast.unparse(call.args[0])
        self.require(name)
        options = [*call.args[1:], *(k.value for k in call.keywords)]
        if options and isinstance(inner := options[0], ast.Call):
            if ast.unparse(inner.func) not in ("Treatment", "contr.treatment"):
                raise RequestError("formula", ast.unparse(call), "treatment coding")
            options = [*inner.args, *(k.value for k in inner.keywords)]
        if options:
            level = options[0]
            reference = str(level.value if isinstance(level, ast.Constant) else ast.unparse(level))
            if self.references.setdefault(name, reference) != reference:
                raise RequestError("formula", self.text, f"one reference level of {name}")
        return name

    def require(self, name: str) -> None:
        if name not in self.columns:
            raise RequestError("formula", name, f"a column: {', '.join(sorted(self.columns))}")

    def numeric(self, expression: str) -> None:
        """Only what acts row by row: a mean inside would depend on how the data are read."""
        for node in ast.walk(ast.parse(expression, mode="eval")):
            if isinstance(node, ast.Call) and not _is_elementwise(node.func):
                raise RequestError(
                    "formula",
                    expression,
                    f"columns, arithmetic, {', '.join(_CALLS)} and numpy's ufuncs",
                    "make a column of it first",
                )
        for name in names_in(expression):
            self.require(name)
            if name in self.categorical:
                raise RequestError("formula", expression, "numbers", f"{name} holds labels")


def _is_elementwise(function: ast.expr) -> bool:
    if isinstance(function, ast.Attribute) and ast.unparse(function.value) == "np":
        return isinstance(getattr(np, function.attr, None), np.ufunc)
    return isinstance(function, ast.Name) and function.id in _CALLS


def names_in(expression: str) -> list[str]:
    """Columns that `expression` reads."""
    tree = ast.parse(expression, mode="eval")
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    return _unique(
        node.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and id(node) not in called and node.id != "np"
    )


def evaluate_expression(
    expression: str, values: dict[str, NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Value of a validated numeric `expression` in each row."""
    if expression in values:
        return values[expression]
    with np.errstate(all="ignore"):
        result = eval(expression, {"__builtins__": {}, "np": np} | _CALLS, values)
    return np.broadcast_to(np.asarray(result, dtype=float), next(iter(values.values())).shape)


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


def code_terms(
    terms: Collection[Term], combinations: pd.DataFrame, products: list[tuple[str, ...]]
) -> Coding:
    """Code `terms` for each row of `combinations` (categorical columns, reference first).

    The base columns are 1, `products`, and the outcome; formulaic decides which levels a term
    needs for full rank.
    """
    from formulaic import Formula
    from formulaic.parser.types import Factor as Lookup
    from formulaic.parser.types import Term as Product

    numbers = {f.name: 1.0 for term in terms for f in term if not f.categorical}
    frame = combinations.assign(**numbers)
    if not terms:
        return Coding((), np.zeros((len(frame), 0, len(products) + 2)))
    coded = {
        Product(
            [Lookup(f.name, eval_method="lookup") for f in term]
            or [Lookup("1", eval_method="literal")]
        ): term
        for term in terms
    }
    matrix = Formula(list(coded), _ordering="none").get_model_matrix(frame)
    positions = {part: i + 1 for i, part in enumerate(products)} | {(): 0}
    maps = np.zeros((len(frame), matrix.shape[1], len(products) + 2))
    values = matrix.to_numpy(dtype=float)
    for term, columns in matrix.model_spec.term_slices.items():
        maps[:, columns, positions[numeric_part(coded[term])]] = values[:, columns]
    return Coding(tuple(str(name) for name in matrix.columns), maps)


def _split(text: str, separator: str) -> list[str]:
    """Split at `separator` outside parentheses and brackets; empty pieces are dropped."""
    pieces, depth = [""], 0
    for character in text:
        depth += (character in "([") - (character in ")]")
        if character == separator and depth == 0:
            pieces.append("")
        else:
            pieces[-1] += character
    return [piece.strip() for piece in pieces if piece.strip()]


def _is_random(piece: str) -> bool:
    return piece.startswith("(") and piece.endswith(")") and len(_split(piece[1:-1], "|")) > 1


def _split_bar(bar: str, text: str) -> tuple[str, bool, str]:
    parts = _split(bar, "|")
    if len(parts) != 2:
        raise RequestError("formula", text, "(terms | group) or (terms || group)")
    return parts[0], "||" in bar, parts[1]


def _grouping(grouping: str, text: str) -> tuple[list[str], list[tuple[str, str]]]:
    """Groups and (group, cell) pairs of one grouping expression."""
    for separator in "/:":
        names = [name.strip() for name in grouping.split(separator)]
        if len(names) == 2 and all(name.isidentifier() for name in names):
            pair = (names[0], names[1])
            return ([names[0]], [pair]) if separator == "/" else ([], [pair])
    if grouping.isidentifier():
        return [grouping], []
    raise RequestError(
        "formula", text, "one grouping factor and cells nested in it", f"fit it with {_ELSEWHERE}"
    )


def _hierarchy(groups: list[str], cells: list[tuple[str, str]], text: str) -> tuple[str, str]:
    """The one group and the one cell factor, or an error that names the way."""
    names = set(groups)
    pairs = {frozenset(pair) for pair in cells}
    group = next(iter(groups), cells[0][0] if cells else "")
    if len(names) > 1 or len(pairs) > 1 or (pairs and group not in next(iter(pairs))):
        raise RequestError(
            "formula",
            text,
            "one grouping factor and cells nested in it, not crossed groups",
            f"fit it with {_ELSEWHERE}",
        )
    cell = next((name for pair in cells for name in pair if name != group), "")
    return group, cell


def _unique(items: Iterable[T]) -> list[T]:
    return list(dict.fromkeys(items))
