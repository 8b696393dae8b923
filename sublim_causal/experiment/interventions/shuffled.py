"""The control for projection: the same norm removed, in a direction that means nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from sublim_causal.experiment.interventions.base import BlockContext, Options, StepContext
from sublim_causal.experiment.interventions.projection import coefficient

if TYPE_CHECKING:
    from torch import Tensor


class Shuffled(Options):
    """Subtract what projection would, but along the trait gradient with permuted coordinates.

    The permutation stays within each parameter tensor, so the norm removed from each tensor is the
    norm that projection would remove. It must not persist: Adam divides each coordinate by its
    usual size, so that even a tiny direction, kept through training, becomes a full-sized drift
    (on digits a permutation kept for the run costs a third to two thirds of the transfer).
    """

    strength: float = Field(default=1.0, ge=0, le=10)
    """Share of the projection's norm removed."""
    when: Literal["positive", "always"] = "positive"
    """Act only in steps in which projection would, or always."""
    space: Literal["gradient", "update"] = "gradient"
    """Act on the gradient, or on the optimizer's step."""
    shuffle: Literal["coordinates"] = "coordinates"
    """What is permuted: the coordinates within each parameter tensor."""
    draw: Literal["step", "run"] = "step"
    """Another permutation at every step, or one for the whole run."""

    @property
    def uses_trait(self) -> bool:
        """Yes."""
        return True

    def init(self, context: BlockContext) -> Permutations:
        """Draw the seed of every replicate's permutations."""
        import torch

        seeds = [int(torch.randint(2**62, (1,), generator=g)) for g in context.generators]
        return Permutations(tuple(seeds), context.layout.sizes)

    def apply(
        self, vector: Tensor, g_trait: Tensor, state: Permutations, context: StepContext
    ) -> tuple[Tensor, Permutations]:
        """Return the vector less the permuted component; strength 0 returns it bit for bit."""
        if self.strength == 0:
            return vector, state
        permutation = state.at(context.step if self.draw == "step" else 0)
        scale = -self.strength * coefficient(vector, g_trait, self.when)
        return vector.addcmul(scale, g_trait.gather(1, permutation.to(vector.device))), state


@dataclass(frozen=True)
class Permutations:
    """Permutations within each parameter, for every replicate and step.

    Attributes
    ----------
    seeds : tuple of int
        One per replicate.
    sizes : tuple of int
        Entries of each parameter; they sum to P.
    """

    seeds: tuple[int, ...]
    sizes: tuple[int, ...]

    def at(self, step: int) -> Tensor:
        """Return the permutations of `step`, int64 ``(R, P)``."""
        import torch

        rows = []
        for seed in self.seeds:
            generator = torch.Generator().manual_seed(seed + step)
            start, parts = 0, []
            for size in self.sizes:
                parts.append(torch.randperm(size, generator=generator).add_(start))
                start += size
            rows.append(torch.cat(parts))
        return torch.stack(rows)
