"""What a formula, its options and the data must be to be fitted."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from sublim_causal.analysis.mixed.fit import fit_mixed
from sublim_causal.errors import DataError, RequestError
from tests.analysis.mixed.conftest import ARMS, SLOPE


def test_reference_is_baseline_unless_asked(data: pd.DataFrame) -> None:
    renamed = data.assign(arm=data["arm"].replace("liminal", "a_first"))
    plain = fit_mixed(renamed, "gain ~ arm + (1 | seed)")
    assert plain.references == {"arm": "baseline"}
    assert list(plain.params.index) == ["Intercept", "arm[T.a_first]", "arm[T.projection]"]
    for spelling in ('"projection"', "projection", "Treatment('projection')"):
        other = fit_mixed(renamed, f"gain ~ C(arm, {spelling}) + (1 | seed)")
        assert other.references["arm"] == "projection"
        assert other.params["arm[T.baseline]"] == pytest.approx(-plain.params["arm[T.projection]"])
    without = renamed[renamed["arm"] != "baseline"]
    assert fit_mixed(without, "gain ~ arm + (1 | seed)").references["arm"] == "a_first"
    ordered = without.assign(arm=pd.Categorical(without["arm"], ["projection", "a_first"]))
    assert fit_mixed(ordered, "gain ~ arm + (1 | seed)").references["arm"] == "projection"


def test_constant_mediator_in_an_arm_is_aliased_and_named(data: pd.DataFrame) -> None:
    constant = data.assign(alignment=data["alignment"].where(data["arm"] != "projection", 0.0))
    fit = fit_mixed(constant, "gain ~ arm * alignment + (1 + alignment | seed) + (1 | seed:arm)")
    assert fit.aliased == ("arm[T.projection]:alignment",)
    assert "arm[T.projection]:alignment" not in fit.params.index
    assert any("arm[T.projection]:alignment" in text for text in fit.warnings)
    assert fit.converged


@pytest.mark.parametrize(
    ("formula", "says"),
    [
        ("gain ~ arm + (1 | seed) + (1 | arm)", "statsmodels"),
        ("gain ~ arm + (1 + alignment | seed:arm)", "statsmodels"),
        ("gain ~ arm + (1 | seed/arm/step)", "statsmodels"),
        ("gain ~ arm", "random term"),
        ("gain", "outcome ~ fixed"),
        ("gain ~ arms + (1 | seed)", "column"),
        ("gain ~ arm + (1 | sed)", "column"),
        ("gain ~ center(alignment) + (1 | seed)", "make a column"),
        ("gain ~ np.mean(alignment) + (1 | seed)", "make a column"),
        ("arm ~ alignment + (1 | seed)", "labels"),
        ("gain ~ C(arm, nowhere) + (1 | seed)", "baseline"),
        ("gain ~ C(arm, contr.sum) + (1 | seed)", "allowed"),
        ("gain ~ arm + (1 | seed) + (1 + alignment | seed)", "once"),
    ],
)
def test_formulas_outside_the_language(data: pd.DataFrame, formula: str, says: str) -> None:
    with pytest.raises(RequestError, match=says):
        fit_mixed(data, formula)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"residual": "ma1"}, "residual"),
        ({"vcov": "CR3"}, "vcov"),
        ({"df": "z"}, "df"),
        ({"df": "cr2"}, "df"),
        ({"df": "kenward-roger", "vcov": "CR2"}, "df"),
        ({"df": "kenward-roger", "reml": False}, "df"),
        ({"residual": "ar1", "time": "when"}, "time"),
    ],
)
def test_options_that_do_not_go_together(data: pd.DataFrame, options: dict, field: str) -> None:
    with pytest.raises(RequestError, match=f"^{field}: "):
        fit_mixed(data, SLOPE, **options)


def test_data_that_cannot_be_fitted(data: pd.DataFrame) -> None:
    with pytest.raises(DataError, match="1 level"):
        fit_mixed(data[data["seed"] == 0], SLOPE)
    with pytest.raises(DataError, match="no rows"):
        fit_mixed(data[:0], SLOPE)
    with pytest.raises(DataError, match="not distinguishable"):
        fit_mixed(data.assign(alignment=0.0), SLOPE)
    with pytest.raises(DataError, match="fitted exactly"):
        fit_mixed(data.assign(gain=2 * data["alignment"]), SLOPE)
    with pytest.raises(DataError, match="must rise"):
        fit_mixed(data, "gain ~ alignment + (1 | seed)", residual="ar1")
    with pytest.raises(DataError, match="whole numbers"):
        fit_mixed(data.assign(step=data["step"] / 2), SLOPE, residual="ar1")
    with pytest.raises(RequestError, match="DataFrame"):
        fit_mixed({"gain": [1.0]}, SLOPE)


@pytest.mark.parametrize("rounding", [1.0, 0.1, 1 / 3, 1e-9, 1e9])
@pytest.mark.parametrize("level", [0.0, 0.3, 1e6])
@pytest.mark.parametrize(
    "formula", ["gain ~ arm + alignment + (1 | seed)", SLOPE, "gain ~ arm + (1 | seed/arm)"]
)
def test_outcomes_fitted_exactly_are_refused_whatever_the_rounding(
    data: pd.DataFrame, formula: str, level: float, rounding: float
) -> None:
    exact = data["seed"] * 0.1 + data["arm"].map({a: i * 0.7 for i, a in enumerate(ARMS)})
    if "alignment" in formula:
        exact = exact + 2 * data["alignment"]
    exact = rounding * (exact + level)
    with pytest.raises(DataError, match="gain is fitted exactly"):
        fit_mixed(data.assign(gain=exact), formula)
    noise = np.random.default_rng(5).normal(scale=0.01 * rounding, size=len(data))
    assert fit_mixed(data.assign(gain=exact + noise), formula).converged
