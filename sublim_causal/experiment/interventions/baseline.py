"""No intervention."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from sublim_causal.experiment.imports import Options
from sublim_causal.experiment.interventions.base import BlockContext, Space, StepContext

if TYPE_CHECKING:
    from torch import Tensor


class Baseline(Options):
    """The identity."""

    space: ClassVar[Space] = "gradient"
    uses_trait: ClassVar[bool] = False

    def init(self, context: BlockContext) -> None:
        """No state."""

    def apply(
        self, vector: Tensor, g_trait: Tensor | None, state: None, context: StepContext
    ) -> tuple[Tensor, None]:
        """Return `vector` itself."""
        return vector, None
