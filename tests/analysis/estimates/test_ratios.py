"""Fieller's set against its definition, and the shapes it can take."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from sublim_causal.analysis.estimates.ratios import ConfidenceSet, fieller_set, ratio_of_sums
from sublim_causal.analysis.estimates.settings import Settings
from sublim_causal.analysis.estimates.types import Estimand, NotEstimable

RATIO = Estimand("ratio", "A ratio.")
T = 2.0


def pivot(r: float, a: float, b: float, cov: np.ndarray) -> float:
    c = np.array([1.0, -r])
    return float((a - r * b) ** 2 - T**2 * c @ cov @ c)


@pytest.mark.parametrize(
    ("b", "shape"), [(3.0, "interval"), (-3.0, "interval"), (1.5, "complement"), (0.1, "line")]
)
def test_the_set_has_the_shape_its_denominator_allows(b: float, shape: str) -> None:
    cov = np.array([[0.5, 0.1], [0.1, 1.0]])
    a = 4.0 if shape == "complement" else 1.0
    assert fieller_set(a, b, cov, T).shape == shape


@pytest.mark.parametrize("a", [-2.0, 0.0, 4.0])
@pytest.mark.parametrize("b", [-3.0, 0.4, 1.5, 5.0])
def test_the_set_holds_exactly_what_the_pivot_accepts(a: float, b: float) -> None:
    cov = np.array([[0.5, -0.3], [-0.3, 1.0]])
    region = fieller_set(a, b, cov, T)
    for r in np.linspace(-30, 30, 601):
        inside = any(low <= r <= high for low, high in region.intervals)
        assert inside == (pivot(r, a, b, cov) <= 0)


def test_a_certain_denominator_gives_the_t_interval() -> None:
    region = fieller_set(3.0, 2.0, np.array([[0.25, 0.0], [0.0, 0.0]]), T)
    assert (region.low, region.high) == pytest.approx((1.0, 2.0))


def test_unbounded_sets_say_what_they_are() -> None:
    gap = ConfidenceSet(((-np.inf, 1.0), (2.0, np.inf)))
    assert gap.shape == "complement"
    assert gap.describe() == "every value outside (1, 2)"
    assert "unbounded" in gap.warnings(0.95)[0]
    assert ConfidenceSet(((-np.inf, np.inf),)).describe() == "every value"
    assert ConfidenceSet(((1.0, np.inf),)).shape == "ray"
    assert ConfidenceSet(()).shape == "empty"
    assert ConfidenceSet(((0.0, 1.0), (2.0, 3.0))).shape == "union"


def test_the_ratio_is_of_sums_not_a_mean_of_ratios() -> None:
    a, b = np.array([1.0, 2.0, 30.0]), np.array([10.0, 10.0, 40.0])
    assert ratio_of_sums(RATIO, a, b).value == pytest.approx(33 / 60)


def test_scaling_the_denominator_scales_the_set() -> None:
    rng = np.random.default_rng(0)
    b = 5 + rng.standard_normal(20)
    a = 2 * b + rng.standard_normal(20)
    plain, scaled = ratio_of_sums(RATIO, a, b), ratio_of_sums(RATIO, a, 10 * b)
    assert scaled.low == pytest.approx(plain.low / 10, rel=1e-10)
    assert scaled.high == pytest.approx(plain.high / 10, rel=1e-10)


def test_the_p_value_is_that_of_the_set() -> None:
    rng = np.random.default_rng(1)
    b = 5 + rng.standard_normal(12)
    a = 0.3 * b + rng.standard_normal(12)
    estimate = ratio_of_sums(RATIO, a, b, null=0.0)
    assert estimate.p_value == pytest.approx(stats.ttest_1samp(a, 0).pvalue)
    at_limit = ratio_of_sums(RATIO, a, b, null=estimate.low)
    assert at_limit.p_value == pytest.approx(0.05, rel=1e-9)


def test_of_skewed_residuals_the_hull_is_quoted_from_eight_seeds_on() -> None:
    rng = np.random.default_rng(2)
    b = 10 + rng.standard_normal(20)
    a = b + rng.lognormal(0, 1.2, 20)
    estimate = ratio_of_sums(RATIO, a, b)
    assert estimate.method == "hull of Fieller and bootstrap-t, ratio of sums"
    fieller = ratio_of_sums(RATIO, a, b, settings=Settings(interval="t"))
    boot = ratio_of_sums(RATIO, a, b, settings=Settings(interval="bootstrap-t"))
    assert boot.method == "bootstrap-t, ratio of sums"
    assert estimate.diagnostics["also"]["low"] == fieller.low
    assert (estimate.low, estimate.high) == (fieller.low, boot.high)
    at = np.argsort(a - b)[[0, 1, 2, 3, 4, 5, -1]]
    few = ratio_of_sums(RATIO, a[at], b[at])
    assert few.method == "Fieller, ratio of sums"
    assert any("needs at least 8 of them" in one for one in few.warnings)


def test_fieller_covers_when_the_denominator_is_weak() -> None:
    rng = np.random.default_rng(3)
    covered = 0
    for _ in range(400):
        b = 0.2 + rng.standard_normal(10)
        a = 2 * b + rng.standard_normal(10)
        estimate = ratio_of_sums(RATIO, a, b, settings=Settings(interval="t"))
        pieces = estimate.diagnostics["intervals"]
        covered += any(low <= 2.0 <= high for low, high in pieces)
    # Binomial(400, 0.95): three standard errors are 13.
    assert covered >= 367


def test_two_seeds_or_a_zero_denominator_estimate_nothing() -> None:
    assert isinstance(ratio_of_sums(RATIO, np.ones(2), np.ones(2)), NotEstimable)
    assert isinstance(ratio_of_sums(RATIO, np.ones(4), np.zeros(4)), NotEstimable)
