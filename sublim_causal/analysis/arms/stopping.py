"""Stopping rules: when to stop adding seeds, and at which numbers of seeds to decide.

A rule is fixed before the first look: looks chosen by what was seen make every interval too narrow.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from sublim_causal.analysis.estimates.types import MIN_SEEDS
from sublim_causal.errors import RequestError, nearest
from sublim_causal.store.schema import TABLES

Boundary = Literal["obrien-fleming", "anytime"]
GoalKind = Literal["width", "excludes", "equivalent"]
LOOKS = (8, 12, 16, 20, 30)
"""Numbers of seeds at which a rule is judged by default."""
OUTCOMES = tuple(c.name for c in TABLES["replicates"] if c.unit and c.name != "seed")
"""Columns of ``replicates`` that a rule can be about."""
_NUMBER = r"(?P<bound>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)"
_GOALS: Mapping[GoalKind, re.Pattern[str]] = {
    "width": re.compile(rf"width(?:\((?P<contrast>.+)\))?\s*<\s*{_NUMBER}"),
    "excludes": re.compile(rf"(?:(?P<contrast>.+?)\s+)?excludes\s+{_NUMBER}"),
    "equivalent": re.compile(rf"(?:(?P<contrast>.+?)\s+)?equivalent\s+{_NUMBER}"),
}
_WRITTEN: Mapping[GoalKind, str] = {
    "width": "width({contrast}) < {bound:g}",
    "excludes": "{contrast} excludes {bound:g}",
    "equivalent": "{contrast} equivalent {bound:g}",
}
ALLOWED = (
    "'width(ARM - REFERENCE) < WIDTH', 'ARM - REFERENCE excludes VALUE' or "
    "'ARM - REFERENCE equivalent MARGIN'; width and margin positive"
)


class Stopping(BaseModel):
    """When to stop adding seeds, and at which numbers of seeds to decide."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False
    )

    until: str
    """`width(projection - baseline) < 0.04`, `projection - baseline excludes 0`, or
    `projection - baseline equivalent 0.05`. Without a contrast the arm is `projection`, or the
    only other one."""
    at: tuple[int, ...] = Field(default=LOOKS, min_length=1)
    """Numbers of seeds at which the rule is judged, rising from at least 3."""
    max_seeds: int | None = Field(default=None, ge=MIN_SEEDS)
    """Number of seeds of the last look; default: the last one of `at`."""
    boundary: Boundary = "obrien-fleming"
    """`obrien-fleming` for these looks only; `anytime` for an interval that is valid after any
    number of seeds, and wider at the last look."""
    level: float = Field(default=0.95, gt=0.5, lt=1)
    """Confidence level over all looks together; equivalence is tested at 1 - level, one-sided."""
    outcome: str = "final_accuracy"
    """Column of ``replicates`` that is compared; a study of another task takes that of its task."""

    @property
    def looks(self) -> tuple[int, ...]:
        """Numbers of seeds of all looks, that with `max_seeds` among them."""
        return self.at if self.max_seeds in (None, self.at[-1]) else (*self.at, self.max_seeds)


@dataclass(frozen=True)
class Goal:
    """The goal at which no more seeds are added.

    Attributes
    ----------
    kind : {"width", "excludes", "equivalent"}
        The interval is narrower than `bound`, does not hold it, or lies within -bound and bound.
    bound : float
        In the unit of the outcome.
    contrast : str
        ``"projection - baseline"``; empty: not given.
    """

    kind: GoalKind
    bound: float
    contrast: str = ""


