"""Analysis plans: TOML files that declare what is estimated, before the data are read."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SerializeAsAny

from sublim_causal.analysis.arms.stopping import (
    Goal,
    Stopping,
    StoppingRule,
    resolve_rule,
    validate_stopping,
)
from sublim_causal.analysis.estimates.settings import N_BOOT
from sublim_causal.analysis.plan.claims.rules import Claim, validate_claims
from sublim_causal.analysis.plan.declaration import REFERENCE, Declared, Frozen, Name
from sublim_causal.analysis.plan.methods.arms import PairedContrast
from sublim_causal.analysis.plan.registry import METHODS
from sublim_causal.declared import find_declared, naming_file, read_toml, validate_declared
from sublim_causal.errors import RequestError, nearest
from sublim_causal.renames import RENAMED_METHODS
from sublim_causal.store.outcome import ACCURACY, Outcome

Adjustment = Literal["sign_flip", "holm", "gate"]


class Plan(Frozen):
    """A validated analysis plan."""

    name: Name
    """Name of the plan."""
    sentence: str = ""
    """What the plan is about."""
    level: float = Field(default=0.95, gt=0, lt=1)
    """Confidence level of every interval."""
    n_boot: int = Field(default=N_BOOT, ge=99, le=1_000_000)
    """Bootstrap replicates."""
    families: Mapping[str, Adjustment] = Field(default_factory=dict)
    """How each family's p-values are adjusted: `sign_flip` or `holm` for members of equal rank,
    `gate` for a fixed sequence, in which each is tested only if those before it are rejected."""
    estimands: tuple[SerializeAsAny[Declared], ...] = Field(min_length=1, max_length=1000)
    """The estimands, in the order of the report."""
    claims: tuple[Claim, ...] = ()
    """The claims to judge."""
    stopping: Stopping | None = None
    """When ``run STUDY --plan PLAN`` stops adding seeds; default: no rule."""

    @property
    def digest(self) -> str:
        """Hash of everything the plan declares: 16 hexadecimal digits."""
        without = {"stopping"} if self.stopping is None else set()
        text = json.dumps(self.model_dump(mode="json", exclude=without), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def load_plan(name: str | Path = "primary") -> Plan:
    """Read and validate an analysis plan.

    Parameters
    ----------
    name : str or Path
        A path, or the name of a built-in plan.

    Raises
    ------
    RequestError
        For the first field that is wrong: its path, value, what is allowed, the nearest match.
    """
    path = find_declared("analysis", name)
    table = {"name": path.stem.replace("-", "_"), **read_toml(path, "analysis")}
    with naming_file(path):
        return parse_plan(table)


def parse_plan(table: Mapping[str, Any]) -> Plan:
    """Validate a plan given as nested dictionaries; see `load_plan`.

    In the file an estimand is a table ``[[estimand]]`` and a claim a table ``[[claim]]``.

    Raises
    ------
    RequestError
        If a field is wrong.
    """
    rest = dict(table)
    estimands = tuple(_declared(entry, where) for where, entry in _tables(rest, "estimand"))
    claims = tuple(
        validate_declared(Claim, entry, where) for where, entry in _tables(rest, "claim")
    )
    plan = validate_declared(Plan, {**rest, "estimands": estimands, "claims": claims}, "")
    _check_names(plan)
    _check_families(plan)
    _check_roles(plan)
    validate_claims(plan.claims, plan.estimands)
    _check_stopping(plan)
    return plan


def stopping_rule(
    plan: Plan, arms: Sequence[str], reference: str | None, outcome: Outcome = ACCURACY
) -> StoppingRule:
    """Return the rule of a plan that has one, for a study of `arms`, with the plan's digest.

    `outcome` stands for final test accuracy, as in the plan's estimands.

    Raises
    ------
    RequestError
        If it names no two arms of the study.
    """
    assert plan.stopping is not None
    column = plan.stopping.outcome
    column = outcome.name if column == ACCURACY.name else column
    stopping = plan.stopping.model_copy(update={"level": plan.level, "outcome": column})
    return replace(resolve_rule(stopping, arms, reference), plan=plan.digest)


def _tables(rest: dict[str, Any], key: str) -> Iterator[tuple[str, Any]]:
    """Take the tables ``[[key]]`` out of `rest`, each with its path."""
    entries = rest.pop(key, [])
    if not isinstance(entries, list):
        raise RequestError(key, entries, f"tables, each headed [[{key}]]")
    for i, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise RequestError(f"{key}[{i}]", entry, f"a table, headed [[{key}]]")
        yield f"{key}[{i}]", entry


def _declared(entry: Mapping[str, Any], where: str) -> Declared:
    """Validate one estimand with the fields of its own method."""
    method = str(entry.get("method", ""))
    if new := RENAMED_METHODS.get(method):
        remedy = f"{method!r} is called {new!r} since version 0.2"
        raise RequestError(f"{where}.method", method, new, remedy)
    if method not in METHODS:
        raise RequestError(f"{where}.method", method, ", ".join(METHODS), nearest(method, METHODS))
    return validate_declared(METHODS[method].declaration, entry, where)


def _check_names(plan: Plan) -> None:
    for name, count in Counter(one.name for one in plan.estimands).items():
        if count > 1:
            raise RequestError("estimand.name", name, f"a name used once; it is used {count} times")


def _check_stopping(plan: Plan) -> None:
    """Check that the rule is about a contrast that the plan estimates, at the plan's level."""
    stopping = plan.stopping
    if stopping is None:
        return
    goal = validate_stopping(stopping)
    if "level" in stopping.model_fields_set and stopping.level != plan.level:
        raise RequestError("stopping.level", stopping.level, f"{plan.level:g}, the plan's level")
    candidates = [
        one
        for one in plan.estimands
        if isinstance(one, PairedContrast)
        and one.outcome == stopping.outcome
        and _is_about(one, goal)
        and (goal.kind != "equivalent" or getattr(one, "margin", None) == goal.bound)
    ]
    if not candidates:
        what = (
            f"an equivalence test of the plan with margin {goal.bound:g}"
            if goal.kind == "equivalent"
            else "a paired_contrast or equivalence of the plan"
        )
        raise RequestError(
            "stopping.until",
            stopping.until,
            f"a goal about {what}, of {stopping.outcome}",
            "declare that estimand, or stop by one that is declared",
        )


