"""Claim stability: the verdict on each claim under other defensible choices of the analysis.

Which choices are defensible is fixed here, before data are read. One is changed at a time, and an
estimate that it does not touch stays as it is; a change that touches nothing that a claim stands on
is no alternative of that claim.

- **outcome**: a run-level outcome at the last evaluation but one; in a per-step slope
  `accuracy_gain` instead of `gain` and the reverse, where the rules ask for its sign only.
- **window**: without the steps of the first epoch; without those of the last.
- **cosine**: that of the update instead of that of the gradient and the reverse, where it is
  summarised itself, or the rules ask for the sign of a slope on it only.
- **estimator**: for an effect by `iv_linear_dose`, the Anderson-Rubin set of the same doses.
- **interval**: t, and bootstrap-t, instead of what the skewness rule chooses.
- **seed**: one seed left out; of more than `MOST_SEEDS`, one of as many blocks of seeds.
- **arm**: one arm left out of what is taken over several: doses, comparable arms, controls. An arm
  that a result is of is not left out.

What `docs/validity.md` shows to be biased, such as run-level mediation, is no defensible choice.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from sublim_causal.analysis.estimates.types import Estimate, NotEstimable, Result
from sublim_causal.analysis.plan.declaration import Contrasted, Declared, OfArm, WithInterval
from sublim_causal.analysis.plan.file import Plan, load_plan
from sublim_causal.analysis.plan.looks import validate_rule_of_plan
from sublim_causal.analysis.plan.methods.bounds import WeakestEpoch
from sublim_causal.analysis.plan.methods.doses import strengths
from sublim_causal.analysis.plan.methods.instruments import Instrumented, LinearDose
from sublim_causal.analysis.plan.methods.slopes import StepSlope
from sublim_causal.analysis.plan.methods.summaries import SeedSummary
from sublim_causal.analysis.plan.outcomes import for_outcome
from sublim_causal.analysis.plan.record import Record, columns_of_run, read_runs, with_steps
from sublim_causal.analysis.plan.results import Results
from sublim_causal.analysis.plan.run import Progress, estimate, needed, run_plan
from sublim_causal.analysis.plan.verdicts import Alternative, Choice, Claim, ClaimVerdict, judge
from sublim_causal.location import locate

MOST_SEEDS = 32
"""With more seeds, blocks of them are left out: so many refits at most."""
N_BOOT_SEEDS = 399
"""Bootstrap replicates where a seed is left out; else the plan's."""
_NUMBER = re.compile(r"[-+]?\d*\.?\d+(?:[eE][-+]?\d+)?")
_COSINES = {"cos_gradient": "cos_update", "cos_update": "cos_gradient"}
_GAINS = {"gain": "accuracy_gain", "accuracy_gain": "gain"}


@dataclass(frozen=True)
class _Setting:
    """A choice: what it makes of an estimand and its record; None where it does not touch it."""

    choice: Choice
    label: str
    change: Callable[[Record, Declared], tuple[Record, Declared] | None]
    n_boot: int | None = None
    """Bootstrap replicates; None: the plan's."""


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
        columns |= {_COSINES.get(one) or _GAINS.get(one) or one for one in columns}
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
    settings = [*_settings(record, plan)]
    base = {one.estimand.name: one for one in results.results}
    estimands = _needed_estimands(plan, record)
    found: dict[str, list[Alternative]] = {claim.name: [] for claim in plan.claims}
    for done, setting in enumerate(settings):
        report_progress(done, len(settings), f"{setting.choice}: {setting.label}")
        changed = _changed(setting, record, plan, estimands, base)
        if not changed:
            continue
        for claim, verdict in zip(plan.claims, _judged(plan, base, changed), strict=True):
            if any(one.estimand in changed for one in claim.condition):
                found[claim.name].append(_alternative(setting, verdict))
    report_progress(len(settings), len(settings), "")
    verdicts = (replace(one, alternatives=tuple(found[one.name])) for one in results.verdicts)
    return replace(results, verdicts=tuple(verdicts))


def _judged(
    plan: Plan, base: Mapping[str, Result], changed: Mapping[str, Result]
) -> tuple[ClaimVerdict, ...]:
    return judge(plan.claims, [*{**base, **changed}.values()], plan.estimands)


