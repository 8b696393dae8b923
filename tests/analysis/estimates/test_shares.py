"""The interval of a share stays within 0 and 1, and is near the t interval in the middle."""

import numpy as np
import pytest
from scipy import special, stats

from sublim_causal.analysis.estimates.intervals import mean_interval
from sublim_causal.analysis.estimates.settings import Settings
from sublim_causal.analysis.estimates.shares import share_interval
from sublim_causal.analysis.estimates.types import NotEstimable

NEAR_ONE = np.array([0.99, 0.98, 1.0, 0.97, 0.99, 1.0])


def test_the_limits_are_those_of_the_delta_method_on_logits():
    found = share_interval(NEAR_ONE)
    mean, se = NEAR_ONE.mean(), stats.sem(NEAR_ONE)
    half = stats.t.ppf(0.975, 5) * se / (mean * (1 - mean))
    expected = special.expit(special.logit(mean) + half * np.array([-1, 1]))
    assert (found.low, found.high) == pytest.approx(tuple(expected), rel=1e-12)
    assert found.method == "t of the logit"
    assert found.high < 1 < mean_interval(NEAR_ONE).high


def test_p_and_limits_agree():
    low = share_interval(NEAR_ONE).low
    assert share_interval(NEAR_ONE, null=low).p_value == pytest.approx(0.05, rel=1e-9)


def test_in_the_middle_it_is_close_to_the_t_interval():
    x = np.random.default_rng(0).uniform(0.45, 0.55, 12)
    ours, plain = share_interval(x), mean_interval(x)
    assert (ours.low, ours.high) == pytest.approx((plain.low, plain.high), abs=1e-4)


def test_skewed_shares_have_the_hull_and_equal_ones_no_width():
    skewed = np.array([1.0, 1.0, 0.99, 1.0, 0.99, 1.0, 0.99, 0.98, 0.9])
    found = share_interval(skewed)
    assert found.method == "hull of t of the logit and bootstrap-t"
    boot = share_interval(skewed, settings=Settings(interval="bootstrap-t"))
    assert found.low <= boot.low
    assert share_interval(np.ones(8)).method == "identical"
    assert isinstance(share_interval([1.0, 0.9]), NotEstimable)
