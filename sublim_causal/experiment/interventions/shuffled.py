"""The control for projection: the same norm removed, in a direction that is not the trait's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import accumulate
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from sublim_causal.experiment.data.streams import Ahead, draw, normal, unfilled
from sublim_causal.experiment.imports import Options
from sublim_causal.experiment.interventions.base import BlockContext, StepContext
from sublim_causal.experiment.interventions.projection import coefficient

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from sublim_causal.experiment.alignment import Probe


class Shuffled(Options):
    """Subtract as much as projection would, along another direction than the trait gradient.

    Coordinates are permuted, and random directions scaled, within each parameter tensor, so the
    norm removed from each tensor is the norm that projection would remove. A direction should not
    persist: Adam divides each coordinate by its usual size, so that even a tiny direction, kept
    through training, becomes a full-sized drift (on digits a permutation kept for the run costs a
    third to two thirds of the transfer).
    """

    strength: float = Field(default=1.0, ge=0, le=10)
    """Share of the projection's norm removed."""
    when: Literal["positive", "always"] = "positive"
    """Act only in steps in which projection would, or always."""
    space: Literal["gradient", "update"] = "gradient"
    """Act on the gradient, or on the optimizer's step."""
    shuffle: Literal["coordinates", "random", "labels", "probe", "network"] = "coordinates"
    """The direction: the trait gradient with permuted `coordinates`; `random` and normal; the
    trait gradient of the probe with permuted `labels`; that of another `probe`, as another seed
    would have drawn it (no placebo: its labels are true); that of another `network`, as another
    seed would have been initialised."""
    draw: Literal["step", "run"] = "step"
    """Another direction (permutation, probe, network) at every step, or one for the whole run."""

    uses_trait: ClassVar[bool] = True

    def init(self, context: BlockContext) -> Draws:
        """Draw the seed of every replicate's directions."""
        import torch

        seeds = [int(torch.randint(2**62, (1,), generator=g)) for g in context.generators]
        return Draws(tuple(seeds), context)

    def apply(
        self, vector: Tensor, g_trait: Tensor, state: Draws, context: StepContext
    ) -> tuple[Tensor, Draws]:
        """Return the vector less the component; strength 0 returns it bit for bit."""
        if self.strength == 0:
            return vector, state
        scale = -self.strength * coefficient(vector, g_trait, self.when)
        direction = self._direction(g_trait, state, context)
        return vector.addcmul(scale, direction), state

    def _direction(self, g_trait: Tensor, state: Draws, context: StepContext) -> Tensor:
        """Return the direction ``(R, P)``, as long as `g_trait`."""
        step = context.step if self.draw == "step" else 0
        if self.shuffle == "coordinates":
            return g_trait.gather(1, state.permutations(step))
        generators = state.generators(step)
        if self.shuffle == "random":
            return random_like(g_trait, state.block.layout.sizes, generators)
        other = self._trait_gradient(generators, state.block, context)
        ratio = g_trait.norm(dim=1, keepdim=True) / other.norm(dim=1, keepdim=True)
        return other * ratio.nan_to_num(0, 0, 0)

    def _trait_gradient(
        self, generators: Sequence[torch.Generator], block: BlockContext, context: StepContext
    ) -> Tensor:
        """Return the trait gradient ``(R, P)`` for other labels, images or parameters."""
        if self.shuffle == "labels":
            return context.trait_gradient(permuted_labels(block.probe, generators))
        if self.shuffle == "probe":
            return context.trait_gradient(block.draw_probe(generators))
        return context.trait_gradient(block.probe, block.draw_network(generators))


@dataclass(frozen=True)
class Draws:
    """Where directions are drawn from: one seed per replicate, the same in every block."""

    seeds: tuple[int, ...]
    block: BlockContext

    def generators(self, step: int) -> list[torch.Generator]:
        """Return each replicate's generator for `step`."""
        import torch

        return [torch.Generator().manual_seed(seed + step) for seed in self.seeds]

    def permutations(self, step: int) -> Tensor:
        """Return a permutation within each parameter for `step`, int64 ``(R, P)``."""
        return self._drawn(step) if self.block.device.type == "cpu" else self._ahead.at(step)

    def _drawn(self, step: int) -> Tensor:
        return permutations(self.block.layout.sizes, self.generators(step), self.block.device)

    @cached_property
    def _ahead(self) -> Ahead:
        return Ahead(self._drawn)


def permutations(
    sizes: Sequence[int], generators: Sequence[torch.Generator], device: torch.device
) -> Tensor:
    """Draw permutations within each parameter of `sizes` entries, int64 ``(R, P)``."""
    import torch

    starts = [0, *accumulate(sizes)]

    def permutation(generator: torch.Generator) -> Tensor:
        drawn = unfilled([starts[-1]], torch.int32, device)
        for part in drawn.split(list(sizes)):
            torch.randperm(len(part), generator=generator, out=part)
        return drawn

    order = draw(permutation, generators, device).long()
    for part, start in zip(order.split(list(sizes), dim=1), starts, strict=False):
        part += start
    return order


def random_like(
    vector: Tensor, sizes: Sequence[int], generators: Sequence[torch.Generator]
) -> Tensor:
    """Draw normal directions ``(R, P)`` with the norm of `vector` in each parameter."""
    import torch

    size = vector.shape[1]
    drawn = draw(partial(normal, size, vector.device), generators, vector.device)
    pairs = zip(drawn.to(vector).split(sizes, dim=1), vector.split(sizes, dim=1), strict=True)
    return torch.cat([d * (v.norm(dim=1) / d.norm(dim=1))[:, None] for d, v in pairs], dim=1)


def permuted_labels(probe: Probe, generators: Sequence[torch.Generator]) -> Probe:
    """Return `probe` with the labels of each half permuted, independently for every replicate."""
    import torch

    from sublim_causal.experiment.alignment import Probe

    def permuted(labels: Tensor) -> Tensor:
        count = labels.shape[1]
        order = draw(lambda g: torch.randperm(count, generator=g), generators, labels.device)
        return labels.gather(1, order)

    (first, its_labels), (second, other_labels) = probe.halves
    halves = ((first, permuted(its_labels)), (second, permuted(other_labels)))
    return Probe(halves, probe.columns, probe.gaps)
