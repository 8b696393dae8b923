"""Boundaries for repeated looks keep the error that they promise."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from sublim_causal.analysis.arms.sequential import (
    anytime_half_width,
    crossing_probability,
    naive_error,
    nominal_levels,
)
from sublim_causal.errors import RequestError

LOOKS = (8, 12, 16, 20, 30)


def test_known_boundaries() -> None:
    """Five equal looks: O'Brien-Fleming ends at p 0.0413, Pocock's constant is 2.413."""
    assert 1 - nominal_levels([10, 20, 30, 40, 50])[-1] == pytest.approx(0.0413, abs=5e-5)
    assert crossing_probability([10, 20, 30, 40, 50], [2.413] * 5) == pytest.approx(0.05, abs=5e-5)
    assert nominal_levels([30]) == pytest.approx([0.95])


def test_unadjusted_looks_are_wrong_too_often() -> None:
    assert naive_error(LOOKS) == pytest.approx(0.135, abs=1e-3)
    assert naive_error([30]) == pytest.approx(0.05)


def test_boundaries_keep_the_error_of_t_tests() -> None:
    rng = np.random.default_rng(0)
    values = rng.standard_normal((20_000, LOOKS[-1]))
    crossed = np.zeros(len(values), dtype=bool)
    for n, level in zip(LOOKS, nominal_levels(LOOKS), strict=True):
        crossed |= stats.ttest_1samp(values[:, :n], 0, axis=1).pvalue < 1 - level
    assert stats.binomtest(int(crossed.sum()), len(values), 0.05).pvalue > 1e-4


def test_anytime_interval_is_rarely_ever_wrong() -> None:
    rng = np.random.default_rng(1)
    wrong = 0
    for values in rng.standard_normal((300, 60)):
        firsts = [values[:n] for n in range(3, 61)]
        wrong += any(
            abs(x.mean()) > anytime_half_width(float(x.std(ddof=1)), len(x)) for x in firsts
        )
    assert stats.binomtest(wrong, 300, 0.05, alternative="greater").pvalue > 1e-3


@pytest.mark.parametrize(
    ("n", "ratio"), [(8, 1.80), (12, 1.67), (16, 1.65), (20, 1.64), (30, 1.64)]
)
def test_width_of_the_anytime_interval(n: int, ratio: float) -> None:
    plain = stats.t.isf(0.025, n - 1) * 1.3 / np.sqrt(n)
    assert anytime_half_width(1.3, n) / plain == pytest.approx(ratio, abs=0.006)


@pytest.mark.parametrize("looks", [(), (2, 8), (8, 8), (12, 8)])
def test_wrong_looks(looks: tuple[int, ...]) -> None:
    with pytest.raises(RequestError, match="rise from at least 3"):
        nominal_levels(looks)
