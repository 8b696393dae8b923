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
    distribution = fit.bootstrap("alignment", n_boot=9)
    assert distribution.value == pytest.approx(fit.params["alignment"], rel=1e-6)
    assert distribution.se == pytest.approx(robust.se["alignment"], rel=1e-5)


def test_kept_variance_parameters_stand_in_for_fits_of_the_resampled_data(fit: MixedFit) -> None:
    weights = multiplicities(np.random.default_rng(4), 8, 12)
    contrast = "alignment - arm[T.liminal]"
    kept = fit.statistic(contrast)(weights)
    cold = [fit_mixed(resampled(simulate(12), drawn), SLOPE, vcov="CR0") for drawn in weights]
    rows = pd.concat([one.contrast(contrast) for one in cold])
    assert np.corrcoef(kept.values, rows["estimate"])[0, 1] > 0.999
    np.testing.assert_allclose(kept.values, rows["estimate"], atol=0.1 * rows["se"].mean())
    np.testing.assert_allclose(kept.ses, rows["se"], rtol=0.1)


def test_interval_holds_the_slope(fit: MixedFit) -> None:
    low, high = fit.bootstrap("alignment", rng=2).interval()
    assert low < fit.params["alignment"] < high
    assert high - low == pytest.approx(2 * 2.2 * fit.se["alignment"], rel=0.3)
