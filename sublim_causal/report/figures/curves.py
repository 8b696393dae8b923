"""Pictures of what happens step by step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sublim_causal.analysis.plan.results.curves import Curve
from sublim_causal.report.figures.style import (
    HEIGHT,
    ArmStyle,
    grid,
    is_wide,
    legend_above,
    looks,
    name_title,
    new_figure,
    zero_line,
)

STEP = "optimizer step"


def measured(curves: Mapping[str, Curve]) -> dict[str, Curve]:
    """Return the curves that have a value; a study may measure none, or some arms alone."""
    return {name: curve for name, curve in curves.items() if curve.is_measured}


def band(
    ax: Axes,
    curve: Curve,
    look: ArmStyle,
    *,
    label: str = "",
    width: float = 1.6,
    shade: float = 0.2,
) -> Line2D:
    """Draw mean and band of `curve`, and return the line."""
    ax.fill_between(
        curve.steps, curve.low, curve.high, color=look.color, alpha=shade, linewidth=0, zorder=2
    )
    (line,) = ax.plot(
        curve.steps,
        curve.mean,
        color=look.color,
        linestyle=look.dashes,
        linewidth=width,
        label=label,
        zorder=3,
    )
    return line


def faint_seeds(ax: Axes, curve: Curve) -> None:
    """Draw single seeds faintly, as a bitmap: hundreds of thousands of points stay small."""
    ax.plot(
        curve.steps,
        curve.drawn.T,
        color="#9a9a9a",
        alpha=0.35,
        linewidth=0.5,
        rasterized=True,
        zorder=1,
    )


def overlay(
    curves: Mapping[str, Curve],
    label: str,
    *,
    zero: bool = False,
    points: Mapping[str, Curve] | None = None,
) -> Figure:
    """Draw mean and band of every measured arm in one picture; `points` adds means with bars."""
    figure = new_figure(height=HEIGHT + 0.15 * (len(curves) > 4))
    ax = figure.subplots()
    if zero:
        zero_line(ax)
    styles = looks(list(curves))
    shade = 0.1 if is_wide(len(curves)) else 0.2
    handles: dict[str, Any] = {
        arm: band(ax, curve, styles[arm], label=arm, shade=shade)
        for arm, curve in measured(curves).items()
    }
    for arm, curve in (points or {}).items():
        bars = ax.errorbar(
            curve.steps,
            curve.mean,
            [curve.mean - curve.low, curve.high - curve.mean],
            fmt=styles[arm].marker,
            color=styles[arm].color,
            markersize=4,
            linewidth=1,
            zorder=4,
            label=arm,
        )
        handles.setdefault(arm, bars)
    ax.set(xlabel=STEP, ylabel=label)
    ax.margins(x=0.01)
    legend_above(figure, [*handles.values()])
    return figure


def panels(curves: Mapping[str, Curve], label: str) -> Figure:
    """Draw a measured arm a panel: single seeds faint, mean and band over them."""
    styles, curves = looks(list(curves)), measured(curves)
    figure, axes = grid(len(curves))
    for ax, (arm, curve) in zip(axes, curves.items(), strict=True):
        zero_line(ax)
        faint_seeds(ax, curve)
        band(ax, curve, styles[arm])
        name_title(ax, arm)
    limits = [np.nanquantile(curve.drawn, (0.002, 0.998)) for curve in curves.values()]
    low, high = min(pair[0] for pair in limits), max(pair[1] for pair in limits)
    margin = 0.05 * (high - low or 1.0)
    axes[0].set_ylim(low - margin, high + margin)
    axes[0].margins(x=0.01)
    figure.supxlabel(STEP, fontsize=9)
    figure.supylabel(label, fontsize=9)
    return figure


def shares(curves: Mapping[str, Curve], label: str, *, bins: int = 25) -> Figure:
    """Draw the share of positive steps over bins of steps, by arm, with bands over seeds."""
    styles = looks(list(curves))
    figure = new_figure()
    ax = figure.subplots()
    zero_line(ax, at=50)
    handles = []
    for arm, curve in measured(curves).items():
        binned = curve.positive().binned(max(1, len(curve.steps) // bins))
        handles.append(band(ax, binned, styles[arm], label=arm))
    ax.set(xlabel=STEP, ylabel=label, ylim=(-3, 103))
    ax.margins(x=0.01)
    legend_above(figure, handles)
    return figure


def ledger_panels(ledgers: Mapping[str, Mapping[str, Curve]]) -> Figure:
    """Draw gain, drive and remainder, summed, by arm: one panel for each measured arm."""
    drawn = {
        "gain": ArmStyle("#000000", "-", "o"),
        "drive": ArmStyle("#0072B2", (0, (5, 1.5)), "s"),
        "remainder": ArmStyle("#D55E00", (0, (1.2, 1.2)), "^"),
    }
    arms = [arm for arm, entries in ledgers.items() if entries["gain"].is_measured]
    figure, axes = grid(len(arms), share=False)
    handles: Sequence[Line2D] = ()
    for ax, arm in zip(axes, arms, strict=True):
        zero_line(ax)
        handles = [
            band(ax, ledgers[arm][name], look, label=name, width=2.2 if name == "gain" else 1.4)
            for name, look in drawn.items()
        ]
        name_title(ax, arm)
    figure.supxlabel(STEP, fontsize=9)
    figure.supylabel("summed from the start (nats)", fontsize=9)
    legend_above(figure, handles, names=False)
    return figure


def pairs(runs: Mapping[str, Mapping[str, Curve]], label: str) -> Figure:
    """Draw the measured curves of two runs over each other, an arm a panel, with bands."""
    styles = looks(list(runs))
    arms = list(dict.fromkeys(arm for curves in runs.values() for arm in measured(curves)))
    figure, axes = grid(len(arms))
    handles: Sequence[Line2D] = ()
    for ax, arm in zip(axes, arms, strict=True):
        zero_line(ax)
        handles = [band(ax, runs[name][arm], styles[name], label=name) for name in runs]
        name_title(ax, arm)
    figure.supxlabel(STEP, fontsize=9)
    figure.supylabel(label, fontsize=9)
    legend_above(figure, handles, names=False)
    return figure
