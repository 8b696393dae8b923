"""Tail areas and quantiles against scipy.stats."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import stats

from sublim_causal.analysis.estimates import distributions as ours

SHARES = (1e-9, 0.025, 0.5, 0.975)
VALUES = (-3.0, 0.0, 0.4, 7.5, np.inf)


@pytest.mark.parametrize(
    ("one", "other", "arguments", "at"),
    [
        (ours.t_sf, stats.t.sf, (2.5,), VALUES),
        (ours.t_isf, stats.t.isf, (2.5,), SHARES),
        (ours.f_sf, stats.f.sf, (2.0, 7.5), VALUES),
        (ours.f_ppf, stats.f.ppf, (2.0, 7.5), SHARES),
        (ours.chi2_sf, stats.chi2.sf, (3.0,), VALUES),
        (ours.norm_sf, stats.norm.sf, (), VALUES),
        (ours.norm_isf, stats.norm.isf, (), SHARES),
        (ours.beta_ppf, stats.beta.ppf, (3.0, 5.0), SHARES),
        (ours.beta_isf, stats.beta.isf, (3.0, 5.0), SHARES),
    ],
)
def test_they_are_those_of_scipy_stats(
    one: Callable[..., Any], other: Callable[..., Any], arguments: tuple[float, ...], at: Any
) -> None:
    assert [one(x, *arguments) for x in at] == [other(x, *arguments) for x in at]


def test_of_arrays_and_of_both_sides() -> None:
    df = np.array([1.0, 4.5, np.inf])
    assert np.array_equal(ours.t_critical(0.9, df), stats.t.isf((1 - 0.9) / 2, df))
    t = np.array([0.3, 2.0, -1.0])
    assert np.array_equal(ours.t_sf(t, df), stats.t.sf(t, df))
