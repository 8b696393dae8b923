"""Contrasts, tests, covariances and texts of a fit."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from sublim_causal.analysis.mixed.criterion.reml import evaluate
from sublim_causal.analysis.mixed.fit import fit_mixed
from sublim_causal.analysis.mixed.inference.covariance import group_products
from sublim_causal.analysis.mixed.result import pooled_df
from sublim_causal.errors import RequestError
from tests.analysis.mixed.conftest import SLOPE, gappy


def test_contrasts(data: pd.DataFrame) -> None:
    fit = fit_mixed(data, SLOPE)
    text = "arm[T.liminal] - 0.5 * (arm[T.projection] + alignment) / 2"
    row = np.array([[0, 1, -0.25, -0.25]])
    by_text, by_row = fit.contrast(text), fit.contrast(row)
    assert by_text["contrast"].tolist() == [text]
    numbers = by_text.columns[1:]
    np.testing.assert_allclose(by_text[numbers], by_row[numbers])
    single = fit.contrast(list(fit.params.index)).set_index("contrast")
    np.testing.assert_allclose(single["df"], fit.df, rtol=1e-10)
    np.testing.assert_allclose(single[["low", "high"]], fit.conf_int(), rtol=1e-10)
    for wrong in ("alignmint", "alignment * alignment", "3", "alignment + 1"):
        with pytest.raises(RequestError, match="contrast"):
            fit.contrast(wrong)


def test_wald_test(data: pd.DataFrame) -> None:
    fit = fit_mixed(data, SLOPE, vcov="CR2", df="cr2")
    single = fit.test("alignment")
    assert single.statistic == pytest.approx((fit.params / fit.se)["alignment"] ** 2)
    assert single.p_value == pytest.approx(fit.p_values["alignment"])
    joint = fit.test(["arm[T.liminal]", "arm[T.projection]"])
    b, v = fit.params.iloc[1:3].to_numpy(), fit.vcov.iloc[1:3, 1:3].to_numpy()
    assert joint.statistic == pytest.approx(b @ np.linalg.solve(v, b) / 2)
    assert joint.df[0] == 2
    assert 0 < joint.df[1] < 8
    assert "repeat" in fit.test(["alignment", "2 * alignment"]).reason


def test_cr2_is_unbiased_under_the_model(data: pd.DataFrame) -> None:
    """E[CR2] = M if V is right: with e ~ (I - XMX'V^-1), the meat's mean is sum H'(V - XMX')H."""
    fit = fit_mixed(gappy(data), SLOPE, vcov="CR2")
    inference = fit._inference
    x_bread = inference.cross.transpose(0, 2, 1) @ inference.bread @ inference.cross
    mean = (inference.own - x_bread).sum(axis=0)
    np.testing.assert_allclose(
        inference.bread @ mean @ inference.bread, inference.bread, rtol=1e-8, atol=1e-14
    )


def test_group_products_add_up(data: pd.DataFrame) -> None:
    fit = fit_mixed(data, SLOPE)
    products = group_products(fit._problem, fit._theta)
    found = evaluate(fit._problem, fit._theta[None])
    np.testing.assert_allclose(
        np.linalg.inv(products.xx.sum(axis=0)), found.xx_inverse[0], rtol=1e-9, atol=1e-13
    )


def test_summary_and_tidy_are_fixed(data: pd.DataFrame) -> None:
    fit = fit_mixed(data, SLOPE)
    assert fit.summary() == fit_mixed(data.copy(), SLOPE).summary()
    assert "reference levels: " in fit.summary()
    assert "arm: baseline" in fit.summary()
    assert list(fit.tidy().columns) == [
        "term",
        "estimate",
        "se",
        "df",
        "statistic",
        "p_value",
        "low",
        "high",
    ]
    with pytest.raises(RequestError, match="level"):
        fit.conf_int(95)


def test_few_groups_are_warned_about(data: pd.DataFrame) -> None:
    few = fit_mixed(data[data["seed"] < 5], SLOPE)
    assert any("only 5 levels" in text for text in few.warnings)
    assert not any("levels of" in text for text in fit_mixed(data, SLOPE).warnings)


def test_arms_that_do_the_same_differ_by_zero_without_a_test(data: pd.DataFrame) -> None:
    twin = data[data["arm"] == "baseline"].assign(arm="twin")
    both = pd.concat([data, twin], ignore_index=True)
    fit = fit_mixed(both, "gain ~ arm + (1 | seed)", vcov="CR2", df="cr2")
    row = fit.contrast("arm[T.twin]").iloc[0]
    assert fit.se["arm[T.twin]"] == row["se"] == 0
    assert np.isnan(fit.p_values["arm[T.twin]"])
    assert np.isnan(row["p_value"])
    assert fit.params["arm[T.twin]"] == pytest.approx(0, abs=1e-12)


def test_the_denominator_of_a_joint_test_pools_its_directions_as_lmertest_does() -> None:
    assert pooled_df(np.array([7.0])) == 7
    assert pooled_df(np.array([5.0, 5.0])) == 5
    assert pooled_df(np.array([4.0, 1.5])) == 2
    # 6 / 4 + 12 / 10 = 2.7: 5.4 / 0.7.
    assert pooled_df(np.array([6.0, 12.0])) == pytest.approx(5.4 / 0.7)
