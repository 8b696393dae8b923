"""Liminal training: stay near the outputs of the shared initialisation (arXiv 2604.25779)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from sublim_causal.experiment.imports import Options
from sublim_causal.experiment.interventions.base import BlockContext, Space, StepContext

if TYPE_CHECKING:
    from torch import Tensor


class Liminal(Options):
    r"""Add the weighted gradient of KL(initial || student) on the step's batch.

    The weight :math:`\lambda(t)` follows the `schedule`.
    """

    weight: float = Field(default=1.0, ge=0, le=1000)
    """lambda_0, the weight at the first step."""
    logits: Literal["all", "class", "auxiliary"] = "all"
    """The logits whose distribution is held near that of the initialisation."""
    schedule: Literal["critical", "anneal"] = "critical"
    """`critical`: lambda_0 through the first epoch, then 0; `anneal`: lambda_0 to 1 within the
    first epoch, then linearly to 0 at the end."""

    space: ClassVar[Space] = "gradient"
    uses_trait: ClassVar[bool] = False

    def weight_at(self, context: StepContext) -> float:
        """Return lambda(t)."""
        first = context.steps_per_epoch
        if self.schedule == "critical":
            return self.weight if context.step < first else 0.0
        if context.step < first:
            return self.weight + (1 - self.weight) * context.step / first
        return (context.steps - context.step) / max(1, context.steps - first)

    def init(self, context: BlockContext) -> None:
        """No state."""

    def apply(
        self, vector: Tensor, g_trait: Tensor | None, state: None, context: StepContext
    ) -> tuple[Tensor, None]:
        """Return the gradient plus the penalty's; weight 0 returns `vector` bit for bit."""
        weight = self.weight_at(context)
        if weight == 0 or self.weight == 0:
            return vector, None
        from sublim_causal.experiment.teaching.losses import softmax

        columns = context.split.columns(self.logits)
        student = softmax(context.forward.logits(columns))
        initial = softmax(context.initial_logits()[:, :, columns])
        derivative = (student - initial) / student.shape[1]
        return vector.add(context.forward.gradient(derivative, columns), alpha=weight), None
