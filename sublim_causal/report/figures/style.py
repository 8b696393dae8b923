"""One style for all figures: sizes, fonts, and a colour, dashes and marker for each arm."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

# Okabe and Ito's colours, which colour-blind readers tell apart, in an order of differing
# lightness; dashes and markers carry the same information in grey.
COLOURS = ("#000000", "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F")
DASHES: tuple[Any, ...] = (
    "-",
    (0, (5, 1.5)),
    (0, (5, 1.5, 1, 1.5)),
    (0, (1.2, 1.2)),
    (0, (8, 2)),
    (0, (3, 1, 1, 1, 1, 1)),
    (0, (2, 2)),
    "-",
)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
WIDTH, HEIGHT = 4.5, 3.2
"""Inches of a picture that takes half of a wide page, or the whole of a telephone's."""
INK, FAINT = "#222222", "#8a8a8a"
MONOSPACE = "DejaVu Sans Mono"
"""Font of names: arms and estimands."""
SETTINGS: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "legend.fontsize": 8,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#555555",
    "axes.linewidth": 0.7,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "lines.linewidth": 1.6,
    "legend.frameon": False,
    "legend.handlelength": 2.6,
    "svg.fonttype": "none",
    "pdf.fonttype": 42,  # TrueType: publishers refuse Type 3
    "axes.unicode_minus": True,
    "axes.formatter.limits": (-3, 4),
    "axes.formatter.useoffset": False,
    "text.parse_math": False,  # a dollar in the name of an arm is a dollar
}


def settings(**more: Any) -> AbstractContextManager[None]:
    """Return a context in which pictures get this look; matplotlib's own settings come back."""
    chosen: Any = {**SETTINGS, **more}  # matplotlib types every key of its own
    return mpl.rc_context(chosen)


@dataclass(frozen=True)
class ArmStyle:
    """How an arm is drawn."""

    color: str
    dashes: Any
    marker: str


def looks(arms: Sequence[str]) -> dict[str, ArmStyle]:
    """Return a look for every arm; beyond eight arms, shades of one scale."""
    n = len(arms)
    if n <= len(COLOURS):
        return {arm: ArmStyle(COLOURS[i], DASHES[i], MARKERS[i]) for i, arm in enumerate(arms)}
    shades = mpl.colormaps["viridis"](np.linspace(0, 0.88, n))
    return {
        arm: ArmStyle(mpl.colors.to_hex(shades[i]), DASHES[i % 8], MARKERS[i % 8])
        for i, arm in enumerate(arms)
    }


def new_figure(width: float = WIDTH, height: float = HEIGHT) -> Figure:
    """Return an empty figure with a canvas of its own; nothing global is touched."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def is_wide(count: int) -> bool:
    """Return whether a picture of `count` arms takes the whole width of a page."""
    return count > 6


def grid(count: int, *, share: bool = True) -> Any:
    """Return a figure and `count` axes in rows, with shared scales unless not `share`."""
    columns, cell = min(4 if is_wide(count) else 2, count), (2.3, 1.75)
    rows = -(-count // columns)
    figure = new_figure(max(columns * cell[0], WIDTH), max(rows * cell[1], 2.2) + 0.25)
    axes = figure.subplots(rows, columns, sharex=True, sharey=share, squeeze=False)
    for ax in axes.flat[count:]:
        ax.remove()
    for i in range(count, rows * columns):  # the panel above an empty place carries the labels
        axes.flat[i - columns].tick_params(labelbottom=True)
    return figure, list(axes.flat[:count])


def name_title(ax: Axes, arm: str) -> None:
    """Title a panel with the name of its arm."""
    ax.set_title(arm, loc="left", family=MONOSPACE)


def set_names(texts: Sequence[Text]) -> None:
    """Set labels of legends and axes as the names they are."""
    for text in texts:
        text.set_fontfamily(MONOSPACE)


def zero_line(ax: Axes, *, vertical: bool = False, at: float = 0.0) -> None:
    """Mark a value, by default 0, across `ax`."""
    (ax.axvline if vertical else ax.axhline)(at, color=FAINT, linewidth=0.9, zorder=1)


def legend_above(figure: Figure, handles: Sequence[Any], *, names: bool = True) -> None:
    """Put one legend over the whole figure, in as many columns as its labels leave room for.

    The figure grows with a legend of more than four rows. `names` tells whether its labels are
    names of arms.
    """
    longest = max(len(str(handle.get_label())) for handle in handles)
    room = figure.get_figwidth() * 72 / (42 + 5.0 * longest)  # points: a sample and 8-point letters
    columns = max(1, min(len(handles), int(room)))
    rows = -(-len(handles) // columns)
    figure.set_figheight(figure.get_figheight() + 0.165 * max(0, rows - 4))
    legend = figure.legend(
        handles=list(handles), loc="outside upper left", ncols=columns, columnspacing=1.2
    )
    if names:
        set_names(legend.get_texts())
