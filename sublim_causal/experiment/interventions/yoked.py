"""Run an arm at the alignment that the same seed has under another arm.

The cross-world outcome Y(a, M(0)) of mediation analysis, which observation never shows, can be
run: arm a's procedure, with the alignment of each update clamped to the other arm's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from sublim_causal.experiment.interventions.base import BlockContext, Options, StepContext

if TYPE_CHECKING:
    from torch import Tensor


class Clamp(Options):
    r"""Set the update's alignment to that of arm `target` at the same step.

    With the descent direction split into its part along the trait gradient and the rest,
    :math:`d = a\,\hat g + d_\perp`, the rest is kept and a becomes
    :math:`c\,|d_\perp| / \sqrt{1 - c^2}`, so that :math:`\cos(d, g) = c`.
    """

    target: str = "baseline"
    """The arm whose `cos_update` is followed, step by step."""

    @property
    def space(self) -> Literal["update"]:
        """Update space."""
        return "update"

    @property
    def uses_trait(self) -> bool:
        """Yes."""
        return True

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
        from sublim_causal.experiment.alignment import inner

        cosine = context.alignment_of(self.target)
        square = inner(g_trait, g_trait)
        along = inner(vector, g_trait) / square
        rest = vector - along[:, None] * g_trait
        scale = cosine * (inner(rest, rest) / (square * (1 - cosine**2))).sqrt()
        clamped = rest.addcmul(scale[:, None], g_trait)
        return clamped.where((square > 0)[:, None], vector), None


class Yoked(Options):
    """The `procedure`, at the alignment that the seed has under arm `target`."""

    target: str = "baseline"
    """The arm whose `cos_update` is followed, step by step."""
    procedure: dict[str, Any] = Field(default={"intervention": "projection"})
    """The intervention whose alignment is replaced: `intervention` and its options."""

    def parts(self) -> tuple[dict[str, Any], ...]:
        """Return the procedure's table, then the clamp's."""
        return self.procedure, {"intervention": "clamp", "target": self.target}
