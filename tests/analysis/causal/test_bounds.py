"""Limits that hold whatever the distribution: against closed forms, and by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from sublim_causal.analysis.causal.bounds import lower_mean_bound, share_limits


@pytest.mark.parametrize("n", [8, 16, 30])
def test_alike_seeds_leave_room_for_collapses_that_were_not_seen(n: int) -> None:
    found = lower_mean_bound(np.full(n, 0.9), 0.025, np.random.default_rng(0))
    assert found == pytest.approx(0.9 * 0.025 ** (1 / n), abs=0.01)


def test_the_mean_lies_above_the_limit_where_a_tenth_of_the_seeds_collapses() -> None:
    rng = np.random.default_rng(1)
    n_sim, above = 150, 0
    for _ in range(n_sim):
        values = np.where(rng.random(8) < 0.1, 0.0, 0.5 / 0.9)
        above += lower_mean_bound(values, 0.025, rng) > 0.5
    assert stats.binomtest(above, n_sim, 0.025, alternative="greater").pvalue > 1e-3


def test_shares_of_seeds_have_clopper_and_pearson_s_limits() -> None:
    for count, n in ((0, 8), (7, 8), (8, 8), (5, 16)):
        found = share_limits(count, n, 0.95)
        exact = stats.binomtest(count, n).proportion_ci(0.95, "exact")
        assert (found.low, found.high) == pytest.approx((exact.low, exact.high))
