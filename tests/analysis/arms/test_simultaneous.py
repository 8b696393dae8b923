"""Intervals of a family cover together, and a fixed sequence stops where it should."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from sublim_causal.analysis.arms.multiplicity import fixed_sequence
from sublim_causal.analysis.arms.simultaneous import BONFERRONI, MAX_T, max_t, with_simultaneous
from sublim_causal.analysis.estimates.intervals import t_estimate
from sublim_causal.analysis.estimates.types import Estimand, Estimate, NotEstimable, Result


def estimated(values: np.ndarray, name: str = "x") -> Estimate:
    n = len(values)
    return t_estimate(
        Estimand(name, "A mean."),
        float(values.mean()),
        float(values.std(ddof=1) / np.sqrt(n)),
        n - 1,
        level=0.95,
        method="t",
        n_seeds=n,
    )


def bounds(one: Result) -> tuple[str, float, float]:
    assert isinstance(one, Estimate)
    assert one.simultaneous is not None
    return one.simultaneous["method"], one.simultaneous["low"], one.simultaneous["high"]


@pytest.mark.parametrize("n_seeds", [6, 12])
def test_all_of_three_correlated_intervals_cover_together(n_seeds: int) -> None:
    rng, n, covered = np.random.default_rng(0), 300, 0
    for _ in range(n):
        d = rng.standard_normal((n_seeds, 1)) + rng.standard_normal((n_seeds, 3))
        t = np.abs(d.mean(axis=0) / d.std(axis=0, ddof=1)) * np.sqrt(n_seeds)
        covered += t.max() <= max_t(d, 0.95, n_flips=999, rng=rng)
    assert stats.binomtest(covered, n, 0.95).pvalue > 1e-3


def test_one_member_needs_about_the_t_quantile() -> None:
    d = np.random.default_rng(1).standard_normal((13, 1))
    assert max_t(d, 0.95) == pytest.approx(stats.t.isf(0.025, 12), rel=0.1)


def test_the_intervals_are_the_estimates_with_one_critical_value() -> None:
    d = np.random.default_rng(2).standard_normal((10, 3))
    members = [estimated(column) for column in d.T]
    found = with_simultaneous(members, 0.95, differences=d)
    for one, wide in zip(members, found, strict=True):
        method, low, high = bounds(wide)
        assert method == MAX_T
        assert (low + high) / 2 == pytest.approx(one.value)
        assert (high - low) / 2 == pytest.approx(max_t(d, 0.95) * one.se)


def test_bonferroni_without_differences_or_with_few_seeds() -> None:
    d = np.random.default_rng(3).standard_normal((5, 2))
    members = [estimated(column) for column in d.T]
    expected = stats.t.isf(0.05 / 4, 4)
    for found in (
        with_simultaneous(members, 0.95),
        with_simultaneous(members, 0.95, differences=d),
    ):
        method, low, high = bounds(found[0])
        assert method == BONFERRONI
        assert (high - low) / 2 == pytest.approx(expected * members[0].se)


def test_members_that_are_not_estimable_do_not_count() -> None:
    d = np.random.default_rng(4).standard_normal((8, 2))
    missing = NotEstimable(Estimand("y", "A mean."), "no arm")
    one = estimated(d[:, 0])
    alone, pair = with_simultaneous([one], 0.95), with_simultaneous([one, missing], 0.95)
    assert bounds(alone[0]) == bounds(pair[0])
    assert pair[1] is missing


def test_nothing_is_tested_after_a_gap_in_the_sequence() -> None:
    d = np.random.default_rng(5).standard_normal((8, 3)) + 2
    first, second, last = (estimated(column, f"x{k}") for k, column in enumerate(d.T))
    gap = NotEstimable(Estimand("gap", "A mean."), "no arm")
    found = fixed_sequence([first, gap, last])
    assert isinstance(found[0], Estimate)
    assert isinstance(found[2], Estimate)
    assert found[0].diagnostics["p_adjusted"] == first.p_value
    assert "p_adjusted" not in found[2].diagnostics
    assert "not tested: gap" in found[2].warnings[-1]
    untested = fixed_sequence([replace(second, p_value=None), last])[1]
    assert isinstance(untested, Estimate)
    assert "p_adjusted" not in untested.diagnostics
