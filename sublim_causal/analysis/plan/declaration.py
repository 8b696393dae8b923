"""What every declared estimand has, whichever method estimates it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, ClassVar, Literal, Self, get_args

import pandas as pd
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from sublim_causal.analysis.estimates.settings import IntervalRule
from sublim_causal.analysis.estimates.types import Estimand, difference_unit
from sublim_causal.errors import nearest
from sublim_causal.store.own_columns import known_columns

EACH = "each"
"""Every arm of the run (in a contrast: except the reference)."""

Role = Literal["primary", "secondary", "exploratory"]
ROLES: tuple[Role, ...] = get_args(Role)
REFERENCE = "reference"
"""The arm that the study compares the others with."""

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=80)]


def _column_of(table: str) -> AfterValidator:
    def check(value: str) -> str:
        known = [c.name for c in known_columns(table) if c.unit and c.name != "seed"]
        if value not in known:
            hint = nearest(value, known)
            raise ValueError(f"a column of {table!r}: {', '.join(known)}{'; ' * bool(hint)}{hint}")
        return value

    return AfterValidator(check)


StepColumn = Annotated[str, _column_of("steps")]
ReplicateColumn = Annotated[str, _column_of("replicates")]


_EACH_AGAINST = f"{EACH} - "


def _sides(value: str) -> list[str]:
    """Arm and reference of a contrast; after `EACH` the reference may be called anything."""
    if value.startswith(_EACH_AGAINST):
        return [EACH, value.removeprefix(_EACH_AGAINST)]
    return value.split(" - ")


def _check_contrast(value: str) -> str:
    parts = _sides(value)
    if len(parts) != 2 or not all(part.strip() == part and part for part in parts):
        raise ValueError(f"'ARM - REFERENCE', where ARM may be '{EACH}'")
    if parts[1] == EACH or parts[0] == parts[1]:
        raise ValueError("two different arms, the reference by its name")
    return value


ContrastText = Annotated[str, AfterValidator(_check_contrast)]


class Frozen(BaseModel):
    """Base of what a plan file holds: unknown fields are refused, and nothing changes later."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, str_strip_whitespace=True, use_attribute_docstrings=True
    )


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
    role: Role = "secondary"
    """`primary`: one of the few that decide, all in one family; `secondary`: printed beside them;
    `exploratory`: an interval without a p-value, printed with ``--all``."""

    arm_fields: ClassVar[tuple[str, ...]] = ()
    """Fields that name an arm, which may be `REFERENCE`."""
    unit: ClassVar[str] = ""
    """Unit of its results; empty where `about` tells it by the columns."""

    def resolved(self, reference: str) -> Self:
        """Return the declaration with the arm `reference`, if there is one, for `REFERENCE`."""
        named = [name for name in self.arm_fields if getattr(self, name) == REFERENCE]
        return self.model_copy(update=dict.fromkeys(named, reference or REFERENCE))

    def step_columns(self) -> tuple[str, ...]:
        """Columns of ``steps`` that the estimate needs."""
        return ()

    def needs_layers(self) -> bool:
        """Whether the estimate needs the table ``layers``."""
        return False

    def count_seeds(self, replicates: pd.DataFrame) -> int:
        """Count the seeds that could enter: those with at least one replicate."""
        return int(replicates["seed"].nunique())

    def endings(self) -> tuple[str, ...] | None:
        """Endings of its results' names; None where there is one for each arm of the run."""
        return ("",)

    def about(self) -> dict[str, str]:
        """Fields of `Estimand` that its results share: column, unit, part."""
        return {"unit": self.unit}

    def estimand(self, outcome: str, contrast: str = "", ending: str = "", **own: str) -> Estimand:
        """Return the estimand of one result.

        Parameters
        ----------
        outcome, contrast : str
            For the reader.
        ending : str
            Ending of the result's name.
        **own
            Further fields of `Estimand`: arm, reference, part, and what is not as in `about`.
        """
        return Estimand(
            name=f"{self.name}_{ending}" if ending else self.name,
            sentence=self.sentence,
            outcome=outcome,
            contrast=contrast,
            assumptions=self.assumptions,
            family=self.family,
            role=self.role,
            declared=self.name,
            **{**self.about(), **own},
        )


class WithInterval(Declared):
    """A quantity whose interval the plan can choose; the others have one kind of interval."""

    interval: IntervalRule = "auto"
    """`auto` follows the skewness rule; see `Settings`."""


class Contrasted(Declared):
    """A quantity of a contrast between two arms, or of every arm against a reference."""

    contrast: ContrastText
    """``"projection - baseline"``, ``"each - baseline"``, or ``"each - reference"``."""
    parts: ClassVar[tuple[str, ...]] = ("",)
    """Endings of the results of one contrast."""

    def resolved(self, reference: str) -> Self:
        """Return the contrast with the arm `reference`, if there is one, for `REFERENCE`."""
        known = reference or REFERENCE
        sides = [known if side == REFERENCE else side for side in _sides(self.contrast)]
        return self.model_copy(update={"contrast": " - ".join(sides)})

    @property
    def each(self) -> bool:
        """Whether every arm is contrasted."""
        return _sides(self.contrast)[0] == EACH

    @property
    def reference(self) -> str:
        """The arm that is subtracted."""
        return _sides(self.contrast)[1]

    def about(self) -> dict[str, str]:
        """Both arms, or the reference where each arm is asked for."""
        arm, reference = _sides(self.contrast)
        return {**super().about(), "arm": "" if self.each else arm, "reference": reference}

    def endings(self) -> tuple[str, ...] | None:
        """The parts; followed by the arm where each is asked for."""
        return None if self.each else self.parts

    def ending(self, arm: str, part: str = "") -> str:
        """Return the ending of the result of `arm`."""
        return "_".join(filter(None, (part, arm))) if self.each else part

    def pairs(self, arms: Sequence[str]) -> Iterator[tuple[str, str]]:
        """Yield ``(arm, reference)``, ``each`` spelt out over `arms`."""
        arm, reference = _sides(self.contrast)
        for one in arms if self.each else (arm,):
            if one != reference:
                yield one, reference


class OfArm(Declared):
    """A quantity of one arm, or of each."""

    arm: str = EACH
    """The arm, or each."""
    arm_fields: ClassVar[tuple[str, ...]] = ("arm",)

    @property
    def each(self) -> bool:
        """Whether every arm is asked for."""
        return self.arm == EACH

    def about(self) -> dict[str, str]:
        """The arm, unless each is asked for."""
        return {**super().about(), "arm": "" if self.each else self.arm}

    def endings(self) -> tuple[str, ...] | None:
        """An ending by arm, where each is asked for."""
        return None if self.each else ("",)

    def chosen(self, arms: Sequence[str]) -> Sequence[str]:
        """Return the arms asked for, out of `arms`."""
        return arms if self.each else (self.arm,)


def column_unit(table: str, column: str) -> str:
    """Return the unit of a column: ``"fraction"``."""
    return next(c.unit for c in known_columns(table) if c.name == column)


def with_unit(table: str, column: str) -> str:
    """Return ``"final_accuracy (fraction)"``."""
    return f"{column} ({column_unit(table, column)})"


def slope_of(outcome: str, predictor: str) -> dict[str, str]:
    """Return column and unit of a slope of two columns of ``steps``."""
    unit = f"{column_unit('steps', outcome)} per unit of {predictor}"
    return {"column": outcome, "unit": unit}


def difference_of(column: str) -> dict[str, str]:
    """Return column and unit of a difference of a ``replicates`` column."""
    return {"column": column, "unit": difference_unit(column_unit("replicates", column))}
