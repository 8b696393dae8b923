from __future__ import annotations

import math

import pytest

from sublim_causal.analysis.estimates.types import DIFFERENCE, FRACTION, Estimand, Estimate
from sublim_causal.report import wording


def made(value: float, low: float, high: float, unit: str) -> Estimate:
    estimand = Estimand("x", "A quantity.", unit=unit)
    return Estimate(estimand, value, 0.1, low, high, 0.95, None, 0.5, "t", 8)


@pytest.mark.parametrize(
    ("low", "high", "places"),
    [(0.0077, 0.0087, 4), (-42.7, -33.7, 1), (0.99994, 1.00003, 6), (0, 130, 0)],
)
def test_digits_are_those_that_tell_the_limits_apart(low: float, high: float, places: int) -> None:
    assert wording.decimals(low, high) >= places - 1
    assert wording.decimals(low, high) <= places + 1


def test_numbers_have_a_true_minus_and_no_minus_zero() -> None:
    assert wording.number(-0.004, 2) == "0.00"
    assert wording.number(-1.5, 1) == "\N{MINUS SIGN}1.5"
    assert wording.number(-math.inf, 2) == "\N{MINUS SIGN}\N{INFINITY}"


def test_fractions_are_shown_in_percent() -> None:
    one = made(0.859, 0.822, 0.897, FRACTION)
    assert wording.estimate(one) == "85.9 % [82.2, 89.7]"


def test_differences_of_fractions_are_percentage_points() -> None:
    one = made(-0.38, -0.43, -0.34, DIFFERENCE)
    assert wording.estimate(one).startswith("\N{MINUS SIGN}38.0 percentage points [")


def test_slopes_keep_their_unit() -> None:
    one = made(0.02, 0.01, 0.03, "fraction per unit of cos_update")
    assert wording.estimate(one) == "0.020 [0.010, 0.030]"


def test_an_interval_without_width_says_why() -> None:
    one = made(1.0, 1.0, 1.0, FRACTION)
    assert wording.estimate(one) == "100 % in every seed"


def test_p_is_never_zero() -> None:
    assert wording.p_value(0.0) == "< 0.0001"
    assert wording.p_value(None) == ""
