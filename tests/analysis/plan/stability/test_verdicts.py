"""A verdict is judged again under other defensible choices, and one that rests on one falls."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sublim_causal.analysis.plan.claims.verdicts import ClaimVerdict
from sublim_causal.analysis.plan.file import Plan, parse_plan
from sublim_causal.analysis.plan.record import Record
from sublim_causal.analysis.plan.results.results import Results
from sublim_causal.analysis.plan.results.stored import read_results
from sublim_causal.analysis.plan.run import run_plan
from sublim_causal.analysis.plan.stability import variations
from sublim_causal.analysis.plan.stability.verdicts import analyse_stability, with_alternatives
from sublim_causal.analysis.simulation.tables import Truth, simulate, write_run
from tests.analysis.small import make_record

EFFECT = {
    "name": "effect",
    "sentence": "Mean difference in final accuracy.",
    "method": "paired_contrast",
    "outcome": "final_accuracy",
    "contrast": "each - baseline",
}


def plan_with(declared: dict[str, Any], **condition: Any) -> Plan:
    claim = {
        "name": "claimed",
        "sentence": "Something is so.",
        "condition": [{"essential": True, "fails": "low > 100", **condition}],
    }
    return parse_plan({"name": "mine", "estimand": [declared], "claim": [claim]})


def judged(record: Record, plan: Plan) -> ClaimVerdict:
    found = with_alternatives(record, plan, run_plan(record, plan))
    return found.verdicts[0]


def with_differences(differences: list[float], later: list[float] | None = None) -> Record:
    """Two arms, the second by `differences` apart; `later`: at the evaluation before the last."""
    n = len(differences)
    rows, curve = [], []
    for arm, d in (("baseline", [0.0] * n), ("projection", differences)):
        before = [0.0] * n if arm == "baseline" else later or differences
        for seed in range(n):
            rows.append((seed, arm, "complete", "", 0.1, 0.5 + d[seed]))
            curve += [
                (seed, arm, step, 0.5 + x)
                for step, x in ((0, -0.4), (10, before[seed]), (20, d[seed]))
            ]
    names = ["seed", "arm", "status", "reason", "initial_accuracy", "final_accuracy"]
    return replace(
        make_record(["baseline", "projection"]),
        replicates=pd.DataFrame(rows, columns=names),
        steps=pd.DataFrame(columns=["seed", "arm"]),
        evaluations=pd.DataFrame(curve, columns=["seed", "arm", "step", "test_accuracy"]),
    )


CLAIM = {"estimand": "effect_projection", "holds": "value < -0.05"}


def test_a_claim_that_rests_on_one_seed_falls_without_it() -> None:
    noise = 0.001 * np.random.default_rng(0).standard_normal(8)
    broad = judged(with_differences([*(-0.1 + noise)]), plan_with(EFFECT, **CLAIM))
    assert broad.verdict == "supported"
    assert broad.departures() == ()
    assert Counter(one.choice for one in broad.alternatives)["seed"] == 8
    fragile = judged(with_differences([*(-0.01 + noise[:7]), -0.6]), plan_with(EFFECT, **CLAIM))
    assert fragile.verdict == "supported"
    (fallen,) = fragile.departures()
    assert (fallen.choice, fallen.label) == ("seed", "without seed 7")
    assert fallen.verdict == "undetermined"
    assert fallen.value == pytest.approx(np.mean(-0.01 + noise[:7]))
    assert "seed 7 of 8" in fragile.stability()


def test_an_effect_of_the_last_epoch_alone_falls_with_the_outcome_before_it() -> None:
    d = [-0.1, -0.11, -0.09, -0.1, -0.12]
    late = judged(
        with_differences(d, later=[0.0, 0.01, -0.01, 0.0, 0.0]), plan_with(EFFECT, **CLAIM)
    )
    (fallen,) = late.departures()
    assert (fallen.choice, fallen.verdict) == ("outcome", "undetermined")


def test_many_seeds_are_left_out_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(variations, "MOST_SEEDS", 4)
    d = [-0.1, -0.11, -0.09, -0.1, -0.12, -0.1, -0.08, -0.1, -0.1]
    found = judged(with_differences(d), plan_with(EFFECT, **CLAIM))
    labels = [one.label for one in found.alternatives if one.choice == "seed"]
    assert labels[0] == "without seeds 0, 1, 2"
    assert len(labels) == 4


def test_an_arm_is_left_out_of_what_is_taken_over_several_only() -> None:
    record = make_record(["baseline", "projection", "half", "whole", "double"])
    named = judged(record, plan_with(EFFECT, **CLAIM))
    assert not any(one.choice == "arm" for one in named.alternatives)
    slope = {"name": "slope", "sentence": "Fall by dose.", "method": "dose_trend", "shape": "slope"}
    pooled = judged(record, plan_with(slope, estimand="slope", holds="high < 0"))
    assert {one.label for one in pooled.alternatives if one.choice == "arm"} == {
        "without half",
        "without whole",
        "without double",
    }


def test_cosine_and_window_touch_what_is_taken_over_steps() -> None:
    rng = np.random.default_rng(1)
    seed, epoch, _ = np.indices((8, 4, 5)).reshape(3, -1)
    x = 0.1 + 0.01 * rng.standard_normal(len(seed)) - 0.15 * (epoch == 3)
    steps = pd.DataFrame(
        {"seed": seed, "arm": "baseline", "epoch": epoch, "cos_gradient": x, "cos_update": abs(x)}
    )
    weakest = {
        "name": "weakest",
        "sentence": "Mean alignment in the weakest epoch.",
        "method": "weakest_epoch",
        "outcome": "cos_gradient",
    }
    plan = plan_with(weakest, estimand="weakest_weakest", holds="low > 0", fails="high < 0")
    found = judged(replace(make_record(["baseline"]), steps=steps), plan)
    assert found.verdict == "not supported"
    assert {(one.choice, one.label, one.verdict) for one in found.departures()} == {
        ("window", "without the last epoch", "supported"),
        ("cosine", "the other cosine", "supported"),
    }


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[Results, Results]:
    place = tmp_path_factory.mktemp("runs")
    truth = Truth(n_seeds=4, n_steps=12, steps_per_epoch=4)
    run = write_run(place / "small", simulate(truth, rng=8))
    results = analyse_stability(run, "paper")
    return results, read_results(results.write(place / "results.json"))


def test_results_hold_the_alternatives_and_say_them(found: tuple[Results, Results]) -> None:
    results, read = found
    by_name = {one.name: one for one in results.verdicts}
    assert [one.choice for one in by_name["liminal_attenuates"].alternatives].count("seed") == 4
    assert read.to_json() == results.to_json()
    assert f"holds under {by_name['liminal_attenuates'].stability()}" in results.table()
