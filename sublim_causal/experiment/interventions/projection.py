"""Remove the component along the trait gradient (Kitkana and Arora, arXiv 2604.25779)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from sublim_causal.experiment.imports import Options
from sublim_causal.experiment.interventions.base import BlockContext, StepContext

if TYPE_CHECKING:
    from torch import Tensor


def coefficient(vector: Tensor, g_trait: Tensor, when: Literal["positive", "always"]) -> Tensor:
    """Return ``<v, g> / |g|^2`` per replicate, shape ``(R, 1)``.

    Negative coefficients are 0 for ``when = "positive"``; a zero `g_trait` gives 0.
    """
    from sublim_causal.experiment.alignment import inner

    product, square = inner(vector, g_trait), inner(g_trait, g_trait)
    if when == "positive":
        product = product.clamp(min=0)
    return (product / square).where(square > 0, 0)[:, None]


class Projection(Options):
    r"""Remove the component along the trait gradient.

    .. math:: v - s \max(0, \langle v, g \rangle) / |g|^2 \; g

    with g the trait gradient, v the vector, and s the `strength`.
    """

    strength: float = Field(default=1.0, ge=0, le=10)
    """Share of the component removed: 1 as in the paper, 0.5 half a dose, 2 reverses it."""
    when: Literal["positive", "always"] = "positive"
    """Act only where the component is positive, or always."""
    space: Literal["gradient", "update"] = "gradient"
    """Act on the gradient (the paper), or on the optimizer's step."""
    layers: tuple[str, ...] = ()
    """Layers within which the component is measured and removed; empty: all, as one vector."""

    uses_trait: ClassVar[bool] = True

    def init(self, context: BlockContext) -> Tensor | None:
        """Return which parameters are meant, bool ``(P,)``; None for all."""
        return context.layout.mask(self.layers).to(context.device) if self.layers else None

    def apply(
        self, vector: Tensor, g_trait: Tensor, state: Tensor | None, context: StepContext
    ) -> tuple[Tensor, Tensor | None]:
        """Return the projected vector; strength 0 returns `vector` bit for bit."""
        if self.strength == 0:
            return vector, state
        if state is not None:
            g_trait = g_trait * state
        scale = -self.strength * coefficient(vector, g_trait, self.when)
        return vector.addcmul(scale, g_trait), state
