"""Which teachers a seed has, and which of them write the texts of an arm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sublim_causal.experiment.config import TargetsConfig

Kind = Literal["reference", "trait", "rival", "no_trait", "counterfactual"]


@dataclass(frozen=True)
class Role:
    """One teacher of a seed.

    Attributes
    ----------
    kind : str
        What it prefers: the ``trait``'s animal, a ``rival``, or none (``no_trait``); a
        ``counterfactual`` teacher prefers an animal of its own, and the ``reference`` is untrained.
    number : int
        Teachers of one animal count from 0 and differ in the order of their questions;
        counterfactual ones count from 1 and differ in their animal.
    strength : float or None
        Probability of its animal at which its training ends; None: that of the task.
    """

    kind: Kind
    number: int = 0
    strength: float | None = None

    @property
    def stream(self) -> str:
        """The purpose of its random stream: the same for every strength."""
        return f"teacher {self.kind} {self.number}" if self.number else f"teacher {self.kind}"

    @property
    def name(self) -> str:
        """What it is called in tables: ``"trait"``, ``"rival 1, strength 0.5"``."""
        strength = "" if self.strength is None else f", strength {self.strength:g}"
        return f"{self.stream.removeprefix('teacher ')}{strength}"


REFERENCE, TRAIT = Role("reference"), Role("trait")


def counterfactuals(count: int) -> tuple[Role, ...]:
    """Return the teachers that say where answers diverge."""
    return tuple(Role("counterfactual", number) for number in range(1, count + 1))


def writers(targets: TargetsConfig) -> tuple[Role, ...]:
    """Return the teachers that write an arm's texts, in turn."""
    kinds: tuple[Kind, ...]
    kinds = ("trait", "rival") if targets.teacher == "two_traits" else (targets.teacher,)
    return tuple(
        Role(kind, number, targets.strength) for number in range(targets.teachers) for kind in kinds
    )
