"""Plans of runs whose task has another outcome than final test accuracy."""

from __future__ import annotations

from sublim_causal.analysis.plan.file import load_plan
from sublim_causal.analysis.plan.outcomes import for_outcome
from sublim_causal.store.outcome import ACCURACY, TRAIT_LOG_ODDS, outcome_of


def test_a_plan_of_images_stays_as_it_is() -> None:
    plan = load_plan("primary")
    assert for_outcome(plan, ACCURACY) is plan
    assert outcome_of({}) == ACCURACY


def test_the_primary_plan_takes_the_outcome_of_the_task() -> None:
    plan = for_outcome(load_plan("primary"), TRAIT_LOG_ODDS)
    text = plan.model_dump_json()
    assert "accuracy" not in text
    assert "five percentage points" not in text
    same = next(one for one in plan.estimands if one.name == "shuffled_equals_baseline")
    assert same.model_dump()["outcome"] == "trait_log_odds"
    assert same.model_dump()["margin"] == 0.2
    assert plan.families["trait_log_odds"] == "sign_flip"
