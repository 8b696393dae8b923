"""Which arms enter one slope: those that differ in the intervention alone, and not in alignment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sublim_causal.analysis.plan.method import quoted
from sublim_causal.analysis.plan.record import Record

SHARED = "adjusted for training time, not for minibatches that the arms of a seed share"
_ACTING = ("projection", "yoked", "clamp", "set_cosine", "set_coverage")
"""Interventions whose aim is the alignment itself, or another cosine of the update."""


def acts_on_alignment(options: Mapping[str, Any]) -> bool:
    """Whether an arm of these options sets, removes or shifts alignment itself.

    Its steps are moved to an alignment, over-corrected or clamped, so that gain and alignment are
    related in another way than without intervention.
    """
    if options.get("intervention") in _ACTING:
        return True
    shuffles = options.get("intervention") == "shuffled"
    if shuffles and "probe" in (options.get("shuffle"), options.get("0.shuffle")):
        return True  # another probe's gradient is a trait gradient
    return any(acts_on_alignment(member) for member in options.get("members", ()))


def comparable_arms(record: Record) -> tuple[str, ...]:
    """Return the arms over which one slope is taken: the reference, and those that compare.

    They have the reference's student, channel, targets and inputs, and do not act on alignment.
    The reference is the study's, else the first arm whose intervention is the baseline, else the
    first arm.
    """
    options = {arm: record.options(arm) for arm in record.arms}
    plain = (arm for arm, one in options.items() if one["intervention"] == "baseline")
    candidates = (record.reference, *plain, *record.arms)
    reference = next((arm for arm in candidates if arm in record.arms), "")
    return tuple(
        arm
        for arm in record.arms
        if arm == reference
        or (record.is_comparable(arm, reference) and not acts_on_alignment(options[arm]))
    )


def entering_arms(record: Record) -> tuple[list[str], list[str]]:
    """Return the arms of one slope that have steps, and the notes on them."""
    present = set(record.steps["arm"].unique())
    arms = [arm for arm in comparable_arms(record) if arm in present]
    others = [arm for arm in record.arms if arm not in arms]
    note = f"one slope over the arms {quoted(arms)}"
    if others:
        note += f"; the others act on alignment or have another setting: {quoted(others)}"
    return arms, [note, *[SHARED] * (len(arms) == 1)]
