"""Several interventions in one arm, one after another."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from sublim_causal.experiment.imports import Options


class Chain(Options):
    """The `members` in order; those of gradient space act before the optimizer."""

    members: tuple[dict[str, Any], ...] = Field(min_length=1)
    """Tables with `intervention` and its options."""

    def expand(self) -> tuple[dict[str, Any], ...]:
        """Return the members' tables."""
        return self.members
