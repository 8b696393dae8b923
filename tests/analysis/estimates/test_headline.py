"""Which interval is the headline, and the warnings beside it."""

import numpy as np
import pytest
from scipy import stats

from sublim_causal.analysis.estimates.bootstrap import Bounds
from sublim_causal.analysis.estimates.headline import (
    is_stable,
    quoted_interval,
    seed_warnings,
    skewness,
)

SKEWED = np.array([0.1, 0.2, 0.1, 0.3, 0.2, 0.1, 0.4, 0.2, 4.0, 0.3])


def test_skewness_equals_scipy():
    assert skewness(SKEWED) == pytest.approx(stats.skew(SKEWED), rel=1e-12)
    assert skewness(np.ones(4)) == 0.0


def test_a_wild_bootstrap_t_interval_is_not_quoted() -> None:
    plain = Bounds(-1.0, 1.0)
    assert is_stable(Bounds(-1.0, 3.0), plain)
    assert not is_stable(Bounds(-1.0, 48.0), plain)
    assert not is_stable(Bounds(-np.inf, 1.0), plain)
    skewed = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 5.0])
    assert quoted_interval("auto", skewed, Bounds(-1.0, 3.0), plain) == "hull"
    assert quoted_interval("auto", skewed[1:], Bounds(-1.0, 3.0), plain) == "t"
    assert quoted_interval("auto", skewed, Bounds(-1.0, 48.0), plain) == "t"
    assert quoted_interval("bootstrap-t", skewed, Bounds(-1.0, 48.0), plain) == "bootstrap-t"


@pytest.mark.parametrize(
    ("n_seeds", "skewed", "stable", "parts"),
    [
        (30, False, True, ()),
        (5, False, True, ("only 5 seeds",)),
        (30, True, True, ("the hull of t and bootstrap-t is the interval to quote",)),
        (30, True, False, ("too few of them differ",)),
        (
            12,
            True,
            True,
            ("the hull of t and bootstrap-t is the interval to quote", "nominal coverage"),
        ),
        (5, True, True, ("only 5 seeds", "needs at least 8 of them", "nominal coverage")),
    ],
)
def test_warnings_follow_number_skewness_and_stability(n_seeds, skewed, stable, parts) -> None:
    found = seed_warnings(n_seeds, skewed, stable)
    assert len(found) == len(parts)
    assert all(part in one for part, one in zip(parts, found, strict=True))
