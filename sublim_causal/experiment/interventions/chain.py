"""Interventions one after another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from sublim_causal.experiment.interventions.base import (
    BlockContext,
    Intervention,
    Options,
    StepContext,
)

if TYPE_CHECKING:
    from torch import Tensor


class Chain(Options):
    """Apply `members` in order, each to what the one before returned; all in one space."""

    members: tuple[Any, ...] = Field(min_length=1)
    """Tables with `intervention` and its options."""

    @model_validator(mode="after")
    def _build(self) -> Chain:
        from sublim_causal.experiment.interventions import build_intervention

        members = tuple(
            build_intervention(f"members.{i}", m) if isinstance(m, dict) else m
            for i, m in enumerate(self.members)
        )
        if len({m.space for m in members}) > 1:
            raise ValueError("all members of a chain must act in the same space")
        object.__setattr__(self, "members", members)
        return self

    @property
    def space(self) -> Literal["gradient", "update"]:
        """The members' space."""
        return self.members[0].space

    @property
    def uses_trait(self) -> bool:
        """Whether any member does."""
        return any(member.uses_trait for member in self.members)

    def init(self, context: BlockContext) -> tuple[Any, ...]:
        """Return the members' states."""
        return tuple(member.init(context) for member in self.members)

    def apply(
        self, vector: Tensor, g_trait: Tensor | None, state: tuple[Any, ...], context: StepContext
    ) -> tuple[Tensor, tuple[Any, ...]]:
        """Return the vector after the last member, and all states."""
        states = []
        member: Intervention
        for member, before in zip(self.members, state, strict=True):
            vector, after = member.apply(vector, g_trait, before, context)
            states.append(after)
        return vector, tuple(states)