def _alternative(setting: _Setting, verdict: ClaimVerdict) -> Alternative:
    one = verdict.headline
    value, low, high = (np.nan, np.nan, np.nan) if one is None else (one.value, one.low, one.high)
    return Alternative(setting.choice, setting.label, verdict.verdict, value, low, high)


def _changed(
    setting: _Setting,
    record: Record,
    plan: Plan,
    estimands: Sequence[Declared],
    base: Mapping[str, Result],
) -> dict[str, Result]:
    """Return the results that `setting` changes, by name."""
    plan = plan if setting.n_boot is None else plan.model_copy(update={"n_boot": setting.n_boot})
    groups: dict[int, tuple[Record, list[Declared]]] = {}
    for declared in estimands:
        if made := setting.change(record, declared):
            groups.setdefault(id(made[0]), (made[0], []))[1].append(made[1])
    found = {
        one.estimand.name: one
        for other, several in groups.values()
        for one in estimate(other, plan, several)
    }
    changed = {name: one for name, one in found.items() if _differs(one, base.get(name))}
    if setting.choice == "arm":
        # An arm without which nothing can be estimated is part of the question.
        return {name: one for name, one in changed.items() if isinstance(one, Estimate)}
    return changed


def _differs(one: Result, other: Result | None) -> bool:
    if other is None:
        return False
    if isinstance(one, NotEstimable) or isinstance(other, NotEstimable):
        return isinstance(one, Estimate) or isinstance(other, Estimate)
    return (one.value, one.low, one.high) != (other.value, other.low, other.high)


