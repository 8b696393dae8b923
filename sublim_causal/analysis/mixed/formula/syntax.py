"""Read the text of a formula or a contrast into a tree of few kinds of nodes; nothing is run.

The text is data from a file: a name can only be looked up, a call can only be compared with a list
of functions, and length and depth are bounded before anything is computed.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Literal

from sublim_causal.errors import RequestError

NodeKind = Literal["name", "number", "text", "call", "unary", "binary"]

MAX_LENGTH = 4000
"""Characters of a formula or contrast."""
MAX_DEPTH = 200
"""Levels of its tree; a sum of n terms has n."""
MAX_NESTING = 100
"""Operands within operands while reading."""

_BINDING = {"~": 1, "|": 2, "||": 2, "+": 3, "-": 3, "*": 4, "/": 4, ":": 5, "**": 7, "^": 7}
_SIGN_BINDING = 6
_TOKEN = re.compile(
    r"""(?P<space>\s+)
    |(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)
    |(?P<name>[^\W\d]\w*(?:\.\w+)*)
    |`(?P<quoted>[^`]+)`
    |"(?P<double>[^"]*)"|'(?P<single>[^']*)'
    |(?P<sign>\*\*|\|\||[~|+\-*/:^(),])""",
    re.VERBOSE,
)
_COEFFICIENT = re.compile(r"[^\W\d][\w.]*\[[^\]]*\](?::[\w.]+(?:\[[^\]]*\])?)*")
_CLOSING = {"`": "a closing ` after a name", '"': 'a closing "', "'": "a closing '"}
_EXCERPT = 60


@dataclass(frozen=True)
class Node:
    """A part of a formula.

    Attributes
    ----------
    kind : str
        Kind of node.
    value : str
        Name, number, text, name of the function, or operator.
    parts : tuple of Node
        Arguments or operands.
    start, stop : int
        Where it stands in the text.
    depth : int
        Levels below it.
    """

    kind: NodeKind
    value: str
    parts: tuple[Node, ...]
    start: int
    stop: int
    depth: int = 0

    def walk(self) -> Iterator[Node]:
        """Yield this node and all below it."""
        yield self
        for part in self.parts:
            yield from part.walk()

    def show(self) -> str:
        """Return the expression in one spelling, whatever its spaces and brackets."""
        if self.kind == "name":
            return (
                self.value if re.fullmatch(r"[^\W\d]\w*(\.\w+)*", self.value) else f"`{self.value}`"
            )
        if self.kind == "text":
            return repr(self.value)
        if self.kind == "call":
            return f"{self.value}({', '.join(part.show() for part in self.parts)})"
        if self.kind == "unary":
            return self.value + self._operand(self.parts[0], _SIGN_BINDING)
        if self.kind == "binary":
            own, right_first = _BINDING[self.value], self.value == "**"
            left = self._operand(self.parts[0], own + right_first)
            right = self._operand(self.parts[1], own + (not right_first))
            return f"{left} {self.value} {right}"
        return self.value

    def _operand(self, part: Node, binding: int) -> str:
        own = {"unary": _SIGN_BINDING, "binary": _BINDING.get(part.value, 0)}.get(part.kind, 9)
        return part.show() if own >= binding else f"({part.show()})"


@dataclass(frozen=True)
class SourceText:
    """A text that is read, and the field that it came from.

    Attributes
    ----------
    field : str
        ``formula`` or ``contrast``.
    text : str
        The text.
    """

    field: str
    text: str

    def refuse(self, start: int, stop: int, allowed: str, remedy: str = "") -> RequestError:
        """Return the error that shows the text and marks what is wrong."""
        found = self.text[start:stop][:_EXCERPT] or "(the end)"
        shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in self.text)
        first = max(0, start - _EXCERPT)
        excerpt = shown[first : start + _EXCERPT]
        width = max(1, min(stop - start, len(excerpt) - (start - first)))
        mark = " " * (start - first) + "^" * width
        where = f"{allowed}\n    {excerpt}\n    {mark}"
        return RequestError(self.field, found, where, remedy)

    def refuse_node(self, node: Node, allowed: str, remedy: str = "") -> RequestError:
        """Return the error that marks `node`."""
        return self.refuse(node.start, node.stop, allowed, remedy)


def parse(source: SourceText, names: Collection[str] = ()) -> Node:
    """Read `source` by the precedence of operators.

    ``~`` binds least, then ``|`` and ``||``, ``+ -``, ``* /``, ``:``, signs, ``** ^``.

    Parameters
    ----------
    source : Source
        Names are letters, digits, ``_`` and ``.``, or anything in backticks.
    names : collection of str
        Names that hold other characters and are read as they stand: ``arm[T.a - b]``.

    Raises
    ------
    RequestError
        If it cannot be read, is longer than `MAX_LENGTH` or deeper than `MAX_DEPTH`; it shows
        where.
    """
    if len(source.text) > MAX_LENGTH:
        raise source.refuse(MAX_LENGTH, MAX_LENGTH + 1, f"at most {MAX_LENGTH} characters")
    parser = _Parser(source, list(_tokens(source, names)))
    tree = parser.expression(0)
    if parser.token.kind != "end":
        raise parser.unexpected("an operator, or the end")
    return tree


@dataclass(frozen=True)
class _Token:
    kind: str
    value: str
    start: int
    stop: int


def _tokens(source: SourceText, names: Collection[str]) -> Iterator[_Token]:
    text, at = source.text, 0
    longest_first = sorted(names, key=len, reverse=True)
    while at < len(text):
        known = next((n for n in longest_first if _stands_at(text, at, n)), "")
        if names and not known and (unknown := _COEFFICIENT.match(text, at)):
            known = unknown.group()
        if known:
            yield _Token("name", known, at, at + len(known))
            at += len(known)
            continue
        found = _TOKEN.match(text, at)
        if found is None:
            allowed = "names, numbers, ~ | + - * / : ** ( ) and the comma"
            raise source.refuse(
                at, at + 1, _CLOSING.get(text[at], allowed), "make a column of it first"
            )
        kind = str(found.lastgroup)
        if kind != "space":
            yield _token(source, kind, str(found[kind]), found.start(), found.end())
        at = found.end()
    yield _Token("end", "", len(text), len(text))


def _stands_at(text: str, at: int, name: str) -> bool:
    end = at + len(name)
    return (
        text.startswith(name, at)
        and not re.match(r"[\w.:\]]", text[at - 1 : at])
        and not re.match(r"[\w.:\[]", text[end : end + 1])
    )


def _token(source: SourceText, kind: str, value: str, start: int, stop: int) -> _Token:
    if kind == "number" and (
        re.match(r"[\w.]", source.text[stop : stop + 1]) or float(value) == float("inf")
    ):
        raise source.refuse(start, stop + 1, "a number", "put the name in backticks")
    kind = {"quoted": "name", "double": "text", "single": "text"}.get(kind, kind)
    return _Token(kind, value, start, stop)


@dataclass
class _Parser:
    """Precedence climbing over a list of tokens."""

    source: SourceText
    tokens: list[_Token]
    place: int = 0
    nesting: int = 0

    @property
    def token(self) -> _Token:
        return self.tokens[self.place]

    def unexpected(self, allowed: str) -> RequestError:
        return self.source.refuse(self.token.start, self.token.stop, allowed)

    def take(self) -> _Token:
        token = self.token
        self.place += 1
        return token

    def is_sign(self, *values: str) -> bool:
        return self.token.kind == "sign" and self.token.value in values

    def node(self, kind: NodeKind, value: str, parts: tuple[Node, ...], start: int) -> Node:
        stop = self.tokens[self.place - 1].stop
        depth = 1 + max((part.depth for part in parts), default=0)
        if depth > MAX_DEPTH:
            raise self.source.refuse(start, stop, f"at most {MAX_DEPTH} levels")
        return Node(kind, value, parts, start, stop, depth)

    def expression(self, least: int) -> Node:
        self.nesting += 1
        if self.nesting > MAX_NESTING:
            raise self.unexpected("fewer brackets, signs and powers within each other")
        left = self.operand()
        while self.token.kind == "sign" and _BINDING.get(self.token.value, -1) >= max(least, 1):
            sign = self.take()
            binding = _BINDING[sign.value]
            right = self.expression(binding + (sign.value not in ("**", "^")))
            left = self.node("binary", sign.value, (left, right), left.start)
        self.nesting -= 1
        return left

    def operand(self) -> Node:
        start = self.token.start
        if self.is_sign("+", "-"):
            sign = self.take().value
            return self.node("unary", sign, (self.expression(_SIGN_BINDING),), start)
        if self.is_sign("("):
            self.take()
            inner = self.expression(0)
            self.close(start)
            stop = self.tokens[self.place - 1].stop
            return Node(inner.kind, inner.value, inner.parts, start, stop, inner.depth)
        if self.token.kind not in ("name", "number", "text"):
            raise self.unexpected("a name, a number, a text in quotes, or (")
        token = self.take()
        if token.kind == "name" and self.is_sign("("):
            return self.call(token)
        kind: NodeKind = "name" if token.kind == "name" else "number"
        return self.node("text" if token.kind == "text" else kind, token.value, (), start)

    def call(self, function: _Token) -> Node:
        opening = self.take().start
        arguments: list[Node] = []
        while not self.is_sign(")"):
            arguments.append(self.expression(0))
            if not self.is_sign(","):
                break
            self.take()
        self.close(opening)
        return self.node("call", function.value, tuple(arguments), function.start)

    def close(self, opening: int) -> None:
        if self.token.kind == "end":
            raise self.source.refuse(opening, opening + 1, "a closing bracket: this one has none")
        if not self.is_sign(")"):
            raise self.unexpected("an operator, a comma, or )")
        self.take()
