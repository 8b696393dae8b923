from __future__ import annotations

import io
import math

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from sublim_causal.analysis.estimates.types import Estimand, Estimate
from sublim_causal.analysis.plan.claims.rules import Condition
from sublim_causal.analysis.plan.claims.verdicts import Alternative, ClaimVerdict, Finding
from sublim_causal.errors import RequestError
from sublim_causal.report import plot_results
from sublim_causal.report.blocks import Picture
from sublim_causal.report.figures.mixed import influence
from sublim_causal.report.figures.stability import specification_curve
from sublim_causal.report.figures.style import settings
from sublim_causal.report.material import Material
from sublim_causal.report.sections import BODY


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


@pytest.mark.parametrize("n_seeds", [3, 4, 12, 30])
def test_seeds_are_counted_in_whole_numbers(n_seeds: int) -> None:
    left_out = pd.Series(np.linspace(0, 1, n_seeds))
    ticks = influence(left_out, 0.5, 0.2, 0.8, "slope").axes[0].get_xticks()
    np.testing.assert_array_equal(ticks, np.round(ticks))


def test_a_slope_is_per_unit_of_cosine(demo_material: Material) -> None:
    with settings():
        blocks = BODY["mixed"](demo_material).blocks
    drawn = {one.name: one for one in blocks if isinstance(one, Picture)}
    for name in ("mixed_random_slopes", "mixed_influence"):
        assert "nats per unit of cosine" in drawn[name].figure.axes[0].get_ylabel()


def test_a_specification_curve_sorts_the_alternatives_and_marks_their_choice() -> None:
    condition = Condition(estimand="effect", holds="low > 0", fails="high < 0", essential=True)
    own = Estimate(Estimand("effect", "An effect."), 2.0, 0.5, 1.0, 3.0, 0.95, 7.0, None, "t", 8)
    others = (
        Alternative("seed", "without seed 0", "supported", 2.5, 1.5, 3.5),
        Alternative("interval", "bootstrap-t", "undetermined", 1.0, -1.0, 3.0),
        Alternative("arm", "without half", "not supported", math.nan, math.nan, math.nan),
    )
    claim = ClaimVerdict(
        "claimed", "It is so.", "supported", (Finding(condition, "holds", own, ""),), others
    )
    curve, grid = specification_curve(claim, "effect", 10.0).axes
    marks = [line for line in curve.lines if line.get_marker() not in ("None", "", " ")]
    drawn = [float(line.get_ydata()[0]) for line in marks]
    assert drawn[:3] == [10.0, 20.0, 25.0]
    assert math.isnan(drawn[3])
    assert [text.get_text() for text in grid.get_yticklabels()] == [
        "as declared",
        "interval",
        "seed",
        "arm",
    ]
    assert {line.get_color() for line in marks} == {"#009E73", "#7F7F7F", "#D55E00"}
