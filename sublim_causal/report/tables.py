"""Tables as files: CSV with full precision, LaTeX with what the page shows."""

from __future__ import annotations

import re
import string
from collections.abc import Collection, Iterator, Sequence

import pandas as pd

from sublim_causal.analysis.estimates.types import DIFFERENCE, FRACTION, Estimate, Result
from sublim_causal.errors import escaped
from sublim_causal.report.blocks import Table
from sublim_causal.report.material import Material
from sublim_causal.report.wording import CLOSE, OPEN, interval, number, p_value, places_of, scale_of

_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\N{MINUS SIGN}": r"$-$",
    "\N{INFINITY}": r"$\infty$",
    "\N{PLUS-MINUS SIGN}": r"$\pm$",
    "<": r"$<$",
    ">": r"$>$",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}


def latex(table: Table) -> str:
    """Return `table` as a LaTeX ``tabular`` in booktabs style, every text escaped."""
    rows = [list(table.shown.columns), *table.shown.to_numpy().tolist()]
    head, *body = [" & ".join(_escape(str(cell)) for cell in row) + r" \\" for row in rows]
    lines = [
        f"% {' '.join(table.caption.split())}",
        rf"\begin{{tabular}}{{{'l' * len(table.shown.columns)}}}",
        r"\toprule",
        head,
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def _escape(text: str) -> str:
    shown = re.sub(r"[\\~^&%$#_{}<>−∞±]", lambda found: _LATEX[found.group()], escaped(text))
    return shown.replace(OPEN, r"\textit{").replace(CLOSE, "}")


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
    letters = dict(
        zip(dict.fromkeys(note for one in results for note in _notes(one)), _LETTERS, strict=False)
    )
    names = labels or [one.estimand.name for one in results]
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


_LETTERS = [*string.ascii_lowercase, *(2 * letter for letter in string.ascii_lowercase)]


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
        heading: limits if heading != "interval" else f"{limits} ({100 * one.level:g} %)",
        "p": p_value(one.p_value),
        "p adjusted": p_value(one.diagnostics.get("p_adjusted")),
        "method": one.method,
        "seeds": f"{one.n_seeds}" + (f" ({one.n_dropped} left out)" if one.n_dropped else ""),
    }
