"""What a report is made of: sections of paragraphs, tables and pictures. Data only.

Text is plain: whatever it holds, the template escapes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import pandas as pd

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Verdict = Literal["yes", "no", "partly", "unsettled", "caution"]


@dataclass(frozen=True)
class Sentence:
    """A finding in words, with its interval, and the section that shows it."""

    text: str
    """The sentence."""
    verdict: Verdict
    """How the data answer it; ``unsettled`` where they do not."""
    anchor: str
    """Section to read on."""
    question: str = ""
    """The question it answers; empty where it goes on with the one before."""


@dataclass(frozen=True)
class Paragraph:
    """A paragraph."""

    text: str
    lead: bool = False
    """Whether it is the main finding."""


@dataclass(frozen=True)
class Missing:
    """What a section lacks, and the command that gets it."""

    what: str
    """What is missing, in a sentence."""
    command: str = ""
    """Command line; empty where none helps."""


@dataclass(frozen=True)
class Table:
    """A table, shown and written as CSV and LaTeX.

    `shown` has one text a cell; `frame` is written to the CSV file in full precision.
    """

    name: str
    """File name without ending, unique in the report."""
    caption: str
    """What the rows are, with units."""
    shown: pd.DataFrame
    """Cells as text, columns as headings."""
    frame: pd.DataFrame
    """The numbers behind."""
    notes: tuple[str, ...] = ()
    """What stands below the table."""
    folded: bool = False
    """Whether the page shows it only when asked."""


@dataclass(frozen=True)
class Code:
    """Lines shown as they are: commands, formulas."""

    text: str
    caption: str = ""


@dataclass(frozen=True)
class Picture:
    """A figure, shown inline and written as SVG and PDF."""

    name: str
    """File name without ending, unique in the report."""
    caption: str
    """What is drawn, with the meaning of bands and bars."""
    figure: Figure
    """The drawing."""
    wide: bool = False
    """Whether it takes the whole width of the page."""


Element = Sentence | Paragraph | Missing | Table | Code | Picture


@dataclass(frozen=True)
class Section:
    """A section of the report."""

    anchor: str
    """Target of links: ``ledger``."""
    title: str
    """Heading."""
    blocks: Sequence[Element]
    """Contents in order."""
