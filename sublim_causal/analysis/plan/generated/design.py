"""Which arms of a run a report asks about: reference, projections, yoked pairs, doses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, get_args

from sublim_causal.analysis.plan.declaration import Contrasted, Declared
from sublim_causal.analysis.plan.file import Plan
from sublim_causal.analysis.plan.methods.doses import Space, projection_options, strengths
from sublim_causal.analysis.plan.record import Record


@dataclass(frozen=True)
class Yoking:
    """An arm, the yoked run of its procedure, and that of the reference's at its alignment."""

    arm: str
    yoked: str
    reverse: str | None


@dataclass(frozen=True)
class DoseArms:
    """Strength of each arm that was dosed, the undosed arm with 0."""

    undosed: str
    strengths: Mapping[str, float]


@dataclass(frozen=True)
class Design:
    """The arms of a run, as a plan compares them.

    Attributes
    ----------
    record : Record
        The run.
    plan : Plan
        What is asked of it.
    """

    record: Record
    plan: Plan

    @cached_property
    def estimands(self) -> tuple[Declared, ...]:
        """What the plan declares, with the arm of this study where it says `REFERENCE`."""
        return tuple(one.resolved(self.record.reference) for one in self.plan.estimands)

    @cached_property
    def arms(self) -> tuple[str, ...]:
        """Arms that have a complete replicate, in the study's order."""
        return self.record.complete_arms

    @cached_property
    def reference(self) -> str:
        """Arm that the others are compared with.

        The first that a contrast of the plan subtracts and the run has; else the study's, or its
        first arm.
        """
        arms = self.record.arms
        subtracted = [one.reference for one in self.estimands if isinstance(one, Contrasted)]
        return next(arm for arm in (*subtracted, self.record.reference, *arms) if arm in arms)

    def interventions(self, kind: str) -> tuple[str, ...]:
        """Return the arms whose intervention is `kind`."""
        return tuple(a for a in self.arms if self.record.options(a)["intervention"] == kind)

    def main_projections(self) -> tuple[str, ...]:
        """Return, for each space of projection, the arm that is nearest the paper's.

        That is a projection in all layers, of positive alignment, with a strength near 1; the
        reference, and arms whose student, channel, targets or inputs are not its, are left out.
        """
        found: dict[str, str] = {}
        for arm in filter(self.is_comparable, self.interventions("projection")):
            if arm == self.reference:
                continue
            space = self.space(arm)
            if space not in found or self._off(arm) < self._off(found[space]):
                found[space] = arm
        return tuple(found.values())

    def exact_nulls(self) -> tuple[str, ...]:
        """Return the arms whose every update is held orthogonal to the taught trait's gradient."""
        return tuple(
            arm
            for arm in filter(self.is_comparable, self.interventions("set_cosine"))
            if _is_exact_null(self.record.options(arm))
        )

    def space(self, arm: str) -> str:
        """Return the space in which a projection `arm` removes alignment."""
        return str(projection_options(self.record.options(arm))["space"])

    def is_comparable(self, arm: str) -> bool:
        """Return whether `arm` differs from the reference in its intervention alone."""
        return self.record.is_comparable(arm, self.reference)

    def _off(self, arm: str) -> tuple[bool, bool, float]:
        """Sort key: how far `arm` is from the paper's projection."""
        options = projection_options(self.record.options(arm))
        off = abs(float(options["strength"]) - 1)
        return bool(options["layers"]), options["when"] != "positive", off

    def yokings(self) -> tuple[Yoking, ...]:
        """Return the arms whose procedure ran at the reference's alignment."""
        reference, yokes = self.reference, self.interventions("yoked")
        if reference not in self.arms:
            return ()
        return tuple(
            Yoking(arm, yoked, self._yoke(reference, arm))
            for arm in self.arms
            if arm not in (reference, *yokes) and (yoked := self._yoke(arm, reference)) is not None
        )

    def _yoke(self, arm: str, target: str) -> str | None:
        """Return the arm that ran all options of `arm` at the alignment of `target`."""
        record = self.record
        for yoke in self.interventions("yoked"):
            *procedure, clamp = record.stages(yoke) or [{}]
            kind = record.options(yoke).get("procedure", {"intervention": "projection"})
            if (
                clamp.get("target") == target
                and clamp.get("match", "cosine") == "cosine"
                and kind["intervention"] == record.options(arm)["intervention"]
                and procedure == record.stages(arm)
                and record.is_comparable(yoke, arm)
            ):
                return yoke
        return None

    def doses(self) -> dict[Space, DoseArms]:
        """Return the doses of each space in which projection has two strengths besides 0.

        The undosed arm is a projection of strength 0 where there is one, else the reference.
        """
        options = {arm: self.record.options(arm) for arm in filter(self.is_comparable, self.arms)}
        found: dict[Space, DoseArms] = {}
        for space in get_args(Space):
            dosed = strengths(options, space)
            undosed = next((arm for arm, one in dosed.items() if one == 0), self.reference)
            if undosed in options and len({0.0, *dosed.values()}) >= 3:
                found[space] = DoseArms(undosed, {undosed: 0.0} | dosed)
        return found


def _is_exact_null(options: Mapping[str, Any]) -> bool:
    return (
        options.get("cosine") == 0
        and options.get("space", "update") == "update"
        and options.get("trait", "taught") == "taught"
    )