def _needed_estimands(plan: Plan, record: Record) -> list[Declared]:
    """Return what the claims stand on; of a quantity of each arm, only the arms that are named.

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


def _settings(record: Record, plan: Plan) -> Iterator[_Setting]:
    signs = _asked_for_sign(plan.claims)
    earlier = _one_evaluation_earlier(record)
    if earlier is not None:
        replaced = earlier
        yield _Setting(
            "outcome",
            "at the last evaluation but one",
            lambda record, declared: None if declared.step_columns() else (replaced, declared),
        )
    yield _Setting("outcome", "the other gain", _swapped_gain(signs))
    yield from _windows(record)
    yield _Setting("cosine", "the other cosine", _swapped_cosine(signs))
    yield _Setting("estimator", "Anderson-Rubin", _anderson_rubin)
    for kind in ("t", "bootstrap-t"):
        yield _Setting("interval", kind, _with_interval(kind))
    yield from _without_seeds(record)
    for arm in record.complete_arms:
        if arm != record.reference:
            yield _Setting("arm", f"without {arm}", _without_arm(record, arm))


def _asked_for_sign(claims: Sequence[Claim]) -> set[str]:
    """Return the results whose rules compare with 0 alone."""
    rules: dict[str, str] = {}
    for claim in claims:
        for one in claim.condition:
            rules[one.estimand] = f"{rules.get(one.estimand, '')} {one.holds} {one.fails}"
    return {
        name for name, text in rules.items() if all(float(x) == 0 for x in _NUMBER.findall(text))
    }


def _one_evaluation_earlier(record: Record) -> Record | None:
    """Return the record with the run-level outcome as it was at the last evaluation but one."""
    table = record.evaluations
    if table.empty or not table.groupby(["seed", "arm"]).size().gt(2).all():
        return None
    ordered = table.sort_values(["seed", "arm", "step"])
    before = ordered.groupby(["seed", "arm"])[record.outcome.curve].nth(-2)
    values = pd.Series(
        before.to_numpy(),
        pd.MultiIndex.from_frame(ordered.loc[before.index, ["seed", "arm"]]),
    )
    runs = record.replicates
    index = pd.MultiIndex.from_frame(runs[["seed", "arm"]])
    earlier = runs.assign(**{record.outcome.name: values.reindex(index).to_numpy()})
    return replace(record, replicates=earlier)


def _windows(record: Record) -> Iterator[_Setting]:
    if "epoch" not in record.steps or record.steps.empty:
        return
    epochs = record.steps["epoch"]
    first, last = int(epochs.min()), int(epochs.max())
    if last - first < 2:
        return
    for label, epoch in (("without the first epoch", first), ("without the last epoch", last)):
        kept = replace(record, steps=record.steps[epochs != epoch])
        yield _Setting("window", label, _of_steps(kept))


def _of_steps(
    replaced: Record,
) -> Callable[[Record, Declared], tuple[Record, Declared] | None]:
    return lambda record, declared: (replaced, declared) if declared.step_columns() else None


def _swapped(
    record: Record, declared: Declared, field: str, others: Mapping[str, str]
) -> tuple[Record, Declared] | None:
    other = others.get(getattr(declared, field))
    if other is None or other not in record.steps:
        return None
    return record, declared.model_copy(update={field: other})


def _swapped_gain(
    signs: set[str],
) -> Callable[[Record, Declared], tuple[Record, Declared] | None]:
    def change(record: Record, declared: Declared) -> tuple[Record, Declared] | None:
        if not isinstance(declared, StepSlope) or not _for_sign(declared, signs):
            return None
        return _swapped(record, declared, "outcome", _GAINS)

    return change


def _swapped_cosine(
    signs: set[str],
) -> Callable[[Record, Declared], tuple[Record, Declared] | None]:
    def change(record: Record, declared: Declared) -> tuple[Record, Declared] | None:
        if isinstance(declared, SeedSummary | WeakestEpoch):
            return _swapped(record, declared, "outcome", _COSINES)
        if not isinstance(declared, StepSlope) or not _for_sign(declared, signs):
            return None
        return _swapped(record, declared, "predictor", _COSINES)

    return change


def _for_sign(declared: Declared, signs: set[str]) -> bool:
    return any(name == declared.name or name.startswith(f"{declared.name}_") for name in signs)


def _anderson_rubin(record: Record, declared: Declared) -> tuple[Record, Declared] | None:
    if not isinstance(declared, LinearDose) or declared.method != "iv_linear_dose":
        return None
    doses = strengths({arm: record.options(arm) for arm in record.arms}, declared.space)
    beyond = [arm for arm, dose in doses.items() if dose > declared.largest_dose]
    fields = declared.model_dump(include=set(Instrumented.model_fields))
    other = Instrumented.model_validate({**fields, "method": "anderson_rubin"})
    return _without_arms(record, beyond), other


def _with_interval(kind: str) -> Callable[[Record, Declared], tuple[Record, Declared] | None]:
    def change(record: Record, declared: Declared) -> tuple[Record, Declared] | None:
        if not isinstance(declared, WithInterval) or declared.interval == kind:
            return None
        return record, declared.model_copy(update={"interval": kind})

    return change


def _without_seeds(record: Record) -> Iterator[_Setting]:
    seeds = np.unique(record.complete["seed"].to_numpy())
    for block in np.array_split(seeds, min(len(seeds), MOST_SEEDS)):
        label = f"without {'seed' if len(block) == 1 else 'seeds'} {', '.join(map(str, block))}"
        yield _Setting("seed", label, _without_block(block.tolist()), N_BOOT_SEEDS)


def _without_block(
    block: Sequence[object],
) -> Callable[[Record, Declared], tuple[Record, Declared] | None]:
    made: dict[int, Record] = {}

    def change(record: Record, declared: Declared) -> tuple[Record, Declared] | None:
        if id(record) not in made:
            made[id(record)] = _kept(record, lambda table: ~table["seed"].isin(block))
        return made[id(record)], declared

    return change


def _without_arm(
    record: Record, arm: str
) -> Callable[[Record, Declared], tuple[Record, Declared] | None]:
    made: list[Record] = []

    def change(record: Record, declared: Declared) -> tuple[Record, Declared] | None:
        resolved = declared.resolved(record.reference)
        about = resolved.about()
        texts = [str(value) for value in resolved.model_dump(mode="json").values()]
        if arm in (about.get("arm"), about.get("reference"), *texts):
            return None
        if not made:
            made.append(_without_arms(record, [arm]))
        return made[0], declared

    return change


def _without_arms(record: Record, arms: Sequence[str]) -> Record:
    kept = tuple(arm for arm in record.arms if arm not in arms)
    return replace(_kept(record, lambda table: ~table["arm"].isin(arms)), arms=kept)


def _kept(record: Record, rows: Callable[[pd.DataFrame], pd.Series]) -> Record:
    tables = {name: getattr(record, name) for name in ("replicates", "steps", "layers")}
    kept = {name: one[rows(one)] for name, one in tables.items() if not one.empty}
    return replace(record, **kept)
