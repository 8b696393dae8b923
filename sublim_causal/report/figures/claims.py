"""One picture of many claims: a row each, with estimate and interval, coloured by verdict."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sublim_causal.analysis.estimates.types import DIFFERENCE, FRACTION
from sublim_causal.analysis.plan.claims.verdicts import ClaimVerdict
from sublim_causal.analysis.plan.results.results import Results
from sublim_causal.errors import RequestError
from sublim_causal.report.figures.runs import Bar, forest
from sublim_causal.report.figures.stability import VERDICT_STYLES
from sublim_causal.report.figures.style import WIDTH, legend_above, new_figure
from sublim_causal.report.wording import estimate, named, scale_of

PERCENT = "% or percentage points"
LABELS = {FRACTION: PERCENT, DIFFERENCE: PERCENT, "1": "shares and cosines, without a unit"}
"""Labels of axes by unit, where they are not the unit itself."""


def claims_figure(results: Sequence[Results]) -> Figure:
    """Draw every claim of `results` as a row, with the estimate of its first essential condition.

    Estimates of one unit share an axis; a claim that could not be estimated has a row and no mark.

    Raises
    ------
    RequestError
        If no plan of `results` has a claim.
    """
    by_unit: dict[str, list[Bar]] = {}
    for plan, claim in _claims(results):
        by_unit.setdefault(_unit(claim), []).append(_bar(plan, claim))
    if not by_unit:
        raise RequestError("results", "no claim", "results of at least one plan with claims")
    # Without an estimate there is no unit: such rows stand on the first axis.
    without = by_unit.pop("", [])
    by_unit.setdefault(next(iter(by_unit), PERCENT), []).extend(without)
    heights = [len(bars) + 1.5 for bars in by_unit.values()]
    figure = new_figure(2 * WIDTH, 0.5 + 0.24 * sum(heights))
    axes = figure.subplots(len(by_unit), 1, squeeze=False, gridspec_kw={"height_ratios": heights})
    for ax, (unit, bars) in zip(axes.flat, by_unit.items(), strict=True):
        forest(bars, unit, ax=ax)
    seen = {claim.verdict for _, claim in _claims(results)}
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
    for plan, claim in _claims(results):
        found = claim.headline
        shown = "not estimated" if found is None else f"{estimate(found)}, {found.n_seeds} seeds"
        rows.append(f"{plan}, {claim.name}: {claim.verdict}, {shown}")
    return f"{len(rows)} claims, each with its verdict, estimate and interval. " + "; ".join(rows)


def _claims(results: Sequence[Results]) -> list[tuple[str, ClaimVerdict]]:
    return [(one.plan, claim) for one in results for claim in one.verdicts]


def _unit(claim: ClaimVerdict) -> str:
    """Return the label of a claim's axis; an empty text without an estimate."""
    if claim.headline is None:
        return ""
    unit = claim.headline.estimand.unit
    return LABELS.get(unit, unit)


def _bar(plan: str, claim: ClaimVerdict) -> Bar:
    color, marker = VERDICT_STYLES[claim.verdict]
    label, found = named(f"{plan}: {claim.name}"), claim.headline
    if found is None:
        return Bar(label, float("nan"), float("nan"), float("nan"), color, marker)
    scale = scale_of(found)
    return Bar(label, scale * found.value, scale * found.low, scale * found.high, color, marker)
