"""A published figure is held against one more run and against the mean."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sublim_causal.analysis.arms.prediction import prediction_interval
from sublim_causal.analysis.estimates.settings import Settings
from sublim_causal.analysis.estimates.types import Estimand, Estimate, NotEstimable, Result
from sublim_causal.analysis.plan.claims.verdicts import judge
from sublim_causal.analysis.plan.file import load_plan, parse_plan
from sublim_causal.analysis.plan.registry import METHODS
from tests.analysis.small import make_record


def held(**entry: Any) -> dict[str, Result]:
    entry = {
        "name": "x",
        "sentence": "A published figure.",
        "method": "published",
        "outcome": "final_accuracy",
        **entry,
    }
    (declared,) = parse_plan({"name": "mine", "estimand": [entry]}).estimands
    settings = Settings(n_boot=199, rng=np.random.default_rng(0))
    found = METHODS["published"].estimate(make_record(["baseline", "half"]), declared, settings)
    return {one.estimand.name: one for one in found}


def test_a_figure_may_be_one_more_run_and_not_the_mean() -> None:
    values = make_record(["baseline"]).replicates["final_accuracy"]
    figure = float(values.mean() + 1.5 * values.std())
    found = held(arm="baseline", published=figure)
    assert list(found) == ["x_mean", "x_new_run"]
    mean, new = found.values()
    assert isinstance(mean, Estimate)
    assert isinstance(new, Estimate)
    assert (mean.diagnostics["inside"], new.diagnostics["inside"]) == (False, True)
    assert mean.method.endswith("outside")
    assert "inside; " in new.method
    assert mean.p_value == pytest.approx(0.0002, abs=0.0003)
    assert mean.value == pytest.approx(values.mean())


def test_a_difference_is_taken_within_seeds() -> None:
    wide = make_record().replicates.pivot(index="seed", columns="arm", values="final_accuracy")
    change = held(arm="half", reference="baseline", published=-0.08)["x_mean"]
    assert isinstance(change, Estimate)
    assert change.value == pytest.approx((wide["half"] - wide["baseline"]).mean())


def test_limits_of_a_fraction_stay_fractions_and_those_of_a_difference_do_not() -> None:
    record = make_record(["baseline"])
    record.replicates["final_accuracy"] = np.where(record.replicates["seed"] % 2, 0.05, 0.95)
    entry = {"name": "x", "sentence": "A published figure.", "method": "published"}
    plan = parse_plan(
        {
            "name": "mine",
            "estimand": [{**entry, "outcome": "final_accuracy", "arm": "baseline", "published": 1}],
        }
    )
    settings = Settings(n_boot=199, rng=np.random.default_rng(0))
    _, new = METHODS["published"].estimate(record, plan.estimands[0], settings)
    assert isinstance(new, Estimate)
    assert (new.low, new.high) == (0.0, 1.0)


def test_an_arm_that_was_not_run_is_named() -> None:
    (missing,) = held(arm="liminal", published=0.5).values()
    assert isinstance(missing, NotEstimable)
    assert "no arm 'liminal'" in missing.reason


def test_a_figure_is_not_held_against_a_run_of_other_data() -> None:
    record = replace(make_record(["baseline", "half"]), data="digits")
    plan = load_plan("paper")
    found = {
        one.estimand.name: one
        for declared in plan.estimands
        if declared.method == "published"
        for one in METHODS["published"].estimate(
            record, declared, Settings(n_boot=199, rng=np.random.default_rng(0))
        )
    }
    assert found["baseline_accuracy"].reason == "the figure is of mnist, the run of digits"  # type: ignore[union-attr]
    verdicts = {one.name: one for one in judge(plan.claims, [*found.values()], plan.estimands)}
    assert verdicts["accuracies_not_contradicted"].verdict == "undetermined"


def test_an_interval_that_takes_in_everything_decides_nothing() -> None:
    (claim,) = (
        one for one in load_plan("paper").claims if one.name == "accuracies_not_contradicted"
    )
    accuracy = prediction_interval(
        [0.3, 0.5, 0.7], estimand=Estimand("baseline_accuracy_new_run", "A value.")
    )
    (finding, *_) = judge([claim], [accuracy], ())[0].findings
    assert finding.outcome == "open"
