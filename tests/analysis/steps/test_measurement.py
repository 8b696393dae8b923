"""Measurement error is measured, and slopes are corrected for it."""

import numpy as np
import pytest

from sublim_causal.analysis.estimates.types import NotEstimable
from sublim_causal.analysis.simulation.tables import Truth, simulate
from sublim_causal.analysis.steps.measurement import corrected_slopes, reliability
from sublim_causal.analysis.steps.within_runs import within_products
from sublim_causal.errors import DataError, RequestError


@pytest.fixture(scope="module")
def noisy():
    return simulate(Truth(reliability=0.5, slope=0.8, slope_sd=0.05), rng=2).tables["steps"]


def test_products_equal_plain_sums(noisy):
    few = noisy[noisy["seed"] < 3]
    found = within_products(few, ["cos_half_a", "gain"])
    for i, (_, rows) in enumerate(few.groupby("seed")):
        centred = rows[["cos_half_a", "gain"]] - rows.groupby("arm")[
            ["cos_half_a", "gain"]
        ].transform("mean")
        np.testing.assert_allclose(found.products[i], centred.T @ centred, rtol=1e-10)
    np.testing.assert_array_equal(found.of("gain", "cos_half_a"), found.products[:, 0, 1])


def test_reliability_of_half_and_whole_are_found(noisy):
    found = reliability(noisy)
    assert found.diagnostics["half"] == pytest.approx(0.5, abs=0.02)  # 29,400 pairs
    assert found.value == pytest.approx(2 / 3, abs=0.02)
    assert found.low < 2 / 3 < found.high
    assert found.diagnostics["half_low"] < 0.5 < found.diagnostics["half_high"]
    assert found.p_value is None


def test_plain_slope_is_shrunk_by_the_reliability_and_corrected_is_not(noisy):
    found = corrected_slopes(noisy, "gain")
    assert found.plain.value == pytest.approx(0.8 * 2 / 3, abs=4 * found.plain.se)
    assert found.corrected.low < 0.8 < found.corrected.high
    assert found.corrected.value == pytest.approx(0.8, abs=0.04)
    assert found.corrected.estimand.name == "slope_gain_corrected"


def test_without_error_both_slopes_are_the_same():
    steps = simulate(Truth(n_seeds=10, n_steps=50)).tables["steps"]
    found = corrected_slopes(steps, "gain")
    assert found.corrected.value == pytest.approx(found.plain.value, rel=1e-12)
    assert found.corrected.low == pytest.approx(found.plain.low, rel=1e-9)
    assert reliability(steps).value == pytest.approx(1.0, rel=1e-12)


def test_standard_error_is_the_cluster_robust_one_of_statsmodels(noisy):
    import statsmodels.api as sm

    columns = ["cos_half_a", "cos_half_b", "gain"]
    centred = noisy[columns] - noisy.groupby(["seed", "arm"])[columns].transform("mean")
    x = (centred["cos_half_a"] + centred["cos_half_b"]) / 2
    fit = sm.OLS(centred["gain"].to_numpy(), x.to_numpy()).fit(
        cov_type="cluster", cov_kwds={"groups": noisy["seed"].to_numpy()}
    )
    found = corrected_slopes(noisy, "gain").plain
    assert found.value == pytest.approx(fit.params[0], rel=1e-10)
    assert found.se == pytest.approx(fit.bse[0], rel=1e-8)


def test_halves_without_signal_are_not_estimable(noisy):
    steps = noisy[noisy["seed"] < 8].copy()
    steps["cos_half_b"] = -steps["cos_half_a"]
    found = corrected_slopes(steps, "gain").corrected
    assert isinstance(found, NotEstimable)
    assert "do not correlate" in found.reason


def test_missing_values_are_counted_and_unknown_columns_named(noisy):
    steps = noisy[noisy["seed"] < 3].copy()
    steps.iloc[:2, steps.columns.get_loc("cos_half_a")] = np.nan
    with pytest.raises(DataError, match="2 in cos_half_a, of 2940 rows"):
        reliability(steps)
    with pytest.raises(RequestError, match="did you mean 'gain'"):
        corrected_slopes(steps, "gian")
