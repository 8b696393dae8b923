"""Figures of what verdicts rest on."""

from __future__ import annotations

import math

from sublim_causal.analysis.estimates.types import Estimand, Estimate
from sublim_causal.analysis.plan.claims.rules import Condition
from sublim_causal.analysis.plan.claims.verdicts import Alternative, ClaimVerdict, Finding
from sublim_causal.report.figures.stability import specification_curve


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
