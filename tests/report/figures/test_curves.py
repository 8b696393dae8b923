"""Figures of curves over steps."""

from __future__ import annotations

import numpy as np
import pytest

from sublim_causal.analysis.plan.results.curves import Curve
from sublim_causal.report.figures.curves import overlay, shares


def test_a_missing_cosine_is_neither_positive_nor_not() -> None:
    seeds = np.array([[1.0, 1.0, np.nan, np.nan], [1.0, np.nan, 1.0, np.nan]])
    figure = shares({"baseline": Curve(np.arange(4), seeds, 0.95)}, "share", bins=2)
    drawn = figure.axes[0].lines[-1].get_ydata()
    np.testing.assert_array_equal(np.asarray(drawn), [100.0, 100.0])


def test_one_seed_has_a_mean_and_no_band() -> None:
    steps = np.arange(3)
    seeds = np.array([[1.0, 2.0, np.nan], [3.0, np.nan, np.nan], [5.0, np.nan, 4.0]])
    curve = Curve(steps, seeds, 0.95)
    np.testing.assert_allclose(curve.mean, [3.0, 2.0, 4.0])
    np.testing.assert_allclose(curve.half_width, [2.0 / 3**0.5 * 4.302653, np.nan, np.nan], 1e-6)


@pytest.mark.parametrize("count", [2, 8, 34])
def test_the_legend_leaves_room_for_the_curves_of_many_arms(count: int) -> None:
    seeds = np.array([[1.0, 2.0, 3.0], [2.0, 3.0, 4.0], [2.0, 2.5, 3.0]])
    curve = Curve(np.arange(3), seeds, 0.95)
    figure = overlay({f"an arm of a long name {i}": curve for i in range(count)}, "accuracy (%)")
    figure.draw_without_rendering()
    (ax,), (legend,) = figure.axes, figure.legends
    assert ax.get_tightbbox().y1 <= legend.get_window_extent().y0 + 1
    assert ax.get_window_extent().height > figure.dpi  # an inch
