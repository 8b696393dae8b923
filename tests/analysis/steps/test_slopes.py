"""Slope models against lmer, and the rules of their intervals."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sublim_causal.analysis.estimates.bootstrap import ClusterMean, cluster_bootstrap
from sublim_causal.analysis.estimates.settings import Settings
from sublim_causal.analysis.estimates.types import Estimand, Estimate, NotEstimable
from sublim_causal.analysis.simulation.tables import ArmTruth, Truth, simulate
from sublim_causal.analysis.steps.slopes import LEVELS, pseudo_values, slope_estimates, slope_model

GOLDEN = Path(__file__).parents[2] / "golden"
ARMS = ["baseline", "projection", "liminal", "shuffled"]


def named(model):
    return {name: Estimand(f"slope_{name}", "A slope.") for name in model.coefficients}


@pytest.fixture(params=["steps_iid", "steps_ar1het", "steps_missing"])
def golden_steps(request):
    path = GOLDEN / request.param
    return pd.read_csv(path.with_suffix(".csv")), json.loads(path.with_suffix(".json").read_text())


def fitted(data, split, predictor="alignment"):
    model = slope_model(data, "gain", predictor, split, arms=ARMS)
    return slope_estimates(model, named(model), settings=Settings(interval="t"))


def of_r(block, name):
    return {
        key: values[block["names"].index(name)]
        for key, values in block.items()
        if isinstance(values, list) and len(values) == len(block["names"])
    }


def test_pooled_slope_equals_lmer(golden_steps):
    data, r = golden_steps
    ours, theirs = fitted(data, "pooled")[""], of_r(r["slope"], "x")
    assert ours.value == pytest.approx(theirs["estimate"], abs=1e-5 * theirs["se"])
    # The square root in the CR2 adjustment is not unique in mixed models.
    assert ours.se == pytest.approx(theirs["se_cr2"], rel=2e-3)
    assert ours.df == pytest.approx(theirs["df_cr2"], rel=1e-3)


def test_slopes_by_arm_equal_lmer(golden_steps):
    data, r = golden_steps
    ours, block = fitted(data, "by_arm"), r["slope_by_arm"]
    base = of_r(block, "x")
    assert ours["baseline"].value == pytest.approx(base["estimate"], abs=1e-5 * base["se"])
    assert ours["baseline"].se == pytest.approx(base["se_cr2"], rel=2e-3)
    for arm in ARMS[1:]:
        change = of_r(block, f"arm{arm}:x")
        difference = ours[arm].value - ours["baseline"].value
        assert difference == pytest.approx(change["estimate"], abs=2e-5 * change["se"])


def test_levels_equal_lmer(golden_steps):
    data, r = golden_steps
    ours, block = fitted(data, "levels"), r["mundlak"]
    for level, name in zip(LEVELS, ("xw", "xc", "xb"), strict=True):
        theirs = of_r(block, name)
        # Both searches stop within 3e-9 of the optimum, where coefficients still move by 1e-5 se.
        assert ours[level].value == pytest.approx(theirs["estimate"], abs=2e-5 * theirs["se"])
        # Between seeds one seed weighs most, and the choice of the CR2 root shows most.
        tolerance = 6e-3 if level == "between_seeds" else 2e-3
        assert ours[level].se == pytest.approx(theirs["se_cr2"], rel=tolerance)
        assert ours[level].df == pytest.approx(theirs["df_cr2"], rel=1e-3)


@pytest.fixture(scope="module")
def steps():
    return simulate(Truth(n_seeds=12, n_steps=60), rng=5).tables["steps"]


def test_pseudo_values_of_a_mean_are_the_values():
    values = np.array([1.0, 4.0, 2.0, 8.0])
    drawn = cluster_bootstrap(ClusterMean(values), n_boot=1)
    assert pseudo_values(drawn) == pytest.approx(values)


def test_the_parts_of_the_levels_add_up_and_are_orthogonal(steps):
    data = slope_model(steps, "gain", "cos_gradient", "levels").data
    total = data[list(LEVELS)].sum(axis=1)
    np.testing.assert_allclose(total, data["x"] - data["x"].mean(), atol=1e-12)
    gram = data[list(LEVELS)].T @ data[list(LEVELS)]
    np.testing.assert_allclose(gram - np.diag(np.diag(gram)), 0, atol=1e-10)


def test_the_true_slope_is_found(steps):
    model = slope_model(steps, "gain", "cos_gradient")
    found = slope_estimates(model, named(model))[""]
    assert found.low < 0.08 < found.high
    assert found.n_seeds == 12
    assert found.method.startswith("mixed model")


def test_one_arm_needs_no_arm_terms(steps):
    alone = steps[steps["arm"] == "baseline"]
    for split in ("pooled", "by_arm"):
        model = slope_model(alone, "gain", "cos_gradient", split)
        found = slope_estimates(model, named(model))
        assert all(isinstance(one, Estimate) for one in found.values())


def test_a_constant_predictor_in_an_arm_is_not_estimable_there(steps):
    flat = steps.assign(cos_gradient=steps["cos_gradient"].where(steps["arm"] != "liminal", 0.0))
    model = slope_model(flat, "gain", "cos_gradient", "by_arm", arms=ARMS)
    found = slope_estimates(model, named(model))
    assert isinstance(found["liminal"], NotEstimable)
    assert "does not vary" in found["liminal"].reason
    assert isinstance(found["baseline"], Estimate)


def test_two_seeds_are_not_estimable(steps):
    model = slope_model(steps[steps["seed"] < 2], "gain", "cos_gradient")
    found = slope_estimates(model, named(model))[""]
    assert isinstance(found, NotEstimable)
    assert "2 complete seeds" in found.reason


def test_an_arm_of_two_seeds_has_no_slope_of_its_own(steps):
    arms = sorted(steps["arm"].unique())
    few = steps[(steps["arm"] != arms[0]) | (steps["seed"] < 2)]
    model = slope_model(few, "gain", "cos_update", "by_arm", arms=arms)
    found = slope_estimates(model, named(model), settings=Settings(interval="t"))
    assert isinstance(found[arms[0]], NotEstimable)
    assert "2 complete seeds" in found[arms[0]].reason
    assert all(isinstance(found[arm], Estimate) for arm in arms[1:])


def test_few_seeds_are_warned_of(steps):
    model = slope_model(steps[steps["seed"] < 5], "gain", "cos_gradient")
    assert "only 5 seeds" in slope_estimates(model, named(model))[""].warnings[0]


@pytest.fixture(scope="module")
def skewed():
    arms = {"baseline": ArmTruth(), "projection": ArmTruth(alignment=-0.06)}
    truth = Truth(n_seeds=20, n_steps=80, skewed=True, slope_sd=0.08, arms=arms)
    return simulate(truth, rng=3).tables["steps"]


def test_skewed_slopes_are_led_by_the_bootstrap(skewed):
    model = slope_model(skewed, "gain", "cos_gradient")
    found = slope_estimates(model, named(model))[""]
    assert abs(found.diagnostics["skewness"]) > 1
    assert "bootstrap-t" in found.method
    assert found.df is None
    assert found.high - found.value > found.value - found.low
    assert found.diagnostics["also"]["method"] == "CR2"


def test_a_declared_interval_overrules_skewness(skewed):
    model = slope_model(skewed, "gain", "cos_gradient")
    found = slope_estimates(model, named(model), settings=Settings(interval="t"))[""]
    assert "CR2" in found.method
    assert "skewed" in " ".join(found.warnings)
