"""Run an arm at the alignment that the same seed has under another arm.

The cross-world outcome Y(a, M(0)) of mediation analysis, which observation never shows, can be
run: arm a's procedure, with the alignment of each update clamped to the other arm's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from sublim_causal.experiment.imports import Options
from sublim_causal.experiment.interventions.base import BlockContext, Space, StepContext
from sublim_causal.experiment.interventions.set_cosine import with_cosine, with_drive

if TYPE_CHECKING:
    from torch import Tensor


Match = Literal["cosine", "drive", "cosine and length"]
"""What of the other arm's update is matched; the rest of the vector is the procedure's own."""


class Clamp(Options):
    """Set the update's alignment to that of arm `target` at the same step (`with_cosine`)."""

    target: str = "baseline"
    """The arm whose update is followed, step by step."""
    match: Match = "cosine"
    """Its `cos_update`; its `drive`, which is what lowers the trait loss to first order; or its
    `cos_update` and `norm_update`."""

    space: ClassVar[Space] = "update"
    uses_trait: ClassVar[bool] = True

    @property
    def follows(self) -> tuple[str, ...]:
        """The target arm, which must be run before this one."""
        return (self.target,)

    def init(self, context: BlockContext) -> None:
        """No state."""

    def apply(
        self, vector: Tensor, g_trait: Tensor, state: None, context: StepContext
    ) -> tuple[Tensor, None]:
        """Return the clamped direction; a zero `g_trait` leaves it unchanged."""
        target = context.update_of(self.target)
        if self.match == "drive":
            return with_drive(vector, g_trait, target.drive), None
        aligned = with_cosine(vector, g_trait, target.cosine)
        if self.match == "cosine":
            return aligned, None
        scale = (target.length / aligned.norm(dim=1)).nan_to_num(0, 0, 0)
        present = g_trait.any(dim=1)
        return (aligned * scale[:, None]).where(present[:, None], vector), None


class Yoked(Options):
    """The `procedure`, at the alignment that the seed has under arm `target`."""

    target: str = "baseline"
    """The arm whose update is followed, step by step."""
    match: Match = "cosine"
    """What of it is matched, as in `clamp`."""
    procedure: dict[str, Any] = Field(default={"intervention": "projection"})
    """The intervention whose alignment is replaced: `intervention` and its options."""

    def expand(self) -> tuple[dict[str, Any], ...]:
        """Return the procedure's table, then the clamp's."""
        return self.procedure, {"intervention": "clamp", "target": self.target, "match": self.match}
