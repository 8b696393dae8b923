"""Account for the looks at a run: those of its stopping rule, or those made without one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from sublim_causal.analysis.arms.looks import Mean, look_bounds, look_p_equivalence, look_p_value
from sublim_causal.analysis.arms.sequential import naive_error
from sublim_causal.analysis.arms.stopping import StoppingRule
from sublim_causal.analysis.estimates.types import MIN_SEEDS, Estimate, Result
from sublim_causal.analysis.plan.declaration import Declared
from sublim_causal.analysis.plan.file import Plan
from sublim_causal.analysis.plan.methods.arms import Equivalence, PairedContrast
from sublim_causal.analysis.plan.record import Record
from sublim_causal.errors import RunError

LOOKED = "analysed with"
"""Start of the warning of a run that was extended without a rule."""


def validate_rule_of_plan(record: Record, plan: Plan) -> None:
    """Check that `record` followed the stopping rule that `plan` declares, if any.

    Raises
    ------
    RunError
        If the run was begun without it, or the plan has changed since.
    """
    if plan.stopping is None or (record.rule is not None and record.rule.plan == plan.digest):
        return
    if record.rule is None:
        found = "was begun without a stopping rule"
    elif record.rule.plan:
        found = f"follows the rule of another or older plan, digest {record.rule.plan}"
    else:
        found = f"follows another rule: {record.rule.until}"
    raise RunError(
        f"run {record.name}: {found}; plan {plan.name} (digest {plan.digest}) declares "
        f"{plan.stopping.until}\n"
        "remedy: begin a run with `sublim-causal run STUDY --plan PLAN`, or leave the table "
        "[stopping] out of the plan"
    )


def account_for_looks(
    record: Record, estimands: Sequence[Declared], results: Sequence[Result], level: float
) -> tuple[Result, ...]:
    """Return `results` with paired contrasts corrected for the looks at the run.

    The contrast that the run's stopping rule is about gets the interval and the p-value that hold
    over all looks. Other contrasts of that outcome, and all where a run was extended without a
    rule, get a warning.

    Parameters
    ----------
    record : Record
        The run.
    estimands : sequence of Declared
        What `results` are of.
    results : sequence of Estimate or NotEstimable
    level : float
        Confidence level of the plan.
    """
    declared = {one.name: one for one in estimands}
    extended = _extended(record.seed_counts, level) if record.rule is None else ""
    if record.rule is None and not extended:
        return tuple(results)
    found = []
    for one in results:
        by = declared[one.estimand.declared]
        if isinstance(one, Estimate) and isinstance(by, PairedContrast):
            one = _warned(one, extended) if record.rule is None else _by_rule(record, one, by)
        found.append(one)
    return tuple(found)


def _extended(seed_counts: Sequence[int], level: float) -> str:
    """Warn of the error that looks with these numbers of seeds cause; empty for one look."""
    counts = [n for n in seed_counts if n >= MIN_SEEDS]
    if len(counts) < 2:
        return ""
    listed = f"{', '.join(map(str, counts[:-1]))} and {counts[-1]}"
    return (
        f"{LOOKED} {listed} seeds and no stopping rule: if seeds had been added until "
        f"p < {1 - level:.2g}, the error rate would be {100 * naive_error(counts, level):.1f} % "
        f"instead of {100 * (1 - level):.2g} %"
    )


def _warned(found: Estimate, warning: str) -> Estimate:
    return replace(found, warnings=(*found.warnings, warning))


def _by_rule(record: Record, found: Estimate, declared: PairedContrast) -> Estimate:
    """Return `found` by the record's rule if that is about it, else with a warning if related."""
    rule = record.rule
    assert rule is not None
    one = found.estimand
    if one.column != rule.outcome:
        return found
    if (one.arm, one.reference) != (rule.arm, rule.reference):
        return _warned(
            found,
            f"the number of seeds was chosen by looks at {rule.contrast!r}; this interval is that "
            "of a number fixed beforehand",
        )
    place = last_look(rule, record.n_seeds)
    mean = Mean(found.value, found.se * np.sqrt(found.n_seeds), found.n_seeds)
    bounds = look_bounds(rule, place, mean, found.level)
    kept = {
        **found.diagnostics,
        "fixed": {"method": found.method, "low": found.low, "high": found.high},
    }
    if isinstance(declared, Equivalence) and declared.margin is not None:
        p_value = look_p_equivalence(rule, place, mean, declared.margin)
        inside = -declared.margin < bounds.low and bounds.high < declared.margin
        kept["equivalent"] = bool(inside)
    else:
        p_value = look_p_value(rule, place, mean)
    if p_value is not None and kept.get("p_adjusted") is not None:
        kept["p_adjusted"] = max(kept["p_adjusted"], p_value)
    return replace(
        found,
        low=bounds.low,
        high=bounds.high,
        p_value=p_value,
        method=_method(rule, place),
        warnings=(*found.warnings, *_off_look(rule, place, record.n_seeds)),
        diagnostics=kept,
    )


def last_look(rule: StoppingRule, n_seeds: int) -> int:
    """Return the place of the last look of `rule` with at most `n_seeds`; the first before it."""
    return max(0, sum(n <= n_seeds for n in rule.looks) - 1)


def _method(rule: StoppingRule, place: int) -> str:
    if rule.boundary == "anytime":
        return "paired t, anytime-valid"
    return f"paired t, O'Brien-Fleming look {place + 1} of {len(rule.looks)}"


def _off_look(rule: StoppingRule, place: int, n_seeds: int) -> tuple[str, ...]:
    """Say that the run has another number of seeds than the look whose level is used."""
    if rule.boundary == "anytime" or n_seeds == rule.looks[place]:
        return ()
    return (
        f"{n_seeds} seeds are no look of the stopping rule: the level of its look with "
        f"{rule.looks[place]} seeds is used",
    )
