"""What every declared estimand has, whichever method estimates it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from sublim_causal.analysis.bootstrap import N_BOOT
from sublim_causal.analysis.estimates import Estimand
from sublim_causal.analysis.intervals import IntervalRule
from sublim_causal.errors import nearest
from sublim_causal.store.schema import TABLES

EACH = "each"
"""Stands for every arm of the run (in a contrast: except the reference)."""

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=80)]


def _column_of(table: str) -> AfterValidator:
    known = [c.name for c in TABLES[table] if c.unit and c.name != "seed"]

    def check(value: str) -> str:
        if value not in known:
            hint = nearest(value, known)
            raise ValueError(f"a column of {table!r}: {', '.join(known)}{'; ' * bool(hint)}{hint}")
        return value

    return AfterValidator(check)


StepColumn = Annotated[str, _column_of("steps")]
ReplicateColumn = Annotated[str, _column_of("replicates")]


def _check_contrast(value: str) -> str:
    parts = value.split(" - ")
    if len(parts) != 2 or not all(part.strip() == part and part for part in parts):
        raise ValueError(f"'ARM - REFERENCE', where ARM may be '{EACH}'")
    if parts[1] == EACH or parts[0] == parts[1]:
        raise ValueError("two different arms, the reference by its name")
    return value


ContrastText = Annotated[str, AfterValidator(_check_contrast)]


class Frozen(BaseModel):
    """Base of what a plan file holds: unknown fields are refused, and nothing changes later."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)


class Declared(Frozen):
    """A declared estimand; each method adds its own fields."""

    name: Name
    """Identifier, unique in the plan; results for single arms get the arm as an ending."""
    sentence: str = Field(min_length=10)
    """The quantity in one sentence."""
    method: str
    """Name of a row of `methods.METHODS`."""
    assumptions: tuple[str, ...] = ()
    """What must hold for the number to mean what the sentence says."""
    family: str = ""
    """Family of the multiplicity adjustment; empty: none."""
    interval: IntervalRule = "auto"
    """`auto` follows the skewness rule."""

    def step_columns(self) -> tuple[str, ...]:
        """Columns of ``steps`` that the estimate needs."""
        return ()

    def needs_layers(self) -> bool:
        """Whether the estimate needs the table ``layers``."""
        return False

    def endings(self) -> tuple[str, ...] | None:
        """Endings of its results' names; None where they follow the run's arms."""
        return ("",)

    def estimand(self, outcome: str, contrast: str = "", ending: str = "") -> Estimand:
        """Return the estimand of one result."""
        return Estimand(
            name=f"{self.name}_{ending}" if ending else self.name,
            sentence=self.sentence,
            outcome=outcome,
            contrast=contrast,
            assumptions=self.assumptions,
            family=self.family,
        )


@dataclass(frozen=True)
class Settings:
    """What a plan sets for all its estimands.

    Attributes
    ----------
    level : float
        Confidence level.
    n_boot : int
        Bootstrap replicates.
    rng : Generator
        The estimand's own stream, derived from the plan's digest and the estimand's name.
    """

    level: float
    rng: np.random.Generator
    n_boot: int = N_BOOT


def with_unit(table: str, column: str) -> str:
    """Return ``"final_accuracy (fraction)"``."""
    unit = next(c.unit for c in TABLES[table] if c.name == column)
    return f"{column} ({unit})"


def arm_pairs(contrast: str, arms: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield ``(arm, reference)`` for a contrast, ``each`` spelt out over `arms`."""
    arm, reference = contrast.split(" - ")
    for one in arms if arm == EACH else (arm,):
        if one != reference:
            yield one, reference
