"""Tables as files: CSV with full precision, LaTeX with what the page shows."""

from __future__ import annotations

import re
import string
from collections.abc import Collection, Iterator, Sequence

import pandas as pd

from sublim_causal.analysis.estimates.types import DIFFERENCE, FRACTION, Estimate, Result
from sublim_causal.errors import escaped
from sublim_causal.report.elements import Table
from sublim_causal.report.material import Material
from sublim_causal.report.wording import (
    interval,
    named,
    names_apart,
    number,
    p_value,
    places_of,
    plain,
    scale_of,
)

_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\N{MINUS SIGN}": r"$-$",
    "\N{INFINITY}": r"$\infty$",
    "\N{PLUS-MINUS SIGN}": r"$\pm$",
    "<": r"$<$",
    ">": r"$>$",
    "_": r"\_\allowbreak{}",
    "\N{GREEK SMALL LETTER ALPHA}": r"$\alpha$",
    **{character: f"\\{character}" for character in "&%$#{}"},
}


def latex(table: Table) -> str:
    """Return `table` as a LaTeX ``longtable``: as wide as the text, with caption and notes.

    Every text is escaped. It needs the packages array, booktabs and longtable.
    """
    rows = [list(table.shown.columns), *table.shown.to_numpy().tolist()]
    head, *body = [" & ".join(_escape(str(cell)) for cell in row) + r" \\" for row in rows]
    cells = [[plain(str(row[i])) for row in rows] for i in range(len(rows[0]))]
    lines = [
        r"% \usepackage{array,booktabs,longtable}",
        rf"{{{_size(cells)}\setlength{{\tabcolsep}}{{3pt}}",
        rf"\begin{{longtable}}{{{''.join(map(_column, _shares(cells)))}}}",
        rf"\caption{{{_escape(' '.join(table.caption.split()))}}}\label{{tab:{table.name}}}\\",
        *(r"\toprule", head, r"\midrule", r"\endfirsthead"),
        *(r"\toprule", head, r"\midrule", r"\endhead"),
        *body,
        r"\bottomrule",
        r"\end{longtable}",
        *(rf"\noindent {_escape(note)}\par" for note in table.notes),
        "}",
    ]
    return "\n".join(lines) + "\n"


def _shares(columns: Sequence[Sequence[str]]) -> list[float]:
    """Return the share of the text's width that each column of cells gets; they add up to 1."""
    needs = [
        max(_longest_word(cells), min(max(map(len, cells)), _WRAPPED)) + 2 for cells in columns
    ]
    return [need / sum(needs) for need in needs]


def _longest_word(cells: Sequence[str]) -> int:
    return max(len(word) for cell in cells for word in [*re.split(r"[\s_/]+", cell), ""])


_WRAPPED = 28
"""Longer cells of a LaTeX table are wrapped."""


def _column(share: float) -> str:
    width = rf"\dimexpr {share:.4f}\linewidth-2\tabcolsep\relax"
    return rf">{{\raggedright\arraybackslash}}p{{{width}}}"


def _size(columns: Sequence[Sequence[str]]) -> str:
    """Return the size of type in which the longest words of all columns stand side by side."""
    total = sum(_longest_word(cells) + 2 for cells in columns)
    return r"\footnotesize" if total < 85 else r"\scriptsize" if total < 110 else r"\tiny"


def _escape(text: str) -> str:
    return "".join(
        rf"\texttt{{{_characters(piece)}}}" if is_name else _characters(piece)
        for piece, is_name in names_apart(escaped(text))
    )


def _characters(text: str) -> str:
    return re.sub(r"[\\~^&%$#_{}<>−∞±]", lambda found: _LATEX[found.group()], text)


def estimates_table(
    name: str,
    caption: str,
    results: Sequence[Result],
    *,
    labels: Sequence[str] | None = None,
    folded: bool = False,
) -> Table:
    """Return a row a result: label, estimate, interval, p, method, seeds, what to know.

    Notes stand below the table, and rows refer to them by letter.
    """
    levels = {one.level for one in results if isinstance(one, Estimate)}
    heading = f"{100 * levels.pop():g} % interval" if len(levels) == 1 else "interval"
    notes = dict.fromkeys(note for one in results for note in _notes(one))
    letters = {note: _letter(place) for place, note in enumerate(notes)}
    names = labels or [named(one.estimand.name) for one in results]
    rows = [
        {"": label, **_row(one, heading), "notes": ", ".join(letters[n] for n in _notes(one))}
        for label, one in zip(names, results, strict=True)
    ]
    shown = pd.DataFrame(rows).fillna("")
    empty = [column for column in shown if not shown[column].str.strip().any()]
    return Table(
        name=name,
        caption=caption,
        shown=shown.drop(columns=empty),
        frame=pd.DataFrame([one.tidy() for one in results]),
        notes=tuple(f"{letter}: {note}." for note, letter in letters.items()),
        folded=folded,
    )


def declared_table(material: Material, name: str, methods: Collection[str]) -> Iterator[Table]:
    """Yield a table of what the plan declares by `methods`, if it declares any."""
    found = [one for method in methods for one in material.declared(method)]
    if found:
        yield estimates_table(name, "Declared in the plan.", found)


def _letter(place: int) -> str:
    """Return a to z for the first notes, then aa to zz, and so on."""
    rounds, letter = divmod(place, len(string.ascii_lowercase))
    return (rounds + 1) * string.ascii_lowercase[letter]


def _notes(one: Result) -> tuple[str, ...]:
    return one.warnings if isinstance(one, Estimate) else (one.reason,)


def _short_unit(one: Estimate) -> str:
    """Return the unit in a cell: one form for all rows."""
    return {FRACTION: " %", DIFFERENCE: " points"}.get(one.estimand.unit, "")


def _row(one: Result, heading: str) -> dict[str, str]:
    if not isinstance(one, Estimate):
        return {"estimate": "not estimable"}
    scale = scale_of(one)
    places = places_of(one)
    limits = interval(one.low, one.high, places, scale)
    return {
        "estimate": number(scale * one.value, places) + _short_unit(one),
        heading: f"{limits} ({100 * one.level:g} %)"
        if limits and heading == "interval"
        else limits,
        "p": p_value(one.p_value),
        "p adjusted": p_value(one.diagnostics.get("p_adjusted")),
        "method": one.method,
        "seeds": f"{one.n_seeds}" + (f" ({one.n_dropped} left out)" if one.n_dropped else ""),
    }
