"""Train some layers only."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from sublim_causal.experiment.imports import Options
from sublim_causal.experiment.interventions.base import BlockContext, Space, StepContext

if TYPE_CHECKING:
    from torch import Tensor


class TrainOnly(Options):
    """Apply the optimizer's step to the named layers only; the others stay as they are.

    Its place in a `chain` is the last, as an intervention after it could move them again.
    """

    layers: tuple[str, ...] = Field(min_length=1)
    """Layers that are trained, by name: `["0"]` is the first of the MLP, `["4"]` its last."""

    space: ClassVar[Space] = "update"
    uses_trait: ClassVar[bool] = False

    def init(self, context: BlockContext) -> Tensor:
        """Return which parameters move, bool ``(P,)``."""
        return context.layout.mask(self.layers).to(context.device)

    def apply(
        self, vector: Tensor, g_trait: Tensor | None, state: Tensor, context: StepContext
    ) -> tuple[Tensor, Tensor]:
        """Return the vector with zeros in all other layers."""
        return vector * state, state
