"""Pictures of a mixed model: residuals, random slopes, and what single seeds do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sublim_causal.analysis.estimates.distributions import norm_isf
from sublim_causal.analysis.estimates.types import Floats
from sublim_causal.report.figures.style import INK, new_figure, zero_line

LABELLED = 3
"""So many most extreme seeds are named."""


def residuals(bins: Mapping[str, Sequence[float]], unit: str) -> Figure:
    """Draw median and central 90 % of the residuals in bins of equally many fitted values."""
    figure = new_figure()
    ax = figure.subplots()
    at = bins["fitted"]
    zero_line(ax)
    ax.vlines(at, bins["low"], bins["high"], color="#0072B2", linewidth=1.6, label="central 90 %")
    ax.plot(at, bins["middle"], "o", color=INK, markersize=3.5, label="median")
    ax.set(xlabel=f"fitted value ({unit})", ylabel=f"residual ({unit})")
    figure.legend(loc="outside upper left", ncols=2)
    return figure


def normal_quantiles(effects: Floats, label: str) -> Figure:
    """Draw the sorted predicted effects of the seeds against normal quantiles."""
    figure = new_figure()
    ax = figure.subplots()
    places = _gaussian_positions(len(effects))
    ordered = np.sort(effects)
    ax.plot(places, ordered, "o", color=INK, markersize=4)
    spread = ordered.std(ddof=1) / places.std(ddof=1)
    ax.axline((0, float(ordered.mean())), slope=spread, color="#D55E00", linestyle="--")
    ax.set(xlabel="normal quantile (standard deviations)", ylabel=label)
    return figure


def _gaussian_positions(count: int) -> Floats:
    """Normal quantiles of `count` ordered values, Blom's positions."""
    return np.asarray(-norm_isf((np.arange(1, count + 1) - 0.375) / (count + 0.25)))


def influence(left_out: pd.Series, value: float, low: float, high: float, label: str) -> Figure:
    """Draw the estimate without each seed, beside the whole sample's interval."""
    figure = new_figure()
    ax = figure.subplots()
    places = np.arange(len(left_out))
    ax.axhspan(low, high, color="#56B4E9", alpha=0.2, linewidth=0, label="interval, all seeds")
    ax.axhline(value, color=INK, linewidth=1, label="estimate, all seeds")
    values = left_out.to_numpy()
    ax.plot(places, values, "o", color="#D55E00", markersize=3.5, label="without the seed")
    for place in np.argsort(-np.abs(values - value))[:LABELLED]:
        ax.annotate(
            f"seed {left_out.index[place]}",
            (places[place], values[place]),
            xytext=(5 if place < 0.8 * len(values) else -5, 7 if values[place] > value else -12),
            ha="left" if place < 0.8 * len(values) else "right",
            textcoords="offset points",
            fontsize=8,
            zorder=5,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.8},
        )
    ax.set(xlabel="seed left out, in order", ylabel=label)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(loc="outside upper left", ncols=3, columnspacing=1.0)
    return figure
