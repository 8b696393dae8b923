"""Figures of curves over steps."""

from __future__ import annotations

import numpy as np

from sublim_causal.analysis.plan.results.curves import Curve
from sublim_causal.report.figures.curves import shares


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
