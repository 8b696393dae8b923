"""What the methods of a plan share: their row, and what a run that lacks an arm says."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sublim_causal.analysis.estimates.panel import Panel, paired_panel
from sublim_causal.analysis.estimates.settings import Settings
from sublim_causal.analysis.estimates.types import Estimand, NotEstimable, Result
from sublim_causal.analysis.plan.declaration import REFERENCE, Contrasted, Declared
from sublim_causal.analysis.plan.record import Record
from sublim_causal.declared import list_declared, read_toml
from sublim_causal.errors import DataError

Interventions = Mapping[str, Mapping[str, Any]]
"""Options of each arm, as the study declares them."""


@dataclass(frozen=True)
class Method:
    """A row of the registry.

    Attributes
    ----------
    declaration : type
        Fields that a plan gives for this method.
    estimate : callable
        From the record, the declaration and the plan's settings to results. Their `n_dropped` is
        counted afterwards, for all methods alike.
    """

    declaration: type[Declared]
    estimate: Callable[[Record, Any, Settings], Sequence[Result]]


@dataclass(frozen=True)
class Pair:
    """A contrast that the run has both arms of, and what is estimated of it."""

    estimand: Estimand
    arm: str
    reference: str


def contrast_pairs(
    record: Record, declared: Contrasted, outcome: str
) -> tuple[list[Result], list[Pair]]:
    """Return refusals of contrasts whose arms are absent, and the other contrasts."""
    missing: list[Result] = []
    there: list[Pair] = []
    for arm, reference in declared.pairs(record.arms):
        estimand = declared.estimand(
            outcome, f"{arm} - {reference}", declared.ending(arm), arm=arm, reference=reference
        )
        lacking = absent(record, estimand, arm, reference)
        if lacking:
            missing.append(lacking)
        else:
            there.append(Pair(estimand, arm, reference))
    return missing, there


def by_pair(
    record: Record, declared: Contrasted, outcome: str, estimate: Callable[[Pair], Sequence[Result]]
) -> list[Result]:
    """Estimate each contrast; one that cannot be estimated does not affect the others."""
    results, pairs = contrast_pairs(record, declared, outcome)
    for pair in pairs:
        try:
            results += estimate(pair)
        except DataError as error:
            results.append(NotEstimable(pair.estimand, str(error)))
    return results


def absent(record: Record, estimand: Estimand, *arms: str) -> NotEstimable | None:
    """Why the run cannot say anything about `arms`; None where it can."""
    missing = next((arm for arm in arms if arm not in record.arms), None)
    if missing is None:
        return None
    if missing == REFERENCE:
        if record.own:
            reason = "the run has no reference arm: none is called baseline, and it names none"
            return NotEstimable(estimand, reason)
        reason = "the study has no reference arm: no arm's intervention is baseline, and it names"
        return NotEstimable(estimand, f'{reason} none by reference = "ARM"')
    where = "" if record.own else studies_with(lambda declared: missing in declared)
    reason = f"the run has no arm {missing!r}; it has {quoted(record.arms)}{where}"
    return NotEstimable(estimand, reason)


ACQUIRED = "acquired"
"""Column of the outcome after training minus that before."""


def acquired(record: Record, *arms: str) -> Panel:
    """Return the outcome by seed and arm: after training, before it, and `ACQUIRED`."""
    name, start = record.outcome.name, record.outcome.start
    panel = paired_panel(record.replicates, [name, start], arms)
    gained = panel.columns[name] - panel.columns[start]
    return replace(panel, columns={**panel.columns, ACQUIRED: gained})


def quoted(arms: Iterable[str]) -> str:
    """Return names of arms as a message lists them, each in quotes."""
    return ", ".join(map(repr, arms))


def studies_with(has: Callable[[Interventions], bool]) -> str:
    """Name the built-in studies whose arms `has` accepts.

    Returns
    -------
    str
        ``"; built-in studies that have it: dose"``, or an empty string.
    """
    found = [
        name
        for name, path in list_declared("studies").items()
        if has(read_toml(path, "studies").get("arms", {}))
    ]
    return f"; built-in studies that have it: {', '.join(found)}" if found else ""


def as_declared(declared: Declared, found: Result, ending: str = "", **own_fields: str) -> Result:
    """Return `found` under the name that the plan gave it.

    The part of a quantity (with an ending) keeps the estimator's sentence, the whole gets the
    plan's; the assumptions are those of both. `own_fields` are as in `Declared.estimand`.
    """
    own = found.estimand
    estimand = replace(
        declared.estimand(own.outcome, own.contrast, ending, **own_fields),
        sentence=own.sentence if ending else declared.sentence,
        assumptions=tuple(dict.fromkeys((*declared.assumptions, *own.assumptions))),
    )
    return replace(found, estimand=estimand)


def with_diagnostics(found: Result, **more: object) -> Result:
    """Return `found` with more diagnostics, if it is an estimate."""
    if isinstance(found, NotEstimable):
        return found
    return replace(found, diagnostics={**found.diagnostics, **more})


def with_note(found: Result, note: str) -> Result:
    """Return `found` with one more caveat, if it is an estimate."""
    if isinstance(found, NotEstimable):
        return found
    return replace(found, warnings=(*found.warnings, note))
