"""Seeds that collapsed are named, and a sample without any is rarely said to have one."""

import numpy as np
import pytest
from scipy import stats

from sublim_causal.analysis.estimates.collapse import FALSE_ALARMS, widest_gap
from sublim_causal.analysis.estimates.types import Estimand
from sublim_causal.analysis.plan.methods.collapse import collapsed_share

SHARE = Estimand("collapsed", "Share of seeds that collapsed.")
HEALTHY = np.array([0.51, 0.49, 0.5, 0.53, 0.48, 0.52, 0.5, 0.47])


def share(values, level=0.95):
    return collapsed_share(values, range(100, 100 + len(values)), SHARE, level)


def test_collapsed_seeds_are_named():
    values = HEALTHY.copy()
    values[[2, 5]] = 0.1, 0.11
    found = share(values)
    assert found.diagnostics["collapsed"] == [102, 105]
    assert "seeds 102, 105 of 8 lie below a gap" in found.warnings[0]
    exact = stats.binomtest(2, 8).proportion_ci(0.95, method="exact")
    assert (found.value, found.low, found.high) == pytest.approx((0.25, exact.low, exact.high))


def test_a_seed_below_equal_ones_is_named_without_a_gap_in_numbers():
    (warning,) = share(np.array([0.1, *[0.5] * 7])).warnings
    assert "seed 100 of 8 lies below the others, which are all equal" in warning
    assert "inf" not in warning


def test_of_none_the_limit_is_one_sided():
    found = share(HEALTHY)
    assert found.warnings == ("0 of 8 seeds collapsed: up to 31 % may collapse",)
    assert (found.value, found.low) == (0.0, 0.0)
    assert found.high == pytest.approx(1 - 0.05 ** (1 / 8))


def test_values_above_a_gap_and_equal_values_are_no_collapse():
    high = HEALTHY.copy()
    high[3] = 0.9
    assert not widest_gap(high).is_wide
    assert not widest_gap(np.ones(8)).is_wide
    alone = np.ones(8)
    alone[4] = 0.1
    assert share(alone).diagnostics["collapsed"] == [104]


@pytest.mark.parametrize("n", [6, 8, 12, 30])
def test_normal_samples_seldom_raise_an_alarm(n):
    rng, samples = np.random.default_rng(n), 1000
    alarms = sum(widest_gap(rng.standard_normal(n)).is_wide for _ in range(samples))
    assert alarms <= stats.binom.ppf(0.999, samples, FALSE_ALARMS)


@pytest.mark.parametrize(("n", "least"), [(8, 0.8), (12, 0.98), (30, 0.98)])
def test_a_seed_far_below_is_found(n, least):
    rng, samples = np.random.default_rng(n), 200
    found = 0
    for _ in range(samples):
        values = rng.standard_normal(n)
        values[0] -= 10
        found += widest_gap(values).is_wide
    assert found >= stats.binom.ppf(0.001, samples, least)
