"""One self-contained page: style and pictures inline, every text escaped, no request leaves it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import count, groupby
from typing import Any

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from sublim_causal.errors import escaped
from sublim_causal.report.elements import Element, Picture, Section, Table
from sublim_causal.report.wording import names_apart

Numbers = Mapping[str, Iterator[int]]
"""The next number of a figure and of a table."""


@dataclass(frozen=True)
class _Drawn:
    """A picture as the template shows it."""

    number: int
    name: str
    caption: str
    wide: bool
    svg: Markup


@dataclass(frozen=True)
class _Numbered:
    """A table as the template shows it."""

    number: int
    table: Table


@dataclass(frozen=True)
class _Shown:
    """A section as the template shows it: neighbours of one kind together."""

    anchor: str
    title: str
    groups: Sequence[tuple[str, Sequence[Any]]]


def render(
    sections: Sequence[Section],
    drawings: Mapping[str, str],
    *,
    title: str,
    subtitle: str = "",
    footer: str = "",
) -> str:
    """Return the page.

    Parameters
    ----------
    sections : sequence of Section
        In order.
    drawings : mapping of str to str
        SVG element of every picture, by name; trusted, as this package draws them.
    title, subtitle, footer : str
        Plain text.
    """
    numbers: Numbers = {"Figure": count(1), "Table": count(1)}
    return _template().render(
        title=title,
        subtitle=subtitle,
        footer=footer,
        css=Markup(_source("report.css")),
        titles={section.anchor: section.title for section in sections},
        sections=[
            _Shown(section.anchor, section.title, _groups(section.blocks, drawings, numbers))
            for section in sections
        ],
    )


@cache
def _template() -> Template:
    """Return the compiled page."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, finalize=_visible)
    environment.filters["prose"] = _prose
    return environment.from_string(_source("report.html"))


def _source(name: str) -> str:
    return (files("sublim_causal.report") / name).read_text(encoding="utf-8")


def _visible(value: Any) -> Any:
    """Spell out characters that would change the direction of text."""
    return value if isinstance(value, Markup) else escaped(value)


def _prose(text: object) -> Markup:
    """Return `text` as markup, with the names in it set apart."""
    return Markup("").join(
        Markup('<code class="name">{}</code>').format(piece) if is_name else piece
        for piece, is_name in names_apart(escaped(text))
    )


def _groups(
    blocks: Sequence[Element], drawings: Mapping[str, str], numbers: Numbers
) -> Sequence[tuple[str, Sequence[Any]]]:
    """Neighbouring blocks of one kind: pictures share a row where there is room."""
    return [
        (kind, [_numbered(block, drawings, numbers) for block in group])
        for kind, group in groupby(blocks, key=lambda block: type(block).__name__)
    ]


def _numbered(block: Element, drawings: Mapping[str, str], numbers: Numbers) -> Any:
    if isinstance(block, Table):
        return _Numbered(next(numbers["Table"]), block)
    if not isinstance(block, Picture):
        return block
    # What matplotlib writes is escaped by it, also the names of arms on axes and legends.
    svg = Markup(drawings[block.name])
    return _Drawn(next(numbers["Figure"]), block.name, block.caption, block.wide, svg)
