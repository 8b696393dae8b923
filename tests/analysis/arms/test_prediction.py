"""The interval of one more run is the textbook's, and covers what it promises."""

from __future__ import annotations

import numpy as np
import pytest

from sublim_causal.analysis.arms.prediction import prediction_interval
from sublim_causal.analysis.estimates.types import Estimand, Estimate, NotEstimable

ESTIMAND = Estimand("x", "A value.")


def test_the_prediction_interval_is_that_of_the_textbook() -> None:
    # Mean 3, sd sqrt(2.5), t_{.975, 4} = 2.776445: 3 -+ 2.776445 sqrt(2.5 * 6 / 5).
    found = prediction_interval([1, 2, 3, 4, 5], estimand=ESTIMAND)
    assert isinstance(found, Estimate)
    half = 2.7764451 * np.sqrt(3.0)
    assert (found.low, found.high) == pytest.approx((3 - half, 3 + half), rel=1e-6)
    assert found.p_value is None
    assert found.diagnostics["range_level"] == pytest.approx(4 / 6)


def test_a_new_value_lies_inside_as_often_as_promised() -> None:
    rng = np.random.default_rng(1)
    draws = rng.standard_normal((1500, 9))
    inside = 0
    for row in draws:
        found = prediction_interval(row[:8], level=0.9, estimand=ESTIMAND)
        assert isinstance(found, Estimate)
        inside += found.low <= row[8] <= found.high
    # 4 standard errors of a share of 0.9 in 1,500 trials.
    assert inside / 1500 == pytest.approx(0.9, abs=0.031)


def test_skewed_seeds_are_said_to_be() -> None:
    found = prediction_interval([0, 0, 0, 0, 0.1, 9], estimand=ESTIMAND)
    assert isinstance(found, Estimate)
    assert any("rely on normality" in one for one in found.warnings)
    assert isinstance(prediction_interval([1, 2], estimand=ESTIMAND), NotEstimable)
