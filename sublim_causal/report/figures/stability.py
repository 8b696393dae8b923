"""A specification curve: a claim's headline under every defensible choice, coloured by verdict."""

from __future__ import annotations

from typing import get_args

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sublim_causal.analysis.plan.claims.verdicts import Alternative, Choice, ClaimVerdict, Standing
from sublim_causal.report.figures.style import WIDTH, legend_above, new_figure, zero_line

_DECLARED = "as declared"
VERDICT_STYLES: dict[Standing, tuple[str, str]] = {
    "supported": ("#009E73", "o"),
    "partly supported": ("#E69F00", "s"),
    "undetermined": ("#7F7F7F", "D"),
    "not supported": ("#D55E00", "X"),
}
"""Colour and marker of each verdict."""


def specification_curve(claim: ClaimVerdict, label: str, scale: float = 1.0) -> Figure:
    """Draw the headline of `claim` under its alternatives, sorted, above a grid of the choices.

    Parameters
    ----------
    claim : ClaimVerdict
        With alternatives.
    label : str
        Label of the axis of the headline.
    scale : float
        By what it is multiplied.
    """
    one = claim.headline
    own = (np.nan, np.nan, np.nan) if one is None else (one.value, one.low, one.high)
    # The plan's own analysis stands first among equals.
    rows: list[tuple[str, Alternative]] = [
        (_DECLARED, Alternative("outcome", "", claim.verdict, *own)),
        *((other.choice, other) for other in claim.alternatives),
    ]
    rows.sort(key=lambda row: (np.isnan(row[1].value), row[1].value))
    used = {name for name, _ in rows}
    names = [_DECLARED, *(name for name in get_args(Choice) if name in used)]
    figure = new_figure(2 * WIDTH, 2.6 + 0.19 * len(names))
    curve, grid = figure.subplots(
        2, 1, sharex=True, gridspec_kw={"height_ratios": [2.0, 0.19 * len(names) + 0.1]}
    )
    for place, (name, row) in enumerate(rows):
        color, marker = VERDICT_STYLES[row.verdict]
        declared = name == _DECLARED
        curve.plot(
            [place, place],
            [scale * row.low, scale * row.high],
            color=color,
            linewidth=3.2 if declared else 1.4,
        )
        curve.plot(place, scale * row.value, marker, color=color, markersize=7 if declared else 4)
        grid.plot(place, names.index(name), marker, color=color, markersize=4.5)
    zero_line(curve)
    curve.set_ylabel(label)
    grid.set_yticks(range(len(names)), names)
    grid.set_ylim(len(names) - 0.5, -0.5)
    grid.set_xticks([])
    grid.set_xlim(-1, len(rows))
    grid.set_xlabel(f"{len(rows) - 1} alternatives, sorted by the estimate")
    curve.tick_params(axis="x", length=0)
    for ax in (curve, grid):
        ax.grid(visible=False, axis="x")
    seen = {row.verdict for _, row in rows}
    legend_above(
        figure,
        [
            Line2D([], [], color=color, marker=marker, linestyle="", label=name)
            for name, (color, marker) in VERDICT_STYLES.items()
            if name in seen
        ],
    )
    return figure
