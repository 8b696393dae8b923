"""The rules every interval follows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sublim_causal.analysis.estimates.intervals import mean_interval
from sublim_causal.analysis.estimates.settings import Settings
from sublim_causal.analysis.estimates.types import NotEstimable
from sublim_causal.errors import DataError, RequestError

SYMMETRIC = np.array([-3.0, -2, -1, 0, 1, 2, 3, 0.5, -0.5, 1.5]) + 5
SKEWED = np.array([0.1, 0.2, 0.1, 0.3, 0.2, 0.1, 0.4, 0.2, 4.0, 0.3])


def test_symmetric_values_get_the_t_interval_and_keep_the_bootstrap():
    ours = mean_interval(SYMMETRIC)
    expected = stats.ttest_1samp(SYMMETRIC, 0).confidence_interval()
    assert ours.method == "t"
    assert (ours.low, ours.high) == pytest.approx(tuple(expected), rel=1e-12)
    assert ours.diagnostics["also"]["method"] == "bootstrap-t"
    assert ours.warnings == ()


def test_of_skewed_values_the_hull_is_quoted_with_the_reason():
    ours = mean_interval(SKEWED)
    plain, boot = (
        mean_interval(SKEWED, settings=Settings(interval=i)) for i in ("t", "bootstrap-t")
    )
    assert ours.method == "hull of t and bootstrap-t"
    assert ours.df is None
    assert (ours.low, ours.high) == (plain.low, boot.high)  # the long tail is on the right
    assert ours.p_value == max(plain.p_value, boot.p_value)
    assert "skewed" in ours.warnings[0]
    assert "no interval reaches" in ours.warnings[1]
    assert ours.diagnostics["also"]["method"] == "t"


def test_a_declared_interval_overrules_the_skewness_rule_but_the_warning_stays():
    ours = mean_interval(SKEWED, settings=Settings(interval="t"))
    assert ours.method == "t"
    assert "skewed" in ours.warnings[0]


def test_the_note_on_coverage_holds_at_any_level():
    note = mean_interval(SKEWED, settings=Settings(0.9)).warnings[1]
    assert "nominal coverage (at 95 %: 82 to 94 %)" in note


def test_an_unbounded_bootstrap_never_leads_unasked():
    nearly_equal = np.r_[np.zeros(11), 1.0]  # a third of the draws has no spread at all
    ours = mean_interval(nearly_equal)
    assert ours.method == "t"
    assert "too few of them differ" in ours.warnings[0]
    asked = mean_interval(nearly_equal, settings=Settings(interval="bootstrap-t"))
    assert np.isinf([asked.low, asked.high]).any()


def test_few_seeds_are_warned_of():
    assert "only 5 seeds" in mean_interval(SYMMETRIC[:5]).warnings[0]
    assert isinstance(mean_interval(SYMMETRIC[:2]), NotEstimable)


@pytest.mark.parametrize("value", [0.0, 1.0, 0.1 + 0.2])
def test_identical_values_have_no_width_and_say_so(value):
    ours = mean_interval(np.full(9, value))
    assert (ours.value, ours.low, ours.high, ours.se) == (value, value, value, 0.0)
    assert ours.p_value == (1.0 if value == 0 else None)
    assert "no width" in ours.warnings[0]


def test_the_same_call_gives_the_same_interval():
    assert mean_interval(SKEWED) == mean_interval(SKEWED)
    other = mean_interval(SKEWED, settings=Settings(rng=1))
    assert other.high != mean_interval(SKEWED).high


def test_wrong_requests_are_refused():
    with pytest.raises(DataError, match="1 of 3 values not finite"):
        mean_interval([1.0, np.nan, 2.0])
    with pytest.raises(RequestError, match="interval"):
        mean_interval(SYMMETRIC, settings=Settings(interval="wald"))
    with pytest.raises(RequestError, match="level"):
        mean_interval(SYMMETRIC, settings=Settings(95))


@given(st.floats(-100, 100), st.floats(0.01, 100), st.sampled_from([SYMMETRIC, SKEWED]))
def test_intervals_move_with_shift_and_scale(shift, scale, values):
    one, other = mean_interval(values), mean_interval(shift + scale * values)
    assert other.method == one.method
    assert other.low == pytest.approx(shift + scale * one.low, abs=1e-7 * (scale + abs(shift)))
    assert other.high == pytest.approx(shift + scale * one.high, abs=1e-7 * (scale + abs(shift)))


@pytest.mark.parametrize("values", [SYMMETRIC, SKEWED])
def test_mirrored_values_have_the_mirrored_interval(values):
    one, other = (
        mean_interval(values, settings=Settings(interval="bootstrap-t")),
        mean_interval(-values, settings=Settings(interval="bootstrap-t")),
    )
    assert (other.low, other.high) == pytest.approx((-one.high, -one.low), rel=1e-9)


def test_few_skewed_values_keep_the_t_interval_and_say_why() -> None:
    few = np.array([0.084, 0.09, 0.09, 0.21])
    found = mean_interval(few)
    assert found.method == "t"
    assert any("bootstrap-t needs at least 8 of them" in text for text in found.warnings)
    assert found.diagnostics["also"]["method"] == "bootstrap-t"
    assert mean_interval(few, settings=Settings(interval="bootstrap-t")).method == "bootstrap-t"


def test_all_levels_of_one_figure_go_by_one_method() -> None:
    rng = np.random.default_rng(0)
    for _ in range(40):
        values = rng.exponential(size=8) ** 2
        methods = {
            mean_interval(values, settings=Settings(level)).method
            for level in (0.8, 0.9, 0.95, 0.99)
        }
        assert len(methods) == 1