def _is_about(one: PairedContrast, goal: Goal) -> bool:
    arm, _, reference = goal.contrast.rpartition(" - ")
    if not goal.contrast:
        return True
    same_reference = one.reference == reference or REFERENCE in (one.reference, reference)
    return same_reference and (one.each or one.contrast.startswith(f"{arm} - "))


def _check_families(plan: Plan) -> None:
    for i, one in enumerate(plan.estimands):
        if one.family and one.family not in plan.families:
            known = ", ".join(plan.families) or "(none is declared)"
            raise RequestError(
                f"estimand[{i}].family",
                one.family,
                f"a key of [families]: {known}",
                nearest(one.family, plan.families),
            )
        how = plan.families.get(one.family, "")
        if how == "sign_flip" and one.method != "paired_contrast":
            raise RequestError(
                f"families.{one.family}",
                "sign_flip",
                "holm",
                f"sign flips need paired contrasts, and {one.name!r} is a {one.method}",
            )
        if how == "gate" and one.endings() != ("",):
            raise RequestError(
                f"estimand[{i}].family",
                one.family,
                "a family that is not a gate",
                f"a gate is a sequence of single results, and {one.name!r} has several",
            )


def _check_roles(plan: Plan) -> None:
    for i, one in enumerate(plan.estimands):
        if one.role == "exploratory" and one.family:
            raise RequestError(
                f"estimand[{i}].family",
                one.family,
                "no family where role is 'exploratory'",
                "an exploratory estimand has no p-value to adjust",
            )
    primary = [one for one in plan.estimands if one.role == "primary"]
    families = {one.family for one in primary}
    if len(primary) > 1 and (len(families) > 1 or "" in families):
        raise RequestError(
            "estimand.family",
            ", ".join(f"{one.name}: {one.family or '(none)'}" for one in primary),
            "one family for all primary estimands",
            "declare a gate or a family under [families], and name it in each of them",
        )
