"""The cluster bootstrap of a mixed model."""

import numpy as np
import pandas as pd
import pytest

from sublim_causal.analysis.estimates.bootstrap import multiplicities
from sublim_causal.analysis.mixed.fit import fit_mixed
from sublim_causal.analysis.mixed.result import MixedFit
from tests.analysis.mixed.test_fit import SLOPE, simulate


@pytest.fixture(scope="module")
def fit() -> MixedFit:
    return fit_mixed(simulate(12), SLOPE)


def resampled(data: pd.DataFrame, drawn: np.ndarray) -> pd.DataFrame:
    parts = [data[data["seed"] == s] for s in np.repeat(np.arange(len(drawn)), drawn.astype(int))]
    return pd.concat([part.assign(seed=i) for i, part in enumerate(parts)], ignore_index=True)


def test_point_is_the_fit(fit: MixedFit) -> None:
    robust = fit_mixed(simulate(12), SLOPE, vcov="CR0")
    for refit in (False, True):
        distribution = fit.bootstrap("alignment", n_boot=9, refit=refit)
        assert distribution.value == pytest.approx(fit.params["alignment"], rel=1e-6)
        assert distribution.se == pytest.approx(robust.se["alignment"], rel=1e-5)


def test_full_refits_are_cold_fits_of_the_resampled_data(fit: MixedFit) -> None:
    weights = multiplicities(np.random.default_rng(4), 6, 12)
    found = fit.statistic("alignment - arm[T.liminal]", refit=True)(weights)
    for drawn, value, se in zip(weights, found.values, found.ses, strict=True):
        cold = fit_mixed(resampled(simulate(12), drawn), SLOPE, vcov="CR0")
        row = cold.contrast("alignment - arm[T.liminal]").iloc[0]
        # Searches that stop within 1e-8 of the same minimum differ by about 1e-4 SE at most.
        assert value == pytest.approx(row["estimate"], abs=1e-4 * row["se"])
        assert se == pytest.approx(row["se"], rel=1e-4)


@pytest.mark.parametrize("options", [{"residual": "ar1"}, {"arm_variances": True}])
def test_full_refits_of_other_residuals(options: dict) -> None:
    data = simulate(10)
    fit = fit_mixed(data, SLOPE, **options)
    weights = multiplicities(np.random.default_rng(5), 3, 10)
    found = fit.statistic("alignment", refit=True)(weights)
    for drawn, value in zip(weights, found.values, strict=True):
        cold = fit_mixed(resampled(data, drawn), SLOPE, **options)
        assert value == pytest.approx(cold.params["alignment"], abs=1e-4 * cold.se["alignment"])


def test_refits_leave_the_boundary() -> None:
    """A slope variance of 0 is a stationary point: replicates must not start on it."""
    rng = np.random.default_rng(9)
    data = simulate(10)
    data["gain"] = 0.8 * data["alignment"] + 0.1 * rng.standard_normal(len(data))
    formula = "gain ~ alignment + (1 + alignment || seed)"
    fit = fit_mixed(data, formula)
    assert fit.singular
    weights = multiplicities(rng, 5, 10)
    found = fit.statistic("alignment", refit=True)(weights)
    for drawn, value in zip(weights, found.values, strict=True):
        cold = fit_mixed(resampled(data, drawn), formula)
        assert value == pytest.approx(cold.params["alignment"], abs=1e-3 * cold.se["alignment"])


def test_kept_theta_stands_in_for_refits(fit: MixedFit) -> None:
    kept = fit.bootstrap("alignment", n_boot=400, rng=1)
    anew = fit.bootstrap("alignment", n_boot=400, refit=True, rng=1)
    assert np.corrcoef(kept.values, anew.values)[0, 1] > 0.999
    assert kept.values.std() / anew.values.std() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("refit", [False, True])
def test_batch_changes_nothing(fit: MixedFit, refit: bool) -> None:
    whole = fit.bootstrap("alignment", n_boot=40, refit=refit, rng=3)
    pieces = fit.bootstrap("alignment", n_boot=40, refit=refit, rng=3, batch=7)
    # The order of a sum may change with the shape of an array: rounding only.
    np.testing.assert_allclose(pieces.values, whole.values, rtol=1e-9)
    np.testing.assert_allclose(pieces.ses, whole.ses, rtol=1e-7)


def test_interval_holds_the_slope(fit: MixedFit) -> None:
    low, high = fit.bootstrap("alignment", rng=2).interval()
    assert low < fit.params["alignment"] < high
    assert high - low == pytest.approx(2 * 2.2 * fit.se["alignment"], rel=0.3)
