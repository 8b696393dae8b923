"""Text tables, laid out by rich: one table where it fits, else a table for each part."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

UNBOUNDED = 10_000
"""Columns of a terminal in which every table fits."""
NAME_WIDTH = 20
"""Columns that the names of rows get before a table is split; longer names are folded."""


@dataclass(frozen=True)
class TableColumns:
    """Columns of a table that stay together.

    Attributes
    ----------
    title : str
        Title of their table, where they do not fit next to the others.
    headings : tuple of str
    justify : {"left", "right"}
    rows : list of tuple of str
        The cells of each row.
    """

    title: str
    headings: tuple[str, ...]
    justify: Literal["left", "right"]
    rows: list[tuple[str, ...]]


def stacked(
    title: str, label: str, names: Sequence[str], parts: Sequence[TableColumns], console: Console
) -> Iterator[Table]:
    """Yield one table of all `parts` if it fits `console`, else a table each.

    The first column, headed `label`, holds the `names` of the rows.
    """
    whole = table_of(title, label, names, parts)
    if fits(whole, names, console):
        yield whole
        return
    for part in parts:
        heading = ", ".join(filter(None, (part.title, title[:1].lower() + title[1:])))
        heading = heading[:1].upper() + heading[1:]
        table = table_of(heading, label, names, [part])
        narrow = not fits(table, names, console)
        yield table_of(heading, label, names, [part], wrap=True) if narrow else table


def table_of(
    title: str,
    label: str,
    names: Sequence[str],
    parts: Sequence[TableColumns],
    *,
    wrap: bool = False,
) -> Table:
    """Return a table of `names` with the columns of `parts`, whose cells are wrapped if need be."""
    table = Table(title=title or None, box=SIMPLE_HEAD, pad_edge=False)
    table.add_column(label, overflow="fold")
    for part in parts:
        for heading in part.headings:
            table.add_column(heading, justify=part.justify, no_wrap=not wrap)
    for name, *cells in zip(names, *(part.rows for part in parts), strict=True):
        table.add_row(*(Text(text) for text in (name, *(one for cell in cells for one in cell))))
    return table


def fits(table: Table, names: Sequence[str], console: Console) -> bool:
    """Return whether `console` shows every cell of `table` in one line, but for long names."""
    options = console.options.update(max_width=UNBOUNDED)
    folded = max(0, max(map(len, names), default=0) - NAME_WIDTH)
    return Measurement.get(console, options, table).maximum - folded <= console.width


def plain_text(
    label: str, names: Sequence[str], parts: Sequence[TableColumns], width: int | None = None
) -> list[str]:
    """Return the lines of a table of `parts` without a title, see `stacked`.

    Parameters
    ----------
    label : str
        Heading of the first column.
    names : sequence of str
        Its cells.
    parts : sequence of Columns
        The other columns.
    width : int, optional
        Characters of a line, above 0; by default as many as the table needs.
    """
    file = io.StringIO()
    console = Console(file=file, width=width or UNBOUNDED, color_system=None)
    for table in stacked("", label, names, parts, console):
        console.print(table)
    lines = [line.removeprefix(" ").rstrip() for line in file.getvalue().splitlines()]
    return "\n".join(lines).strip("\n").replace("\n\n\n", "\n\n").split("\n")
