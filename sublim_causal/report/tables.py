"""Tables as files: CSV with full precision, LaTeX with what the page shows."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pandas as pd

from sublim_causal.analysis.estimates import Estimate, Result
from sublim_causal.report.blocks import Table
from sublim_causal.report.wording import decimals, interval, number, p_value, scale_of, unit_of

_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\N{MINUS SIGN}": r"$-$",
    "\N{INFINITY}": r"$\infty$",
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
    return re.sub(r"[\\~^&%$#_{}<>−∞]", lambda found: _LATEX[found.group()], text)


def estimates_table(
    name: str,
    caption: str,
    results: Sequence[Result],
    *,
    labels: Sequence[str] | None = None,
    folded: bool = False,
) -> Table:
    """Return a row a result: label, estimate, interval, p, method, seeds, what to know."""
    names = labels or [one.estimand.name for one in results]
    rows = [
        _row(label, one, results[0].level if isinstance(results[0], Estimate) else None)
        for label, one in zip(names, results, strict=True)
    ]
    shown = pd.DataFrame(rows)
    empty = [column for column in shown if not shown[column].str.strip().any()]
    return Table(
        name=name,
        caption=caption,
        shown=shown.drop(columns=empty),
        frame=pd.DataFrame([one.tidy() for one in results]),
        folded=folded,
    )


def _row(label: str, one: Result, level: float | None) -> dict[str, str]:
    if not isinstance(one, Estimate):
        return dict.fromkeys(
            ("", "estimate", "interval", "p", "p adjusted", "method", "seeds"), ""
        ) | {"": label, "estimate": "not estimable", "notes": one.reason}
    scale = scale_of(one)
    places = decimals(scale * one.low, scale * one.high)
    return {
        "": label,
        "estimate": number(scale * one.value, places) + unit_of(one).replace("percentage ", ""),
        "interval": f"{interval(one.low, one.high, places, scale)} ({100 * one.level:g} %)",
        "p": p_value(one.p_value),
        "p adjusted": p_value(one.diagnostics.get("p_adjusted")),
        "method": one.method,
        "seeds": f"{one.n_seeds}" + (f" ({one.n_dropped} left out)" if one.n_dropped else ""),
        "notes": "; ".join(one.warnings),
    }
