"""One picture of many claims: a row each, with estimate and interval, coloured by verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from sublim_causal.analysis.estimates.types import DIFFERENCE, FRACTION
from sublim_causal.analysis.plan.claims.verdicts import ClaimVerdict
from sublim_causal.analysis.plan.results.results import Results
from sublim_causal.errors import RequestError
from sublim_causal.report.figures.runs import Bar, forest
from sublim_causal.report.figures.stability import VERDICT_STYLES
from sublim_causal.report.figures.style import WIDTH, legend_above, new_figure
from sublim_causal.report.wording import estimate, in_cell, scale_of

PERCENT = "% or points"
LABELS = {FRACTION: PERCENT, DIFFERENCE: PERCENT, "1": "shares, cosines"}
"""Labels of columns by unit, where they are not the unit itself; points are percentage points."""
ROW = 0.18
"""Inches of a row."""


@dataclass(frozen=True)
class Row:
    """A row of the figure: a plan above its claims, or one of them.

    Attributes
    ----------
    label : str
        The plan, or what is claimed.
    claim : ClaimVerdict or None
        None for a plan.
    """

    label: str
    claim: ClaimVerdict | None = None


def claims_figure(results: Sequence[Results]) -> Figure:
    """Draw every claim of `results` as a row, with the estimate of its first essential condition.

    The claims of a plan stand below its name. Every unit has a column, and the numbers stand at the
    end of a row; a claim that could not be estimated has a row and no mark.

    Raises
    ------
    RequestError
        If no plan of `results` has a claim.
    """
    rows = [row for one in results if one.verdicts for row in _rows(one)]
    claims = [row.claim for row in rows if row.claim is not None]
    if not claims:
        raise RequestError("results", "no claim", "results of at least one plan with claims")
    units = list(dict.fromkeys(filter(None, map(_unit, claims)))) or [PERCENT]
    figure = new_figure(2 * WIDTH, 0.9 + ROW * len(rows))
    columns = figure.subplots(1, len(units), squeeze=False)[0]
    for ax, unit in zip(columns, units, strict=True):
        forest([_bar(row, unit) for row in rows], unit, ax=ax)
        ax.tick_params(axis="y", length=0)
        ax.tick_params(labeltop=True)
        ax.spines["left"].set_visible(False)
        ax.margins(y=0)
        ax.xaxis.set_major_locator(MaxNLocator(4))
        _shade(ax, rows)
    for ax in columns[1:]:
        ax.tick_params(labelleft=False)
    for label, row in zip(columns[0].get_yticklabels(), rows, strict=True):
        label.set_fontweight("normal" if row.claim else "bold")
    for place, row in enumerate(reversed(rows)):
        at_end = columns[-1].get_yaxis_transform()
        columns[-1].text(1.04, place, _numbers(row), transform=at_end, va="center", fontsize=8)
    seen = {claim.verdict for claim in claims}
    legend_above(
        figure,
        [
            Line2D([], [], color=color, marker=marker, linestyle="", label=name)
            for name, (color, marker) in VERDICT_STYLES.items()
            if name in seen
        ],
        names=False,
    )
    return figure


def claims_text(results: Sequence[Results]) -> str:
    """Say in words what `claims_figure` draws, for those who do not see it."""
    rows = []
    for plan, claim in ((one.plan, claim) for one in results for claim in one.verdicts):
        found = claim.headline
        shown = "not estimated" if found is None else f"{estimate(found)}, {found.n_seeds} seeds"
        rows.append(f"{plan}, {claim.name}: {claim.verdict}, {shown}")
    return f"{len(rows)} claims, each with its verdict, estimate and interval. " + "; ".join(rows)


def _rows(one: Results) -> list[Row]:
    claims = [Row(claim.name.replace("_", " "), claim) for claim in one.verdicts]
    return [Row(f"{one.plan}, {one.n_seeds} seeds"), *claims]


def _shade(ax: Axes, rows: Sequence[Row]) -> None:
    """Shade every second plan with its claims."""
    starts = [place for place, row in enumerate(rows) if row.claim is None]
    ends = [*starts[1:], len(rows)]
    for start, end in list(zip(starts, ends, strict=True))[::2]:
        top, bottom = len(rows) - 0.5 - start, len(rows) - 0.5 - end
        ax.axhspan(bottom, top, color="#f3f3f3", linewidth=0, zorder=0)


def _unit(claim: ClaimVerdict) -> str:
    """Return the label of a claim's column; an empty text without an estimate."""
    if claim.headline is None:
        return ""
    unit = claim.headline.estimand.unit
    return LABELS.get(unit, unit)


def _numbers(row: Row) -> str:
    if row.claim is None:
        return ""
    found = row.claim.headline
    return "not estimated" if found is None else in_cell(found)


def _bar(row: Row, unit: str) -> Bar:
    """Return the mark of a row in the column of `unit`; of other units, one that is not drawn."""
    found = None if row.claim is None else row.claim.headline
    if row.claim is None or found is None or _unit(row.claim) != unit:
        return Bar(row.label, float("nan"), float("nan"), float("nan"))
    color, marker = VERDICT_STYLES[row.claim.verdict]
    scale = scale_of(found)
    return Bar(row.label, scale * found.value, scale * found.low, scale * found.high, color, marker)
