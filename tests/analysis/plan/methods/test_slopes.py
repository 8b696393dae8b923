"""Slopes of a plan: which arms enter one slope, and what a row says of its adjustment."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sublim_causal.analysis.estimates.types import Estimate, NotEstimable
from sublim_causal.analysis.plan.file import parse_plan
from sublim_causal.analysis.plan.methods.comparable import acts_on_alignment, comparable_arms
from sublim_causal.analysis.plan.record import Record
from sublim_causal.analysis.plan.run import run_plan
from sublim_causal.analysis.simulation.tables import Truth, simulate
from sublim_causal.analysis.steps.measurement import HALVES
from sublim_causal.analysis.steps.slopes import UNADJUSTED
from sublim_causal.analysis.steps.two_way import two_way_slope
from sublim_causal.errors import RequestError

SLOPE = {"method": "step_slope", "outcome": "gain", "predictor": "cos_gradient"}


@pytest.fixture(scope="module")
def record() -> Record:
    tables = simulate(Truth(n_seeds=8, n_steps=30), rng=2).tables
    arms = ("baseline", "projection", "liminal", "shuffled")
    return Record(
        name="mine",
        run_id="0" * 32,
        arms=arms,
        replicates=tables["replicates"],
        steps=tables["steps"],
        layers=tables["steps"][:0],
        interventions={arm: {"intervention": arm} for arm in arms},
    )


def results_of(record: Record, **fields: Any) -> dict[str, Estimate | NotEstimable]:
    named = {"name": "x", "sentence": "A slope, in one sentence.", **SLOPE, **fields}
    entry = {field: value for field, value in named.items() if value is not None}
    found = run_plan(record, parse_plan({"name": "mine", "n_boot": 199, "estimand": [entry]}))
    return {one.estimand.name: one for one in found.results}


def number(found: Estimate | NotEstimable) -> Estimate:
    assert isinstance(found, Estimate), found
    return found


CHAIN = {"intervention": "chain", "members": [{"intervention": "liminal"}, {"intervention": "x"}]}


@pytest.mark.parametrize(
    ("options", "acts"),
    [
        ({"intervention": "baseline"}, False),
        ({"intervention": "liminal"}, False),
        ({"intervention": "shuffled", "shuffle": "coordinates"}, False),
        ({"intervention": "shuffled", "shuffle": "probe"}, True),
        ({"intervention": "shuffled", "0.shuffle": "probe"}, True),
        ({"intervention": "projection"}, True),
        ({"intervention": "yoked"}, True),
        ({"intervention": "clamp"}, True),
        ({"intervention": "set_cosine"}, True),
        ({"intervention": "set_coverage"}, True),
        (CHAIN, False),
        ({"intervention": "chain", "members": [CHAIN, {"intervention": "clamp"}]}, True),
    ],
)
def test_what_acts_on_alignment(options: dict[str, Any], acts: bool) -> None:
    assert acts_on_alignment(options) is acts


def test_arms_of_another_setting_are_not_comparable(record: Record) -> None:
    other = {**record.interventions, "liminal": {"intervention": "liminal", "inputs": "noise"}}
    assert comparable_arms(replace(record, interventions=other)) == ("baseline", "shuffled")


def test_the_studys_reference_decides_what_is_comparable(record: Record) -> None:
    other = {**record.interventions, "liminal": {"intervention": "liminal", "inputs": "noise"}}
    found = comparable_arms(replace(record, interventions=other, reference="liminal"))
    assert found == ("liminal",)


def test_one_slope_is_that_of_the_comparable_arms_and_names_them(record: Record) -> None:
    found = number(results_of(record)["x"])
    comparable = record.steps[record.steps["arm"] != "projection"]
    assert found.value == number(two_way_slope(comparable, "gain", "cos_gradient")).value
    assert found.diagnostics["arms"] == ["baseline", "liminal", "shuffled"]
    assert "arms baseline, liminal, shuffled" in found.estimand.contrast
    assert any(note.endswith("another setting: 'projection'") for note in found.warnings)
    assert not any("not adjusted for training time" in note for note in found.warnings)


def test_each_arm_is_fitted_on_its_own(record: Record) -> None:
    found = results_of(record, split="by_arm")
    assert list(found) == [f"x_{arm}" for arm in record.arms]
    for arm in record.arms:
        alone = two_way_slope(record.steps[record.steps["arm"] == arm], "gain", "cos_gradient")
        one = number(found[f"x_{arm}"])
        assert (one.value, one.se) == (number(alone).value, number(alone).se)
        assert any("minibatches that the arms of a seed share" in note for note in one.warnings)


def test_an_arm_without_spread_leaves_the_others(record: Record) -> None:
    flat = record.steps["cos_gradient"].where(record.steps["arm"] != "liminal", 0.1)
    steps = record.steps.assign(cos_gradient=flat)
    found = results_of(replace(record, steps=steps), split="by_arm")
    refused = found["x_liminal"]
    assert isinstance(refused, NotEstimable)
    assert "does not vary" in refused.reason
    assert isinstance(found["x_baseline"], Estimate)


@pytest.mark.parametrize("fields", [{"adjust": "none"}, {"split": "levels"}])
def test_a_mixed_model_says_what_it_does_not_adjust_for(
    record: Record, fields: dict[str, Any]
) -> None:
    for one in results_of(record, **fields).values():
        assert any("not adjusted for training time" in note for note in number(one).warnings)


def test_levels_are_not_adjusted(record: Record) -> None:
    with pytest.raises(RequestError, match="adjust = 'none' where split is 'levels'"):
        results_of(record, split="levels", adjust="step")


def test_an_identity_is_told_beside_its_slope(record: Record) -> None:
    """The weighted mean of |g_trait| |update| is the slope where gain is the drive."""
    steps = record.steps
    product = steps["norm_trait"] * steps["norm_update"]
    drive = product.mean() * steps["cos_update"]
    noise = 1e-3 * (steps["gain"] - steps["gain"].mean())
    steps = steps.assign(gain=drive + noise, norm_trait=product.mean(), norm_update=1.0)
    found = number(results_of(replace(record, steps=steps), predictor="cos_update")["x"])
    assert found.value == pytest.approx(product.mean(), rel=0.05)
    assert found.diagnostics["mean_product"] == pytest.approx(product.mean())
    assert any(f"{product.mean():.4g}" in note for note in found.warnings)


def test_the_corrected_slope_is_that_of_the_comparable_arms(record: Record) -> None:
    halves = (record.steps["cos_half_a"] + record.steps["cos_half_b"]) / 2
    whole = replace(record, steps=record.steps.assign(cos_gradient=halves))
    expected = number(results_of(whole)["x"])
    entry = {"method": "corrected_slope", "predictor": None}
    found = results_of(record, **entry)
    plain = number(found["x_plain"])
    assert plain.value == pytest.approx(expected.value, rel=1e-9)
    assert plain.se == pytest.approx(expected.se, rel=0.2)
    assert "arms baseline, liminal, shuffled" in plain.estimand.contrast
    unadjusted = number(results_of(record, **entry, adjust="none")["x_plain"])
    assert unadjusted.value != plain.value
    assert any("not adjusted for training time" in note for note in unadjusted.warnings)


@pytest.mark.parametrize("random", ["(1 | arm)", "(1 | arm:seed)"])
def test_a_formula_groups_by_seed(record: Record, random: str) -> None:
    entry = {
        "method": "mixed_model",
        "formula": f"gain ~ cos_gradient + {random}",
        "contrast": "cos_gradient",
        "outcome": None,
        "predictor": None,
    }
    refused = results_of(record, **entry)["x"]
    assert isinstance(refused, NotEstimable)
    assert "seeds are the clusters" in refused.reason


def test_a_course_that_all_runs_share_is_no_reliability(record: Record) -> None:
    rng = np.random.default_rng(4)
    steps = record.steps
    course = np.exp(-steps["step"].to_numpy() / 10)
    noise = {name: course + 0.3 * rng.standard_normal(len(steps)) for name in HALVES}
    common = replace(record, steps=steps.assign(**noise))
    fields = {"method": "reliability", "outcome": None, "predictor": None, "arm": "baseline"}
    found = number(results_of(common, **fields)["x"])
    plain = number(results_of(common, **fields, adjust="none")["x"])
    assert found.low < 0.1 < 0.5 < plain.low
    assert UNADJUSTED in plain.warnings
    assert "within run and step" in found.estimand.outcome
