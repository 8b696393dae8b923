"""Pictures of mediation and instruments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch

from sublim_causal.analysis.estimates.distributions import f_ppf
from sublim_causal.analysis.estimates.types import Estimate
from sublim_causal.report.figures.style import (
    INK,
    MONOSPACE,
    looks,
    new_figure,
    set_names,
    zero_line,
)


def path_diagram(arm: str, outcome: str, arrows: Mapping[str, str]) -> Figure:
    """Draw arm, alignment and outcome with a text on each arrow: keys alpha, beta, direct."""
    figure = new_figure(height=2.4)
    ax = figure.subplots()
    ax.set(xlim=(0, 10), ylim=(0, 6))
    ax.axis("off")
    places = {arm: (1.5, 1.0), "alignment\nof the update": (5.0, 5.0), outcome: (8.5, 1.0)}
    for text, (x, y) in places.items():
        ax.text(
            x,
            y,
            text,
            ha="center",
            va="center",
            color=INK,
            zorder=3,
            family=MONOSPACE if text == arm else None,
            bbox={"boxstyle": "round,pad=0.45", "facecolor": "white", "edgecolor": INK},
        )
    left, top, right = places.values()
    _arrow(ax, left, top, arrows["alpha"], (2.9, 3.5), "right")
    _arrow(ax, top, right, arrows["beta"], (7.1, 3.5), "left")
    _arrow(ax, left, right, arrows["direct"], (5.0, 1.75), "center")
    return figure


def _arrow(
    ax: Axes,
    start: tuple[float, float],
    end: tuple[float, float],
    text: str,
    at: tuple[float, float],
    align: str,
) -> None:
    ax.add_patch(
        FancyArrowPatch(
            start, end, arrowstyle="-|>", mutation_scale=12, shrinkA=32, shrinkB=36, color="#555555"
        )
    )
    ax.text(*at, text, ha=align, va="center", fontsize=8, color=INK, linespacing=1.35)


def sensitivity_curves(curves: Sequence[Estimate], label: str, scale: float) -> Figure:
    """Draw the indirect effect times `scale` over the correlation of the two error terms."""
    figure = new_figure()
    ax = figure.subplots()
    zero_line(ax)
    styles = looks(["", *(one.estimand.arm for one in curves)])
    ends: list[float] = []
    for one in curves:
        look, found = styles[one.estimand.arm], one.diagnostics
        rho, indirect = np.asarray(found["rho"]), scale * np.asarray(found["indirect"])
        low, high = (scale * np.asarray(found[f"indirect_{side}"]) for side in ("low", "high"))
        ax.fill_between(rho, low, high, color=look.color, alpha=0.18, linewidth=0)
        ax.plot(rho, indirect, color=look.color, linestyle=look.dashes, label=one.estimand.arm)
        ax.plot(one.value, 0, look.marker, color=look.color, markersize=6)
        ends += indirect[np.abs(rho) <= 0.85].tolist()
    pad = 0.15 * (np.ptp(ends) or 1.0)
    ax.set(
        xlabel="correlation of the two error terms",
        ylabel=label,
        ylim=(min(*ends, 0) - pad, max(*ends, 0) + pad),
    )
    set_names(figure.legend(loc="outside upper left", ncols=4).get_texts())
    return figure


def dose_response(
    linear: Sequence[Estimate], isotonic: Sequence[Estimate], label: str, scale: float
) -> Figure:
    """Draw means by dose, the monotone curve and the line, with bands that hold for all doses.

    The outcome is drawn times `scale`.
    """
    figure = new_figure()
    ax = figure.subplots()
    doses = [one.diagnostics["dose"] for one in isotonic]
    ax.fill_between(
        doses,
        [scale * one.low for one in isotonic],
        [scale * one.high for one in isotonic],
        color="#0072B2",
        alpha=0.2,
        linewidth=0,
        label="monotone, band",
    )
    ax.plot(doses, [scale * one.value for one in isotonic], color="#0072B2", label="monotone")
    ax.plot(
        [one.diagnostics["dose"] for one in linear],
        [scale * one.value for one in linear],
        color="#D55E00",
        linestyle="--",
        label="line",
    )
    means = [scale * one.diagnostics["mean"] for one in isotonic]
    ax.plot(doses, means, "o", color=INK, markersize=4.5, label="mean")
    ax.set(xlabel="strength of projection", ylabel=label)
    figure.legend(loc="outside upper left", ncols=4, columnspacing=1.0)
    return figure


def wald_plot(
    ratios: Sequence[Estimate], slope: float, level: float, label: str, scale: float
) -> Figure:
    """Draw the changes of outcome, times `scale`, and alignment at each dose, with ellipses."""
    figure = new_figure()
    ax = figure.subplots()
    zero_line(ax)
    zero_line(ax, vertical=True)
    reach = 0.0
    for one in ratios:
        found = one.diagnostics
        dm, dy = found["treatment_change"], found["outcome_change"]
        shared = scale * found["covariance"]
        cov = np.array([[dm["se"] ** 2, shared], [shared, (scale * dy["se"]) ** 2]])
        centre = (dm["value"], scale * dy["value"])
        _ellipse(ax, centre, cov, dm["n_seeds"], level)
        ax.plot(*centre, "o", color=INK, markersize=4)
        ax.annotate(
            f"{found['dose']:g}", centre, xytext=(5, 5), textcoords="offset points", fontsize=8
        )
        reach = max(reach, dm["value"], key=abs)
    ax.plot([0, reach], [0, scale * slope * reach], color="#D55E00", linestyle="--")
    ax.set(xlabel="change of the update's mean cosine", ylabel=label)
    return figure


def _ellipse(
    ax: Axes, centre: tuple[float, float], cov: np.ndarray, n_seeds: int, level: float
) -> None:
    """Hotelling's confidence region of two means, in the units of the axes."""
    scale = 2 * (n_seeds - 1) / (n_seeds - 2) * f_ppf(level, 2, n_seeds - 2)
    # Axes differ in unit: the ellipse is the image of a circle under the Cholesky factor.
    angles = np.linspace(0, 2 * np.pi, 90)
    circle = np.stack([np.cos(angles), np.sin(angles)])
    ring = np.linalg.cholesky(cov) @ circle * np.sqrt(scale)
    ax.fill(centre[0] + ring[0], centre[1] + ring[1], color="#0072B2", alpha=0.2, linewidth=0)
