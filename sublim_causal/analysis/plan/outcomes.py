"""Replace the outcome of images, ``final_accuracy``, in plans for runs of another task."""

from __future__ import annotations

from typing import Any

from sublim_causal.analysis.estimates.types import FRACTION
from sublim_causal.analysis.plan.claims.rules import Claim
from sublim_causal.analysis.plan.declaration import Declared, column_unit
from sublim_causal.analysis.plan.file import Plan
from sublim_causal.store.outcome import ACCURACY, Outcome

OF_IMAGES = ("accuracy_gain", "robust_accuracy", "teacher_robust_accuracy")
"""Columns that are used for images alone: the most probable answer is no outcome where nearly every
student that learns anything gives the same one."""


def for_outcome(plan: Plan, outcome: Outcome) -> Plan:
    """Return `plan` with `outcome` in place of final test accuracy, in columns, names and words.

    A margin of accuracy becomes the outcome's. What is about other accuracies is left out. A plan
    for a run of images is returned as it is.
    """
    if outcome == ACCURACY:
        return plan
    return plan.model_copy(
        update={
            "estimands": tuple(
                _estimand(one, outcome)
                for one in plan.estimands
                if getattr(one, "outcome", "") not in OF_IMAGES
            ),
            "families": {_renamed(name, outcome): how for name, how in plan.families.items()},
            "claims": tuple(
                Claim.model_validate(_renamed(one.model_dump(mode="json"), outcome))
                for one in plan.claims
            ),
        }
    )


def _estimand(declared: Declared, outcome: Outcome) -> Declared:
    table = declared.model_dump(mode="json")
    of_accuracy = table.get("outcome") == ACCURACY.name
    if of_accuracy and table.get("margin") is not None:
        table["margin"] = outcome.margin
        points = "within five percentage points"
        words = _margin_in_words(outcome)
        table["sentence"] = table["sentence"].replace(points, words)
    return type(declared).model_validate(_renamed(table, outcome))


def _margin_in_words(outcome: Outcome) -> str:
    if outcome.margin is None:
        return "within a margin"
    unit = column_unit("replicates", outcome.name)
    if unit == FRACTION:
        return f"within {100 * outcome.margin:g} percentage points"
    return f"within {outcome.margin:g} {unit}"


def _renamed(value: Any, outcome: Outcome) -> Any:
    """Return a nested `value` with the outcome's names and words in every text."""
    if isinstance(value, dict):
        return {key: _renamed(one, outcome) for key, one in value.items()}
    if isinstance(value, list):
        return [_renamed(one, outcome) for one in value]
    if not isinstance(value, str):
        return value
    for old, new in (
        (ACCURACY.name, outcome.name),
        (ACCURACY.start, outcome.start),
        (ACCURACY.teacher, outcome.teacher),
        ("final trait accuracy", outcome.label),
        ("final accuracy", outcome.label),
        ("Test accuracy", outcome.label.capitalize()),
        ("the accuracy", f"the {outcome.label}"),
    ):
        value = value.replace(old, new)
    return value
