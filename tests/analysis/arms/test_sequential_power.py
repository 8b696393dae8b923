"""Power of a study that is looked at several times."""

import numpy as np
import pytest
from scipy import stats

from sublim_causal.analysis.arms.power import power_of_contrast
from sublim_causal.analysis.arms.sequential_power import power_by_look
from sublim_causal.errors import RequestError

NORMAL = stats.norm.ppf((np.arange(200) + 0.5) / 200)
"""Nearly normal residuals."""


def test_one_look_has_the_power_of_the_paired_test():
    found = power_by_look(NORMAL, 0.7, [16], n_studies=4000)
    exact = power_of_contrast(float(NORMAL.std(ddof=1)), 0.7, 16)
    hits = round(4000 * found.loc[found["sd"] == "pilot", "power"].item())
    assert stats.binom.ppf(0.0005, 4000, exact) <= hits <= stats.binom.ppf(0.9995, 4000, exact)


@pytest.mark.parametrize("boundary", ["obrien-fleming", "anytime"])
def test_power_grows_with_the_looks_and_is_smaller_with_the_cautious_sd(boundary):
    found = power_by_look(NORMAL[::20], 0.9, [8, 12, 16, 30], boundary=boundary)
    pilot, cautious = (found.loc[found["sd"] == name, "power"] for name in ("pilot", "cautious"))
    assert pilot.is_monotonic_increasing
    assert cautious.is_monotonic_increasing
    assert (cautious.to_numpy() < pilot.to_numpy()).all()


def test_without_a_difference_the_error_is_the_level():
    found = power_by_look(NORMAL, 0.0, [8, 12, 16, 20, 30], n_studies=4000)
    hits = round(4000 * found.loc[found["sd"] == "pilot", "power"].iloc[-1])
    assert hits <= stats.binom.ppf(0.9995, 4000, 0.052)


def test_looks_must_rise():
    with pytest.raises(RequestError, match="rise from at least 3"):
        power_by_look(NORMAL, 1.0, [12, 8])
