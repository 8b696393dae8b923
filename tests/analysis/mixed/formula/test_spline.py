"""Smooth terms of time in a formula: the basis, and the model it makes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from sublim_causal.analysis.mixed.crosscheck import check_mixed
from sublim_causal.analysis.mixed.fit import fit_mixed
from sublim_causal.errors import DataError, RequestError

TREND = "y ~ arm + arm:spline(step, 4) + x + (1 | seed)"


@pytest.fixture(scope="module")
def data() -> pd.DataFrame:
    """X and y decline together; x does nothing."""
    rng = np.random.default_rng(0)
    seed, arm, step = (i.ravel() for i in np.indices((8, 2, 41)))
    decay = np.exp(-step / np.where(arm == 0, 30, 15))
    x = 0.06 * decay + 0.03 * rng.standard_normal(len(seed))
    y = 0.009 * decay + 0.01 * rng.standard_normal((8, 1))[seed, 0]
    names = np.array(["baseline", "liminal"], dtype=object)[arm]
    noise = 0.004 * rng.standard_normal(len(seed))
    return pd.DataFrame({"seed": seed, "arm": names, "step": step, "x": x, "y": y + noise})


def test_agrees_with_the_same_formula_in_statsmodels(data: pd.DataFrame) -> None:
    """Knots at quantiles and equally spaced ones are the same on a full grid of steps."""
    patsy = pytest.importorskip("patsy")
    from statsmodels.regression.mixed_linear_model import MixedLM

    data = data.assign(y=100 * data["y"])  # MixedLM takes small variances for none
    y, x = patsy.dmatrices("y ~ arm + arm:bs(step, df=4) + x", data, return_type="dataframe")
    theirs = MixedLM(y, x, data["seed"]).fit(reml=True)
    ours = fit_mixed(data, TREND)
    assert ours.params["x"] == pytest.approx(theirs.params["x"], rel=1e-5)
    assert ours.se["x"] == pytest.approx(theirs.bse["x"], rel=1e-3)
    assert -ours.criterion / 2 == pytest.approx(theirs.llf, abs=1e-4)
    name = "arm[liminal]:spline(step, 4)[2]"
    assert ours.params[name] == pytest.approx(
        theirs.params["arm[liminal]:bs(step, df=4)[1]"], rel=1e-4
    )


def test_it_frees_a_slope_of_training_time(data: pd.DataFrame) -> None:
    plain = fit_mixed(data, "y ~ arm + x + (1 | seed)", vcov="CR2", df="cr2").contrast("x").iloc[0]
    smooth = fit_mixed(data, TREND, vcov="CR2", df="cr2").contrast("x").iloc[0]
    assert plain["low"] > 0
    assert smooth["low"] < 0 < smooth["high"]


def test_the_cross_check_reads_it_too(data: pd.DataFrame) -> None:
    assert check_mixed(data, TREND).agrees


def test_a_table_in_chunks_has_the_same_basis(data: pd.DataFrame) -> None:
    table = pa.Table.from_pandas(data.sample(frac=1, random_state=1), preserve_index=False)
    one, other = fit_mixed(data, TREND).params, fit_mixed(table, TREND).params
    pd.testing.assert_series_equal(one, other)


def test_its_columns_are_contrasts_by_name(data: pd.DataFrame) -> None:
    fit = fit_mixed(data, "y ~ spline(step, 3) + (1 | seed)")
    row = fit.contrast("spline(step, 3)[1] - spline(step, 3)[2]").iloc[0]
    names = [f"spline(step, 3)[{k}]" for k in (1, 2)]
    assert row["estimate"] == pytest.approx(fit.params[names[0]] - fit.params[names[1]])


def test_a_column_may_be_called_spline(data: pd.DataFrame) -> None:
    named = fit_mixed(data.assign(spline=data["x"]), "y ~ spline + (1 | seed)").params["spline"]
    assert named == fit_mixed(data, "y ~ x + (1 | seed)").params["x"]


@pytest.mark.parametrize(
    "term", ["spline(step)", "spline(step, 2)", "spline(step, 4.5)", "spline(step + 1, 4)"]
)
def test_a_spline_is_of_a_column_and_a_number(term: str, data: pd.DataFrame) -> None:
    with pytest.raises(RequestError, match="number of its columns from 3 to 20"):
        fit_mixed(data, f"y ~ {term} + (1 | seed)")


def test_a_spline_of_labels_or_of_a_constant_is_refused(data: pd.DataFrame) -> None:
    with pytest.raises(RequestError, match="numbers; arm holds"):
        fit_mixed(data, "y ~ spline(arm, 4) + (1 | seed)")
    with pytest.raises(DataError, match="step does not vary"):
        fit_mixed(data.assign(step=1.0), "y ~ spline(step, 4) + (1 | seed)")
    with pytest.raises(RequestError, match="one of the functions"):
        fit_mixed(data, "y ~ I(spline(step, 4)) + (1 | seed)")
