"""Claim stability: the verdict on each claim under other defensible choices of the analysis."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from sublim_causal.analysis.estimates.types import Estimate, NotEstimable, Result
from sublim_causal.analysis.plan.claims.verdicts import Alternative, ClaimVerdict, judge
from sublim_causal.analysis.plan.declaration import Contrasted, Declared, OfArm
from sublim_causal.analysis.plan.file import Plan, load_plan
from sublim_causal.analysis.plan.looks import validate_rule_of_plan
from sublim_causal.analysis.plan.outcomes import for_outcome
from sublim_causal.analysis.plan.record import Record, columns_of_run, read_runs, with_steps
from sublim_causal.analysis.plan.results.results import Results
from sublim_causal.analysis.plan.run import Progress, estimate, needed, run_plan
from sublim_causal.analysis.plan.stability.variations import COSINES, GAINS, Variation, variations
from sublim_causal.location import locate


def analyse_stability(
    run: str | Path, plan: Plan | str | Path = "primary", progress: Progress | None = None
) -> Results:
    """Estimate what `plan` declares from `run`, with the alternatives of its claims.

    Parameters and errors as in `analyse`.

    Returns
    -------
    Results
        Those of `analyse`; the verdicts hold their alternatives.
    """
    run = locate(run)
    with columns_of_run(run):
        record = read_runs(run)
        plan = plan if isinstance(plan, Plan) else load_plan(plan)
        validate_rule_of_plan(record, plan)
        plan = for_outcome(plan, record.outcome)
        columns, layers = needed(plan)
        columns |= {COSINES.get(one) or GAINS.get(one) or one for one in columns}
        record = with_steps(record, run, columns, layers=layers, evaluations=True)
        return with_alternatives(record, plan, run_plan(record, plan), progress)


def with_alternatives(
    record: Record, plan: Plan, results: Results, progress: Progress | None = None
) -> Results:
    """Return `results` with the alternatives of each claim of `plan`.

    Parameters
    ----------
    record : Record
        With steps; without evaluations the run-level outcome has no alternative.
    plan : Plan
        Whose claims were judged.
    results : Results
        Of `plan` on `record`.
    progress : callable, optional
        As in `analyse`, over alternatives.
    """
    if not plan.claims:
        return results
    report_progress = progress or (lambda done, total, name: None)
    others = [*variations(record, plan)]
    base = {one.estimand.name: one for one in results.results}
    estimands = _needed_estimands(plan, record)
    found: dict[str, list[Alternative]] = {claim.name: [] for claim in plan.claims}
    for done, variation in enumerate(others):
        report_progress(done, len(others), f"{variation.choice}: {variation.label}")
        changed = _changed(variation, record, plan, estimands, base)
        if not changed:
            continue
        verdicts = judge(plan.claims, [*{**base, **changed}.values()], plan.estimands)
        for claim, verdict in zip(plan.claims, verdicts, strict=True):
            if any(one.estimand in changed for one in claim.condition):
                found[claim.name].append(_alternative(variation, verdict))
    report_progress(len(others), len(others), "")
    own = (replace(one, alternatives=tuple(found[one.name])) for one in results.verdicts)
    return replace(results, verdicts=tuple(own))


def _alternative(variation: Variation, verdict: ClaimVerdict) -> Alternative:
    one = verdict.headline
    value, low, high = (np.nan, np.nan, np.nan) if one is None else (one.value, one.low, one.high)
    return Alternative(variation.choice, variation.label, verdict.verdict, value, low, high)


def _changed(
    variation: Variation,
    record: Record,
    plan: Plan,
    estimands: Sequence[Declared],
    base: Mapping[str, Result],
) -> dict[str, Result]:
    """Return the results that `variation` changes, by name."""
    plan = (
        plan if variation.n_boot is None else plan.model_copy(update={"n_boot": variation.n_boot})
    )
    groups: dict[int, tuple[Record, list[Declared]]] = {}
    for declared in estimands:
        if made := variation.change(record, declared):
            groups.setdefault(id(made[0]), (made[0], []))[1].append(made[1])
    found = {
        one.estimand.name: one
        for other, several in groups.values()
        for one in estimate(other, plan, several)
    }
    changed = {name: one for name, one in found.items() if _differs(one, base.get(name))}
    if variation.choice == "arm":
        # An arm without which nothing can be estimated cannot be left out.
        return {name: one for name, one in changed.items() if isinstance(one, Estimate)}
    return changed


def _differs(one: Result, other: Result | None) -> bool:
    if other is None:
        return False
    if isinstance(one, NotEstimable) or isinstance(other, NotEstimable):
        return isinstance(one, Estimate) or isinstance(other, Estimate)
    return (one.value, one.low, one.high) != (other.value, other.low, other.high)


def _needed_estimands(plan: Plan, record: Record) -> list[Declared]:
    """Return the estimands of the claims; of a quantity of each arm, only the arms that are named.

    Where a rule asks for an adjusted p-value, the whole family of its estimand is among them.
    """
    conditions = [one for claim in plan.claims for one in claim.condition]
    names = {one.estimand for one in conditions}
    adjusted = {one.estimand for one in conditions if "p_adjusted" in one.holds + one.fails}
    families = {
        one.family for one in plan.estimands if one.family and [*_named(one, adjusted, record)]
    }
    return [
        one
        for declared in plan.estimands
        for one in ([declared] if declared.family in families else _named(declared, names, record))
    ]


def _named(declared: Declared, names: set[str], record: Record) -> Iterator[Declared]:
    endings = declared.endings()
    if endings is not None:
        if names & {"_".join(filter(None, (declared.name, end))) for end in endings}:
            yield declared
        return
    arms = [arm for arm in record.arms if any(_is_of(declared, name, arm) for name in names)]
    for arm in arms:
        if isinstance(declared, Contrasted) and len(declared.parts) == 1:
            own = {"name": f"{declared.name}_{arm}", "contrast": f"{arm} - {declared.reference}"}
            yield declared.model_copy(update=own)
        elif isinstance(declared, OfArm):
            yield declared.model_copy(update={"name": f"{declared.name}_{arm}", "arm": arm})
        else:
            yield declared
            return


def _is_of(declared: Declared, name: str, arm: str) -> bool:
    return name.startswith(f"{declared.name}_") and name.endswith(f"_{arm}")
