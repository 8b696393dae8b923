"""Figures of results."""

from __future__ import annotations

import io

import numpy as np
import pytest
from matplotlib.figure import Figure

from sublim_causal.errors import RequestError
from sublim_causal.report import plot_results
from sublim_causal.report.material import Material


def test_results_are_drawn_with_labels_and_width(demo_material: Material) -> None:
    results = demo_material.results
    names = ["final_accuracy_projection", "final_accuracy_shuffled"]
    figure = plot_results([results[name] for name in names], labels={names[0]: "mine"}, width=6)
    (ax,) = figure.axes
    assert [one.get_text() for one in ax.get_yticklabels()] == ["mine", names[1]]
    assert ax.get_xlabel() == "percentage points"
    assert figure.get_figwidth() == 6
    drawn = [np.asarray(line.get_xdata()) for line in ax.lines]
    first = results[names[0]]
    limits = [100 * first.low, 100 * first.high]  # type: ignore[union-attr]
    assert any(len(x) == 2 and np.allclose(x, limits) for x in drawn)


def test_results_are_drawn_with_a_title_in_axes_of_ones_own(demo_material: Material) -> None:
    own = Figure()
    left, right = own.subplots(1, 2)
    one = demo_material.results["final_accuracy_projection"]
    figure = plot_results(one, title="Mine", labels={one.estimand.name: "a $ b $"}, ax=right)
    assert figure is own
    assert right.get_title() == "Mine"
    assert not left.lines
    figure.savefig(io.BytesIO())  # dollars are no formula
    assert plot_results(one, title="New").axes[0].get_title() == "New"


def test_results_that_cannot_share_an_axis_are_refused(demo_material: Material) -> None:
    with pytest.raises(RequestError, match="results of one unit"):
        plot_results(demo_material.results)
    with pytest.raises(RequestError, match="names of results"):
        plot_results(demo_material.results["final_accuracy_projection"], labels={"x": "y"})