@dataclass(frozen=True)
class StoppingRule:
    """A rule whose contrast and looks are resolved, as the manifest records it.

    Attributes
    ----------
    kind, bound
        As in `Goal`.
    arm, reference : str
        The arms that are compared, seed by seed.
    outcome : str
        Column of ``replicates``.
    looks : tuple of int
        Numbers of seeds at which the rule is judged, rising; at the last it stops in any case.
    boundary : {"obrien-fleming", "anytime"}
        What keeps the level over all looks.
    level : float
        Confidence level over all looks together.
    plan : str
        Digest of the analysis plan that declares it; empty: a study or the command line.
    """

    kind: GoalKind
    bound: float
    arm: str
    reference: str
    outcome: str
    looks: tuple[int, ...]
    boundary: Boundary
    level: float
    plan: str = ""

    @property
    def contrast(self) -> str:
        """``"projection - baseline"``."""
        return f"{self.arm} - {self.reference}"

    @property
    def until(self) -> str:
        """The goal, as it is written in a study file."""
        return _WRITTEN[self.kind].format(contrast=self.contrast, bound=self.bound)

    @property
    def digest(self) -> str:
        """Hash of the whole rule: 16 hexadecimal digits."""
        text = json.dumps(self._fields(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def _fields(self) -> dict[str, Any]:
        fields = asdict(self)
        return fields if self.plan else {k: v for k, v in fields.items() if k != "plan"}

    def record(self) -> dict[str, Any]:
        """Return what a manifest holds before the first look."""
        return {
            "rule": {**self._fields(), "looks": [*self.looks]},
            "digest": self.digest,
            "looks": [],
        }


def recorded_rule(record: Mapping[str, Any]) -> StoppingRule:
    """Return the rule of what `StoppingRule.record` gave."""
    rule = record["rule"]
    return StoppingRule(**{**rule, "looks": tuple(rule["looks"])})


def parse_goal(text: str, field: str = "until") -> Goal:
    """Read ``"width(projection - baseline) < 0.04"``.

    Raises
    ------
    RequestError
        If it is none of the three kinds, or a width or margin is not positive.
    """
    for kind, pattern in _GOALS.items():
        found = pattern.fullmatch(text.strip())
        if found and (kind == "excludes" or float(found["bound"]) > 0):
            return Goal(kind, float(found["bound"]), (found["contrast"] or "").strip())
    raise RequestError(field, text, ALLOWED)


def validate_stopping(stopping: Stopping) -> Goal:
    """Check what can be checked without a study, and return the goal.

    Raises
    ------
    RequestError
        If the goal cannot be read, the outcome is unknown, or the looks do not rise.
    """
    goal = parse_goal(stopping.until, "stopping.until")
    if stopping.outcome not in OUTCOMES:
        known = nearest(stopping.outcome, OUTCOMES)
        raise RequestError("stopping.outcome", stopping.outcome, ", ".join(OUTCOMES), known)
    validate_looks(stopping.at, "stopping.at")
    last = stopping.max_seeds
    if last is not None and last < stopping.at[-1]:
        raise RequestError("stopping.max_seeds", last, f"at least {stopping.at[-1]}, the last look")
    return goal


def resolve_rule(stopping: Stopping, arms: Sequence[str], reference: str | None) -> StoppingRule:
    """Return `stopping` with its contrast and its looks filled in.

    Parameters
    ----------
    stopping : Stopping
        As a study file or the command line gives it.
    arms : sequence of str
        Arms of the study.
    reference : str or None
        The arm with which the study compares the others.

    Raises
    ------
    RequestError
        If the rule cannot be read, does not name two arms of the study, or its looks do not rise.
    """
    goal = validate_stopping(stopping)
    arm, reference = _arms(goal, arms, reference, stopping.until)
    return StoppingRule(
        kind=goal.kind,
        bound=goal.bound,
        arm=arm,
        reference=reference,
        outcome=stopping.outcome,
        looks=stopping.looks,
        boundary=stopping.boundary,
        level=stopping.level,
    )


def _arms(goal: Goal, arms: Sequence[str], reference: str | None, text: str) -> tuple[str, str]:
    """Return arm and reference of `goal`; where it names none, the default contrast."""
    field = "stopping.until"
    if not goal.contrast:
        others = [arm for arm in arms if arm != reference]
        arm = "projection" if "projection" in others else others[0] if len(others) == 1 else None
        if reference is None or arm is None:
            remedy = f"name two of the study's arms: {', '.join(arms)}"
            raise RequestError(field, text, ALLOWED, remedy)
        return arm, reference
    pair = goal.contrast.split(" - ")
    if reference is not None and pair[-1] == "reference":
        pair[-1] = reference
    if len(pair) != 2 or pair[0] == pair[1]:
        raise RequestError(field, text, ALLOWED)
    for one in pair:
        if one not in arms:
            raise RequestError(
                field, text, f"arms of the study: {', '.join(arms)}", nearest(one, arms)
            )
    return pair[0], pair[1]


def validate_looks(looks: Sequence[int], field: str = "looks") -> None:
    """Check that `looks` are numbers of seeds that rise from at least 3.

    Raises
    ------
    RequestError
        If they are not.
    """
    rising = all(one < other for one, other in pairwise(looks))
    if not looks or looks[0] < MIN_SEEDS or not rising:
        allowed = f"numbers of seeds that rise from at least {MIN_SEEDS}"
        raise RequestError(field, ", ".join(map(str, looks)), allowed)
