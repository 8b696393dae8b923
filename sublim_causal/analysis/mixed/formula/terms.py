"""Mixed-model formulas: terms of the fixed part, random effects, and their group."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from typing import NoReturn, TypeAlias

from sublim_causal.analysis.estimates.columns import NOT_NUMBERS, REMEDIES, ColumnKind
from sublim_causal.analysis.mixed.formula.expressions import SPLINE, names_in, validate_expression
from sublim_causal.analysis.mixed.formula.syntax import Node, SourceText, parse
from sublim_causal.errors import nearest

SPLINE_SIZES = range(3, 21)
"""Columns that a spline may have."""
MAX_TERMS = 200
"""Terms of a formula when its products and powers are expanded."""
_ELSEWHERE = "fit it with statsmodels' MixedLM with variance components, or lme4 in R"


@dataclass(frozen=True)
class Factor:
    """One factor of a term: a column or expression, categorical or not.

    Attributes
    ----------
    name : str
        Column, or expression in one spelling.
    categorical : bool
        Whether it is coded by levels.
    """

    name: str
    categorical: bool


Term: TypeAlias = tuple[Factor, ...]
"""A product of factors; the empty product is the intercept."""


@dataclass(frozen=True)
class MixedFormula:
    """A parsed formula.

    Attributes
    ----------
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
    references : mapping of str to str
        Reference levels asked for by ``C(factor, level)``.
    numeric : mapping of str to Node
        What the names of numeric factors and of the outcome stand for.
    """

    outcome: str
    fixed: tuple[Term, ...]
    blocks: tuple[tuple[Term, ...], ...]
    group: str
    cell: str
    references: Mapping[str, str]
    numeric: Mapping[str, Node]

    def terms(self) -> Iterator[Term]:
        """Every term, fixed and random."""
        yield from self.fixed
        for block in self.blocks:
            yield from block

    @property
    def factors(self) -> list[str]:
        """Categorical columns of the terms, in order of appearance."""
        return list(dict.fromkeys(f.name for term in self.terms() for f in term if f.categorical))

    @property
    def products(self) -> list[tuple[str, ...]]:
        """Numeric parts of the terms, in order of appearance, without the empty one."""
        parts = (numeric_part(term) for term in self.terms())
        return list(dict.fromkeys(part for part in parts if part))

    @property
    def columns(self) -> list[str]:
        """Columns of numbers that the terms and the outcome read."""
        names = dict.fromkeys(name for part in self.products for name in part)
        nodes = [self.numeric[name] for name in (*names, self.outcome)]
        return list(dict.fromkeys(name for node in nodes for name in names_in(node)))


def numeric_part(term: Term) -> tuple[str, ...]:
    """Return the numeric factors of `term`."""
    return tuple(f.name for f in term if not f.categorical)


def parse_formula(text: str, kinds: Mapping[str, ColumnKind]) -> MixedFormula:
    """Parse ``outcome ~ fixed + (terms | group) + (1 | group:cell)``.

    Parameters
    ----------
    text : str
        lme4's notation for one grouping factor and cells nested in it: ``(1 | g)``, ``(1 + x |
        g)``, ``(1 + x || g)``, ``(1 | g:a)``, ``(1 | g/a)``; in the terms ``+ - * / :``, powers,
        ``C(factor, reference)``, ``spline(column, count)``, ``I(arithmetic)`` and the functions of
        `expressions.FUNCTIONS`. A name that is no identifier stands in backticks.
    kinds : mapping of str to str
        What each column of the data holds.

    Raises
    ------
    RequestError
        If the formula cannot be read, names an absent column, or has another random structure
        (crossed groups, three levels, slopes of cells); it shows where.
    """
    source = SourceText("formula", text)
    tree = parse(source)
    if tree.kind != "binary" or tree.value != "~":
        raise source.refuse_node(tree, "outcome ~ fixed + (terms | group)")
    left, right = tree.parts
    reader = _Reader(source, kinds)
    outcome = reader.numeric(left)
    summands = list(_summands(right))
    bars = [node for node in summands if _is_random(source, node)]
    if not bars:
        inner = (n for n in right.walk() if n.kind == "binary" and n.value in ("|", "||"))
        allowed = "at least one random term, like (1 | seed), as a summand"
        raise source.refuse_node(next(inner, right), allowed)
    blocks, group, cell = _random_effects(reader, bars)
    fixed = reader.terms([node for node in summands if node not in bars])
    return MixedFormula(outcome, fixed, blocks, group, cell, reader.references, reader.expressions)


def _random_effects(
    reader: _Reader, bars: list[Node]
) -> tuple[tuple[tuple[Term, ...], ...], str, str]:
    """Return the blocks of random effects, their group, and the cells within it."""
    source = reader.source
    groups: list[str] = []
    cells: list[tuple[str, str]] = []
    blocks: list[tuple[Term, ...]] = []
    for bar in bars:
        terms, grouping = bar.parts
        block = reader.terms([terms])
        plain, nested = _grouping(reader, grouping)
        groups += plain
        cells += nested
        if nested and block != ((),):
            raise source.refuse_node(bar, "(1 | group:cell)", _ELSEWHERE)
        if plain:
            blocks += [(term,) for term in block] if bar.value == "||" else [block]
    group, cell = _hierarchy(source, bars, groups, cells)
    random = [frozenset(term) for block in blocks for term in block]
    if len(set(random)) < len(random):
        raise source.refuse(bars[0].start, bars[-1].stop, "each random term once")
    return tuple(blocks), group, cell


def _summands(node: Node) -> Iterator[Node]:
    """Parts of a sum; one that is subtracted keeps its sign."""
    if node.kind == "binary" and node.value in "+-":
        yield from _summands(node.parts[0])
        right = node.parts[1]
        yield right if node.value == "+" else Node("unary", "-", (right,), right.start, right.stop)
    else:
        yield node


def _is_random(source: SourceText, node: Node) -> bool:
    if node.kind != "binary" or node.value not in ("|", "||"):
        return False
    if source.text[node.start] != "(" or source.text[node.stop - 1] != ")":
        raise source.refuse_node(node, "a random term in parentheses, like (1 | seed)")
    return True


_Expansion: TypeAlias = dict[frozenset[Factor], Term]
"""Terms by their factors, in order of appearance."""


@dataclass(frozen=True)
class _Reader:
    """Turns nodes into terms, given the kinds of the columns."""

    source: SourceText
    kinds: Mapping[str, ColumnKind]
    references: dict[str, str] = field(default_factory=dict)
    expressions: dict[str, Node] = field(default_factory=dict)

    def terms(self, summands: Iterable[Node]) -> tuple[Term, ...]:
        """Expand a sum with an intercept, of which lower orders come first."""
        found: _Expansion = {frozenset(): ()}
        for node in summands:
            for one in _summands(node):
                self.add(found, one)
        return tuple(sorted(found.values(), key=len))

    def add(self, found: _Expansion, node: Node) -> None:
        """Add a summand to `found`, or remove it."""
        taken = node.kind == "unary" and node.value == "-"
        inner = node.parts[0] if node.kind == "unary" else node
        number = inner.value if inner.kind == "number" else ""
        if number in ("0", "1"):
            if taken and number == "0":
                raise self.source.refuse_node(node, "-1 or 0 for no intercept")
            if taken or number == "0":
                found.pop(frozenset(), None)
            else:
                found.setdefault(frozenset(), ())
            return
        for key, term in self.expand(inner).items():
            if taken:
                found.pop(key, None)
            else:
                found.setdefault(key, term)

    def expand(self, node: Node) -> _Expansion:
        """Terms that `node` stands for."""
        if node.kind == "binary" and node.value in ("|", "||", "~"):
            allowed = "one ~, and random terms as summands: (1 | seed)"
            raise self.source.refuse_node(node, allowed)
        if node.kind == "binary":
            found = self.combine(node)
            if len(found) > MAX_TERMS:
                raise self.source.refuse_node(node, f"at most {MAX_TERMS} terms")
            return found
        if node.kind in ("number", "text", "unary"):
            raise self.source.refuse_node(node, "columns and expressions, 1 and 0", "write I(...)")
        factors = self.spline(node) if node.value == SPLINE else [self.factor(node)]
        return {frozenset([factor]): (factor,) for factor in factors}

    def spline(self, call: Node) -> list[Factor]:
        """Basis columns of ``spline(column, count)``, each a factor of its own."""
        if call.kind != "call":
            return [self.factor(call)]
        sizes = [str(count) for count in SPLINE_SIZES]
        if len(call.parts) != 2 or call.parts[0].kind != "name" or call.parts[1].value not in sizes:
            allowed = f"spline(column, number of its columns from {sizes[0]} to {sizes[-1]})"
            raise self.source.refuse_node(call, allowed)
        column, count = call.parts
        if (kind := self.kind(column)) != "number":
            self.refuse_kind(column, kind)
        factors = []
        for k in range(1, int(count.value) + 1):
            name = f"{call.show()}[{k}]"
            place = Node("number", str(k), (), call.start, call.stop)
            self.expressions[name] = replace(call, parts=(column, count, place))
            factors.append(Factor(name, False))
        return factors

    def combine(self, node: Node) -> _Expansion:
        sign, (left, right) = node.value, node.parts
        if sign in "+-":
            found: _Expansion = {}
            for one in _summands(node):
                self.add(found, one)
            return found
        if sign in ("**", "^"):
            return self.power(left, right)
        a, b = self.expand(left), self.expand(right)
        if sign == ":":
            return self.products(node, a, b)
        if sign == "/":
            whole = tuple(dict.fromkeys(f for term in a.values() for f in term))
            return a | self.products(node, {frozenset(whole): whole}, b)
        return a | b | self.products(node, a, b)

    def power(self, base: Node, exponent: Node) -> _Expansion:
        if exponent.kind != "number" or exponent.value not in tuple("123456789"):
            allowed = "a whole number from 1 to 9: the order of the interactions"
            raise self.source.refuse_node(exponent, allowed, "put powers of numbers in I(...)")
        terms = self.expand(base)
        found = terms
        for _ in range(int(exponent.value) - 1):
            found = self.products(base, found, terms)
        return found

    def products(self, node: Node, a: _Expansion, b: _Expansion) -> _Expansion:
        if len(a) * len(b) > MAX_TERMS**2:
            raise self.source.refuse_node(node, f"at most {MAX_TERMS} terms")
        found: _Expansion = {}
        for one, other in product(a.values(), b.values()):
            term = tuple(dict.fromkeys((*one, *other)))
            found.setdefault(frozenset(term), term)
        return found

    def factor(self, node: Node) -> Factor:
        if node.kind == "call" and node.value == "C":
            return Factor(self.coded(node), True)
        if node.kind == "name" and self.kind(node) == "label":
            return Factor(node.value, True)
        return Factor(self.numeric(node), False)

    def coded(self, call: Node) -> str:
        """Column of ``C(column)`` or ``C(column, reference)``."""
        if not 1 <= len(call.parts) <= 2 or call.parts[0].kind != "name":
            raise self.source.refuse_node(call, "C(column) or C(column, reference level)")
        column = call.parts[0]
        self.kind(column)
        for level in call.parts[1:]:
            if level.kind == "call" and level.value in ("Treatment", "contr.treatment"):
                if len(level.parts) != 1:
                    raise self.source.refuse_node(level, f"{level.value}(reference level)")
                (level,) = level.parts
            if level.kind not in ("name", "number", "text") or level.value.startswith("contr."):
                allowed = "a reference level: treatment coding is the only one"
                raise self.source.refuse_node(level, allowed)
            if self.references.setdefault(column.value, level.value) != level.value:
                raise self.source.refuse_node(level, f"one reference level of {column.value}")
        return column.value

    def numeric(self, node: Node) -> str:
        """Name of a numeric expression, whose node is kept."""
        validate_expression(self.source, node)
        for one in node.walk():
            if one.kind == "name" and (kind := self.kind(one)) != "number":
                self.refuse_kind(one, kind)
        name = node.value if node.kind == "name" else node.show()
        self.expressions[name] = node
        return name

    def refuse_kind(self, node: Node, kind: ColumnKind) -> NoReturn:
        what, remedy = NOT_NUMBERS[kind], REMEDIES[kind]
        if kind != "label":
            remedy += f", or write C({node.show()}) if its values are labels"
        raise self.source.refuse_node(node, f"numbers; {node.value} holds {what}", remedy)

    def kind(self, node: Node) -> ColumnKind:
        """Kind of the column that `node` names."""
        if node.kind != "name" or node.value not in self.kinds:
            known = ", ".join(sorted(self.kinds))
            raise self.source.refuse_node(
                node, f"a column: {known}", nearest(node.value, self.kinds)
            )
        return self.kinds[node.value]


def _grouping(reader: _Reader, node: Node) -> tuple[list[str], list[tuple[str, str]]]:
    """Groups and (group, cell) pairs of one grouping expression."""
    if node.kind == "name":
        reader.kind(node)
        return [node.value], []
    if node.kind == "binary" and node.value in "/:":
        group, cell = node.parts
        if group.kind == cell.kind == "name":
            reader.kind(group)
            reader.kind(cell)
            pair = (group.value, cell.value)
            return ([group.value], [pair]) if node.value == "/" else ([], [pair])
    allowed = "one grouping factor and cells nested in it"
    raise reader.source.refuse_node(node, allowed, _ELSEWHERE)


def _hierarchy(
    source: SourceText, bars: list[Node], groups: list[str], cells: list[tuple[str, str]]
) -> tuple[str, str]:
    """The one group and the one cell factor; an error that says what to write instead."""
    pairs = {frozenset(pair) for pair in cells}
    group = next(iter(groups), cells[0][0] if cells else "")
    crossed = len(set(groups)) > 1 or len(pairs) > 1 or any(group not in pair for pair in pairs)
    if crossed or any(len(pair) < 2 for pair in pairs):
        allowed = "one grouping factor and cells nested in it, not crossed groups"
        raise source.refuse(bars[0].start, bars[-1].stop, allowed, _ELSEWHERE)
    cell = next((name for pair in cells for name in pair if name != group), "")
    return group, cell
