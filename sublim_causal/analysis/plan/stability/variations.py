"""Defensible choices of an analysis: what each makes of an estimand and of the record.

Which choices are defensible is fixed here, before data are read. One is changed at a time, and an
estimate that it does not touch stays as it is; a change that affects no estimate of a claim is no
alternative of that claim.

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

import numpy as np
import pandas as pd

from sublim_causal.analysis.plan.claims.rules import Claim
from sublim_causal.analysis.plan.claims.verdicts import Choice
from sublim_causal.analysis.plan.declaration import Declared, WithInterval
from sublim_causal.analysis.plan.file import Plan
from sublim_causal.analysis.plan.methods.bounds import WeakestEpoch
from sublim_causal.analysis.plan.methods.doses import strengths
from sublim_causal.analysis.plan.methods.instruments import Instrumented, LinearDose
from sublim_causal.analysis.plan.methods.slopes import StepSlope
from sublim_causal.analysis.plan.methods.summaries import SeedSummary
from sublim_causal.analysis.plan.record import Record

MOST_SEEDS = 32
"""With more seeds, blocks of them are left out: so many refits at most."""
N_BOOT_SEEDS = 399
"""Bootstrap replicates where a seed is left out; else the plan's."""
_NUMBER = re.compile(r"[-+]?\d*\.?\d+(?:[eE][-+]?\d+)?")
COSINES = {"cos_gradient": "cos_update", "cos_update": "cos_gradient"}
GAINS = {"gain": "accuracy_gain", "accuracy_gain": "gain"}


Change = Callable[[Record, Declared], tuple[Record, Declared] | None]
"""What a choice makes of an estimand and its record; None where it does not touch it."""


@dataclass(frozen=True)
class Variation:
    """Another defensible choice."""

    choice: Choice
    label: str
    change: Change
    n_boot: int | None = None
    """Bootstrap replicates; None: the plan's."""


def variations(record: Record, plan: Plan) -> Iterator[Variation]:
    """Yield the other choices that a record allows, one at a time."""
    signs = _asked_for_sign(plan.claims)
    earlier = _one_evaluation_earlier(record)
    if earlier is not None:
        replaced = earlier
        yield Variation(
            "outcome",
            "at the last evaluation but one",
            lambda record, declared: None if declared.step_columns() else (replaced, declared),
        )
    yield Variation("outcome", "the other gain", _swapped_gain(signs))
    yield from _windows(record)
    yield Variation("cosine", "the other cosine", _swapped_cosine(signs))
    yield Variation("estimator", "Anderson-Rubin", _anderson_rubin)
    for kind in ("t", "bootstrap-t"):
        yield Variation("interval", kind, _with_interval(kind))
    yield from _without_seeds(record)
    for arm in record.complete_arms:
        if arm != record.reference:
            yield Variation("arm", f"without {arm}", _without_arm(record, arm))


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
        before.to_numpy(), pd.MultiIndex.from_frame(ordered.loc[before.index, ["seed", "arm"]])
    )
    runs = record.replicates
    index = pd.MultiIndex.from_frame(runs[["seed", "arm"]])
    earlier = runs.assign(**{record.outcome.name: values.reindex(index).to_numpy()})
    return replace(record, replicates=earlier)


def _windows(record: Record) -> Iterator[Variation]:
    if "epoch" not in record.steps or record.steps.empty:
        return
    epochs = record.steps["epoch"]
    first, last = int(epochs.min()), int(epochs.max())
    if last - first < 2:
        return
    for label, epoch in (("without the first epoch", first), ("without the last epoch", last)):
        kept = replace(record, steps=record.steps[epochs != epoch])
        yield Variation("window", label, _of_steps(kept))


def _of_steps(replaced: Record) -> Change:
    return lambda record, declared: (replaced, declared) if declared.step_columns() else None


def _swapped(
    record: Record, declared: Declared, field: str, others: Mapping[str, str]
) -> tuple[Record, Declared] | None:
    other = others.get(getattr(declared, field))
    if other is None or other not in record.steps:
        return None
    return record, declared.model_copy(update={field: other})


def _swapped_gain(signs: set[str]) -> Change:
    def change(record: Record, declared: Declared) -> tuple[Record, Declared] | None:
        if not isinstance(declared, StepSlope) or not _for_sign(declared, signs):
            return None
        return _swapped(record, declared, "outcome", GAINS)

    return change


def _swapped_cosine(signs: set[str]) -> Change:
    def change(record: Record, declared: Declared) -> tuple[Record, Declared] | None:
        if isinstance(declared, SeedSummary | WeakestEpoch):
            return _swapped(record, declared, "outcome", COSINES)
        if not isinstance(declared, StepSlope) or not _for_sign(declared, signs):
            return None
        return _swapped(record, declared, "predictor", COSINES)

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


def _with_interval(kind: str) -> Change:
    def change(record: Record, declared: Declared) -> tuple[Record, Declared] | None:
        if not isinstance(declared, WithInterval) or declared.interval == kind:
            return None
        return record, declared.model_copy(update={"interval": kind})

    return change


def _without_seeds(record: Record) -> Iterator[Variation]:
    seeds = np.unique(record.complete["seed"].to_numpy())
    for block in np.array_split(seeds, min(len(seeds), MOST_SEEDS)):
        label = f"without {'seed' if len(block) == 1 else 'seeds'} {', '.join(map(str, block))}"
        yield Variation("seed", label, _without_block(block.tolist()), N_BOOT_SEEDS)


def _without_block(block: Sequence[object]) -> Change:
    made: dict[int, Record] = {}

    def change(record: Record, declared: Declared) -> tuple[Record, Declared] | None:
        if id(record) not in made:
            made[id(record)] = _kept(record, lambda table: ~table["seed"].isin(block))
        return made[id(record)], declared

    return change


def _without_arm(record: Record, arm: str) -> Change:
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
