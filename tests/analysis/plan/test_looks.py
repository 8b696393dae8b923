"""What the looks at a run do to the results of a plan."""

from dataclasses import replace

import pytest

from sublim_causal.analysis.arms.sequential import naive_error
from sublim_causal.analysis.arms.stopping import Stopping, resolve_rule
from sublim_causal.analysis.plan.file import parse_plan
from sublim_causal.analysis.plan.looks import LOOKED, last_look
from sublim_causal.analysis.plan.run import run_plan
from tests.analysis.small import N_SEEDS, make_record

PLAN = parse_plan(
    {
        "name": "mine",
        "n_boot": 199,
        "families": {"arms": "sign_flip"},
        "estimand": [
            {
                "name": name,
                "sentence": "Some quantity, in one sentence.",
                "outcome": "final_accuracy",
                **fields,
            }
            for name, fields in {
                "arm": {
                    "method": "paired_contrast",
                    "contrast": "each - baseline",
                    "family": "arms",
                },
                "equal": {
                    "method": "equivalence",
                    "contrast": "projection - baseline",
                    "margin": 5.0,
                },
                "mean": {"method": "arm_mean", "arm": "baseline"},
            }.items()
        ],
    }
)


def rule(looks=(4, N_SEEDS), **fields):
    stopping = Stopping(until="excludes 0", at=looks, **fields)
    return resolve_rule(stopping, ["baseline", "projection"], "baseline")


@pytest.fixture(scope="module")
def record():
    return make_record()


@pytest.fixture(scope="module")
def fixed(record):
    return run_plan(record, PLAN)


@pytest.mark.parametrize("boundary", ["obrien-fleming", "anytime"])
def test_the_contrast_of_the_rule_has_the_interval_over_all_looks(record, fixed, boundary):
    by = rule((4, N_SEEDS, 2 * N_SEEDS), boundary=boundary)
    found = run_plan(replace(record, rule=by), PLAN)
    own, before = found["arm_projection"], fixed["arm_projection"]
    assert own.low < before.low <= before.high < own.high
    assert own.p_value > before.p_value
    assert (own.value, own.level) == (before.value, before.level)
    assert ("anytime" if boundary == "anytime" else "O'Brien-Fleming look 2 of 3") in own.method
    assert own.diagnostics["fixed"]["low"] == before.low
    assert own.diagnostics["p_adjusted"] >= own.p_value
    equal = found["equal"]
    assert equal.width > fixed["equal"].width
    assert equal.level == pytest.approx(0.9)
    assert equal.diagnostics["equivalent"]
    assert equal.p_value < 0.05


def test_other_contrasts_say_that_the_number_of_seeds_was_chosen(record, fixed):
    found = run_plan(replace(record, rule=rule()), PLAN)
    assert "chosen by looks at 'projection - baseline'" in found["arm_half"].warnings[-1]
    assert found["arm_half"].low == fixed["arm_half"].low
    assert found["mean"] == fixed["mean"]


def test_a_number_of_seeds_between_looks_has_the_level_of_the_last_one(record):
    found = run_plan(replace(record, rule=rule((4, N_SEEDS - 1, 40))), PLAN)["arm_projection"]
    assert found.method.endswith("look 2 of 3")
    assert f"{N_SEEDS} seeds are no look" in found.warnings[-1]
    assert [last_look(rule((4, 8)), n) for n in (3, 4, 7, 8, 9)] == [0, 0, 0, 1, 1]


def test_a_run_that_was_extended_without_a_rule_says_what_that_does(record, fixed):
    found = run_plan(replace(record, seed_counts=(8, 12, 16)), PLAN)
    error = f"{100 * naive_error((8, 12, 16)):.1f} % instead of 5 %"
    for name in ("arm_projection", "arm_half", "equal"):
        assert found[name].warnings[-1].startswith(f"{LOOKED} 8, 12 and 16 seeds")
        assert error in found[name].warnings[-1]
        assert found[name].low == fixed[name].low
    assert found["mean"] == fixed["mean"]
    assert run_plan(replace(record, seed_counts=(2, 8)), PLAN)["equal"] == fixed["equal"]
