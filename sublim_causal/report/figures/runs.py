"""Pictures of run-level figures: every seed as a point, and intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sublim_causal.analysis.estimates.types import Estimate
from sublim_causal.report.figures.style import (
    FAINT,
    INK,
    WIDTH,
    is_wide,
    looks,
    new_figure,
    set_names,
    zero_line,
)
from sublim_causal.report.wording import OPEN, unmarked

JOINED_SEEDS = 100
"""With more seeds the lines that join pairs would hide the points."""


@dataclass(frozen=True)
class Bar:
    """A row of a forest: label, value and limits in the unit of the axis.

    A label that holds a name, as `wording.named` marks it, is set as one.
    """

    label: str
    value: float
    low: float
    high: float
    color: str = INK
    marker: str = "o"


def every_seed(
    values: pd.DataFrame, means: Mapping[str, Estimate], *, scale: float, label: str
) -> Figure:
    """Draw `values` (seeds by arms) times `scale`: pairs joined, means and intervals beside."""
    wide, arms = scale * values, [str(arm) for arm in values]
    figure = new_figure(2 * WIDTH if is_wide(len(arms)) else WIDTH, 3.4)
    ax = figure.subplots()
    places = np.arange(len(arms))
    shift = np.random.default_rng(0).uniform(-0.08, 0.08, wide.shape)
    if len(wide) <= JOINED_SEEDS:
        ax.plot((places + shift).T, wide.to_numpy().T, color=FAINT, linewidth=0.5, alpha=0.5)
    styles = looks(arms)
    for i, arm in enumerate(arms):
        look = styles[arm]
        ax.plot(
            places[i] + shift[:, i],
            wide[arm],
            look.marker,
            color=look.color,
            markersize=3.5,
            alpha=0.55,
            markeredgewidth=0,
            rasterized=len(wide) > JOINED_SEEDS,
        )
        if arm in means:
            mean = means[arm]
            ax.errorbar(
                places[i] + 0.25,
                scale * mean.value,
                [[scale * (mean.value - mean.low)], [scale * (mean.high - mean.value)]],
                fmt=look.marker,
                color=look.color,
                markersize=6,
                capsize=3,
                linewidth=1.6,
            )
    slanted = sum(map(len, arms)) > 10 * figure.get_figwidth()
    ax.set_xticks(places, arms, rotation=35 if slanted else 0, ha="right" if slanted else "center")
    set_names(ax.get_xticklabels())
    ax.set_xlim(-0.4, len(arms) - 0.4)
    ax.grid(visible=False, axis="x")
    ax.set_ylabel(label)
    return figure


def forest(
    bars: Sequence[Bar],
    label: str,
    *,
    margin: float | None = None,
    width: float = WIDTH,
    ax: Axes | None = None,
) -> Figure:
    """Draw one estimate in each row with its interval; `margin` shades what would not matter.

    Drawn in `ax`, or in a new figure of `width` inches.
    """
    if ax is None:
        height = 0.75 + 0.27 * len(bars) + 0.25 * (margin is not None)
        ax = new_figure(width, height).subplots()
    places = np.arange(len(bars))[::-1]
    zero_line(ax, vertical=True)
    if margin is not None:
        ax.axvspan(-margin, margin, color="#56B4E9", alpha=0.18, linewidth=0)
        for side in (-margin, margin):
            ax.axvline(side, color="#0072B2", linewidth=0.9, linestyle="--")
    finite = [end for bar in bars for end in (bar.low, bar.value, bar.high) if np.isfinite(end)]
    reach = [*finite, 0.0, *([-margin, margin] if margin else [])]
    pad = 0.06 * ((max(reach) - min(reach)) or 1.0)
    ends = (min(reach) - pad, max(reach) + pad)
    for place, bar in zip(places, bars, strict=True):
        ax.plot(np.clip([bar.low, bar.high], *ends), [place, place], color=bar.color, linewidth=1.6)
        ax.plot(bar.value, place, bar.marker, color=bar.color, markersize=5)
        for end, arrow in ((bar.low, "<"), (bar.high, ">")):
            if not np.isfinite(end):
                ax.plot(np.clip(end, *ends), place, arrow, color=bar.color, markersize=5)
    ax.set_yticks(places, [unmarked(bar.label) for bar in bars], parse_math=False)
    labels = zip(ax.get_yticklabels(), bars, strict=True)
    set_names([text for text, bar in labels if OPEN in bar.label])
    ax.set_ylim(-0.7, len(bars) - 0.3)
    ax.set_xlim(*ends)
    ax.grid(visible=False, axis="y")
    ax.set_xlabel(label)
    return ax.figure.figure
