"""A figure of any results: an estimate a row, with its interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sublim_causal.analysis.estimates.types import DIFFERENCE, FRACTION, Estimate, Result
from sublim_causal.analysis.plan.results.results import Results
from sublim_causal.errors import RequestError
from sublim_causal.report.figures.runs import Bar, forest
from sublim_causal.report.figures.style import WIDTH, settings
from sublim_causal.report.wording import POINTS, named, scale_of

_UNITS = {FRACTION: "%", DIFFERENCE: POINTS}


def plot_results(
    results: Results | Result | Sequence[Result],
    *,
    labels: Mapping[str, str] | None = None,
    xlabel: str = "",
    title: str = "",
    width: float = WIDTH,
    ax: Axes | None = None,
) -> Figure:
    """Draw results below each other, each with its interval.

    Parameters
    ----------
    results : Results, Estimate, or a sequence of results
        What is drawn, in this order; what could not be estimated is left out.
    labels : mapping of str to str, optional
        What rows are called, by the name of the result; default: that name.
    xlabel : str
        Label of the axis; default: the unit.
    title : str
        Title above the rows.
    width : float
        Width of a new figure in inches, above 0.
    ax : matplotlib.axes.Axes, optional
        Where to draw; default: a new figure.

    Returns
    -------
    matplotlib.figure.Figure
        That of `ax`, or a new one, made without pyplot: save it with
        ``figure.savefig("forest.pdf")``.

    Raises
    ------
    RequestError
        If nothing is an estimate, units differ, or a label or the width is not usable.
    """
    labels = labels or {}
    found = _estimates(results)
    if not width > 0:
        raise RequestError("width", width, "inches, above 0")
    names = {one.estimand.name for one in found}
    if unknown := [name for name in labels if name not in names]:
        raise RequestError("labels", unknown[0], f"names of results: {', '.join(sorted(names))}")
    unit = found[0].estimand.unit
    with settings():
        bars = [_bar(one, labels.get(one.estimand.name)) for one in found]
        figure = forest(bars, xlabel or _UNITS.get(unit, unit), width=width, ax=ax)
        (ax or figure.axes[0]).set_title(title)
        return figure


def _estimates(results: Results | Result | Sequence[Result]) -> list[Estimate]:
    """Return what was estimated; refuse nothing, and estimates of several units."""
    several = results.results if isinstance(results, Results) else results
    chosen = several if isinstance(several, Sequence) else [several]
    found = [one for one in chosen if isinstance(one, Estimate)]
    if not found:
        raise RequestError("results", "no estimate", "at least one result that was estimated")
    units = dict.fromkeys(one.estimand.unit for one in found)
    if len(units) > 1:
        listed = ", ".join(unit or "none" for unit in units)
        remedy = "choose some: [results[name] for name in (...)]"
        raise RequestError("results", f"units {listed}", "results of one unit", remedy)
    return found


def _bar(one: Estimate, label: str | None) -> Bar:
    scale, shown = scale_of(one), label or named(one.estimand.name)
    bar = Bar(shown, one.value, one.low, one.high)
    return replace(bar, value=scale * bar.value, low=scale * bar.low, high=scale * bar.high)
