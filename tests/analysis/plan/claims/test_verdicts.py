"""Claims are validated with their plan, and judged by the limits they declare."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from sublim_causal.analysis.estimates.types import Estimand, Estimate, NotEstimable, Result
from sublim_causal.analysis.plan.claims.verdicts import ClaimVerdict, judge
from sublim_causal.analysis.plan.file import Plan, load_plan, parse_plan
from sublim_causal.analysis.plan.run import analyse
from sublim_causal.analysis.simulation.tables import Truth, simulate, write_run
from sublim_causal.errors import RequestError

EFFECT = {
    "sentence": "Mean difference in final accuracy.",
    "method": "paired_contrast",
    "outcome": "final_accuracy",
}
ENTRIES = [
    {"name": "one", "contrast": "projection - baseline", **EFFECT},
    {"name": "two", "contrast": "projection - baseline", **EFFECT},
    {"name": "every", "contrast": "each - baseline", **EFFECT},
    {"name": "split", "sentence": "The parts of an effect.", "method": "cross_world"},
    {
        "name": "by_model",
        "sentence": "The parts of an effect.",
        "method": "mediation",
        "contrast": "each - baseline",
    },
]


def claim(*conditions: dict[str, Any], name: str = "claimed") -> dict[str, Any]:
    whole = [{"holds": "low > 0", "fails": "high < 0", **one} for one in conditions]
    if not any("essential" in one for one in conditions):
        whole[:1] = [{**one, "essential": True} for one in whole[:1]]
    return {"name": name, "sentence": "Something is so.", "condition": whole}


def plan_with(*claims: dict[str, Any]) -> Plan:
    return parse_plan({"name": "mine", "estimand": ENTRIES, "claim": list(claims)})


def refused(*claims: dict[str, Any]) -> RequestError:
    with pytest.raises(RequestError) as error:
        plan_with(*claims)
    return error.value


def result(name: str, low: float, high: float, **diagnostics: Any) -> Estimate:
    return Estimate(
        estimand=Estimand(name, "A quantity."),
        value=(low + high) / 2,
        se=1.0,
        low=low,
        high=high,
        level=0.95,
        df=9.0,
        p_value=0.5,
        method="t",
        n_seeds=10,
        diagnostics=diagnostics,
    )


def judged(results: list[Result], *conditions: dict[str, Any]) -> ClaimVerdict:
    plan = plan_with(claim(*conditions))
    (verdict,) = judge(plan.claims, results, plan.estimands)
    return verdict


HOLDS, FAILS, OPEN = (1.0, 2.0), (-2.0, -1.0), (-1.0, 1.0)


@pytest.mark.parametrize(
    ("one", "two", "essential", "expected"),
    [
        (HOLDS, HOLDS, False, "supported"),
        (HOLDS, OPEN, False, "partly supported"),
        (HOLDS, FAILS, False, "partly supported"),
        (HOLDS, FAILS, True, "not supported"),
        (HOLDS, OPEN, True, "undetermined"),
        (FAILS, HOLDS, False, "not supported"),
        (OPEN, HOLDS, False, "undetermined"),
        (OPEN, FAILS, False, "undetermined"),
        (OPEN, FAILS, True, "not supported"),
    ],
)
def test_the_verdict_follows_from_what_holds_fails_and_is_open(
    one: tuple[float, float], two: tuple[float, float], essential: bool, expected: str
) -> None:
    verdict = judged(
        [result("one", *one), result("two", *two)],
        {"estimand": "one", "essential": True},
        {"estimand": "two", "essential": essential},
    )
    assert verdict.verdict == expected


def test_and_binds_tighter_than_or() -> None:
    rule = {"estimand": "one", "holds": "low > 5 or low > -1 and high < 1"}
    assert judged([result("one", -0.5, 0.5)], rule).verdict == "supported"
    assert judged([result("one", 6, 7)], rule).verdict == "supported"
    assert judged([result("one", -0.5, 1.5)], rule).verdict == "undetermined"


@pytest.mark.parametrize("sign", [">", ">=", "<", "<="])
def test_limits_are_compared_as_written(sign: str) -> None:
    rule = {"estimand": "one", "holds": f"low {sign} 1e-1", "fails": "low > 100"}
    at = judged([result("one", 0.1, 0.2)], rule).verdict
    assert at == ("supported" if "=" in sign else "undetermined")
    beside = judged([result("one", 0.15 if ">" in sign else 0.05, 0.2)], rule).verdict
    assert beside == "supported"


def test_p_values_count_where_there_are_any() -> None:
    rule = {"estimand": "one", "holds": "p_adjusted < 0.01", "fails": "low > 5"}
    assert judged([result("one", 1, 2, p_adjusted=0.001)], rule).verdict == "supported"
    assert judged([result("one", 1, 2, p_adjusted=0.2)], rule).verdict == "undetermined"
    assert judged([result("one", 1, 2)], rule).verdict == "undetermined"
    (finding,) = judged([result("one", 1, 2, p_adjusted=0.001)], rule).findings
    assert "p_adjusted 0.001" in finding.summary()


@pytest.mark.parametrize("rule", ["p_value > 0.05", "low > 0 and p_adjusted >= 0.05"])
def test_a_large_p_value_accepts_nothing(rule: str) -> None:
    error = refused(claim({"estimand": "one", "holds": rule}))
    assert "a large p-value accepts nothing" in str(error)


def test_doses_that_disagree_are_a_caveat_with_its_size_and_decide_nothing() -> None:
    apart = result("one", 1, 2, j_rejects=True, j_p=0.001, j_misfit=0.08)
    verdict = judged([apart], {"estimand": "one"})
    assert verdict.verdict == "supported"
    assert "caveat: the instruments disagree on the effect (J p 0.001; an arm is up to 0.08" in (
        verdict.findings[0].summary()
    )
    assert (
        "caveat"
        not in judged([result("one", 1, 2, j_rejects=False, j_p=0.4)], {"estimand": "one"})
        .findings[0]
        .summary()
    )


def test_an_undetermined_claim_says_what_would_settle_it() -> None:
    whole = NotEstimable(Estimand("split", "The parts."), "no arm 'yoked'; built-in: causal")
    rules = (
        {"estimand": "split_tnie", "essential": True},
        {"estimand": "one", "essential": True},
        {"estimand": "two"},
    )
    verdict = judged([whole, result("one", *OPEN), result("two", *OPEN)], *rules)
    assert verdict.settled_by == (
        "split_tnie: no arm 'yoked'; built-in: causal",
        "one: more than 10 seeds",
    )
    assert judged([result("one", *HOLDS)], {"estimand": "one"}).settled_by == ()


def test_unbounded_and_missing_limits_decide_nothing() -> None:
    assert judged([result("one", -math.inf, math.inf)], {"estimand": "one"}).verdict == (
        "undetermined"
    )
    assert judged([result("one", math.nan, math.nan)], {"estimand": "one"}).verdict == (
        "undetermined"
    )


def test_what_cannot_be_estimated_is_open_with_the_reason_of_its_whole() -> None:
    whole = NotEstimable(Estimand("split", "The parts of an effect."), "no yoked arm was run")
    verdict = judged([whole], {"estimand": "split_tnie"}, {"estimand": "every_liminal"})
    assert verdict.verdict == "undetermined"
    part, arm = (one.reason for one in verdict.findings)
    assert part == "no yoked arm was run"
    reason, studies = arm.split("; built-in studies that have it: ")
    assert reason == "the run has no arm for it"
    assert "paper" in studies.split(", ")


def test_an_unknown_estimand_names_the_nearest() -> None:
    error = refused(claim({"estimand": "split_pnid"}))
    assert error.field == "claim[0].condition[0].estimand"
    assert "did you mean 'split_pn" in str(error)
    assert "every_<arm>" in error.allowed


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("split_indirect_1", "split_tnie"),
        ("split_leak", "split_residual_mediator_gap"),
        ("by_model_controlled_projection", "by_model_cde_projection"),
        ("by_model_proportion_liminal", "by_model_proportion_mediated_liminal"),
    ],
)
def test_a_part_of_an_old_name_is_refused_with_the_new_one(old: str, new: str) -> None:
    error = refused(claim({"estimand": old}))
    assert (error.value, error.allowed) == (old, new)
    assert plan_with(claim({"estimand": new})).claims


def test_a_condition_names_a_part_not_its_whole() -> None:
    assert refused(claim({"estimand": "split"})).value == "split"
    assert refused(claim({"estimand": "every"})).value == "every"
    assert plan_with(claim({"estimand": "every_any arm 0.5"})).claims


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("low", "comparisons such as"),
        ("low > zero", "comparisons such as"),
        ("low == 0", "comparisons such as"),
        ("low > 0 & high < 1", "comparisons such as"),
        ("lower > 0", "did you mean 'low"),
        ("", "comparisons such as"),
    ],
)
def test_wrong_rules_are_refused_where_they_stand(rule: str, said: str) -> None:
    error = refused(claim({"estimand": "one", "holds": rule}))
    assert error.field == "claim[0].condition.0.holds"
    assert said in str(error)


def test_claims_need_names_of_their_own_and_conditions() -> None:
    twice = claim({"estimand": "one"})
    assert refused(twice, twice).field == "claim.name"
    assert refused(claim()).field == "claim[0].condition"
    whole = {"name": "claimed", "sentence": "Something is so."}
    error = refused({**whole, "conditions": []})
    assert error.field == "claim[0].conditions"
    assert "did you mean 'condition'?" in str(error)
    with pytest.raises(RequestError, match="headed"):
        parse_plan({"name": "mine", "estimand": ENTRIES, "claim": {"name": "x"}})


def test_a_claim_falls_with_at_least_one_condition() -> None:
    error = refused(claim({"estimand": "one", "essential": False}, {"estimand": "two"}))
    assert error.field == "claim[0].condition.essential"
    assert "essential = true" in error.remedy


def test_claims_are_part_of_the_digest() -> None:
    condition = {"estimand": "one"}
    digests = {
        plan_with().digest,
        plan_with(claim(condition)).digest,
        plan_with(claim({**condition, "holds": "low > 1"})).digest,
    }
    assert len(digests) == 3


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Any:
    truth = Truth(n_seeds=10, n_steps=40, steps_per_epoch=10, reliability=0.6)
    return write_run(tmp_path_factory.mktemp("runs") / "small", simulate(truth, rng=8))


def test_results_carry_the_verdicts_and_their_numbers(run: Any) -> None:
    found = analyse(run, "causal")
    by_name = {one.name: one for one in found.verdicts}
    assert list(by_name) == [one.name for one in load_plan("causal").claims]
    # In the simulated study projection takes 0.35 of 0.5, and no arm is yoked or dosed.
    causes = by_name["alignment_causes_transfer"]
    assert causes.verdict == "undetermined"
    assert any("causal" in one and "cross_world" in one for one in causes.settled_by)
    document = json.loads(found.to_json())
    first = document["verdicts"][1]["conditions"][2]
    effect = found["final_accuracy_projection"]
    assert isinstance(effect, Estimate)
    assert (first["estimand"], first["outcome"]) == ("final_accuracy_projection", "holds")
    assert (first["conf_low"], first["conf_high"]) == (effect.low, effect.high)
    frame = found.tidy_verdicts()
    assert len(frame) == sum(len(one.findings) for one in found.verdicts)
    assert {"claim", "verdict", "estimand", "outcome", "conf_low", "conf_high", "reason"} <= set(
        frame
    )
    table = found.table()
    assert "alignment_causes_transfer: UNDETERMINED (holds" in table
    assert "to settle it: removed_null" in table
    assert "- holds  final_accuracy_projection (essential) = " in table


def test_a_plan_without_claims_has_no_verdicts(run: Any) -> None:
    plan = plan_with()
    found = analyse(run, plan)
    assert found.verdicts == ()
    assert found.tidy_verdicts().empty
    assert json.loads(found.to_json())["verdicts"] == []


def test_a_name_that_two_results_have_is_refused() -> None:
    entries = [
        {"name": "accuracy", "sentence": "Mean accuracy of an arm.", "method": "arm_mean"},
        {"name": "accuracy_late", "contrast": "late - baseline", **EFFECT},
    ]
    entries[0] |= {"outcome": "final_accuracy"}
    table = {"name": "mine", "estimand": entries, "claim": [claim({"estimand": "accuracy_late"})]}
    plan = parse_plan(table)
    of_arm, contrast = result("accuracy_late", *HOLDS), result("accuracy_late", *FAILS)
    with pytest.raises(RequestError, match="'accuracy_late' is not allowed") as error:
        judge(plan.claims, [of_arm, contrast], plan.estimands)
    assert "another name" in str(error.value)
    (verdict,) = judge(plan.claims, [contrast], plan.estimands)
    assert verdict.verdict == "not supported"
