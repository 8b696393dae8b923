"""The contract of an intervention, and what it is given.

An intervention is a frozen object with two pure methods, ``init`` and ``apply``. It sees a block
of R replicates as ``(R, P)`` tensors, writes nothing in place, and draws random numbers from the
generators it is given only, so a replicate's result does not depend on its block.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from sublim_causal.experiment.alignment import Probe, UpdateMeasure
    from sublim_causal.experiment.logits import LogitSplit
    from sublim_causal.experiment.networks.base import Forward, Layout

Space = Literal["gradient", "update"]
"""Which vector an intervention changes: the gradient before the optimizer, or the optimizer's step
as a descent direction ``theta_t - theta_{t+1}``."""


@dataclass(frozen=True)
class BlockContext:
    """What an intervention knows before the first step.

    Attributes
    ----------
    layout : Layout
        Names and shapes of the P parameters.
    split : LogitSplit
    generators : sequence of torch.Generator
        One per replicate, purpose "intervention", the same in every arm of a seed.
    device : torch.device
    probe : Probe
        The examples of the trait loss.
    draw_probe : callable
        Draws another probe of the same size from one generator per replicate.
    draw_network : callable
        Draws another initialisation ``(R, P)`` of the network from one generator per replicate.
    """

    layout: Layout
    split: LogitSplit
    generators: Sequence[torch.Generator]
    device: torch.device
    probe: Probe
    draw_probe: Callable[[Sequence[torch.Generator]], Probe]
    draw_network: Callable[[Sequence[torch.Generator]], Tensor]


class StepContext(Protocol):
    """What an intervention knows at a step."""

    @property
    def step(self) -> int:
        """Steps done before this one."""

    @property
    def steps_per_epoch(self) -> int:
        """Steps of an epoch."""

    @property
    def steps(self) -> int:
        """Steps of the whole run."""

    @property
    def split(self) -> LogitSplit:
        """Which logits are which."""

    @property
    def forward(self) -> Forward:
        """The student's pass over the step's batch: logits, and gradients of losses on them."""

    @property
    def teaching(self) -> Tensor:
        """What the first teacher's training changed in the initialisation, ``(R, P)``."""

    def initial_logits(self) -> Tensor:
        """Return the logits ``(R, B, K)`` of the shared initialisation on the step's batch."""

    def update_of(self, arm: str) -> UpdateMeasure:
        """Return cosine, drive and length of the update of an arm in ``follows`` at this step."""

    def trait_gradient(self, probe: Probe, theta: Tensor | None = None) -> Tensor:
        """Return the gradient ``(R, P)`` of the trait loss on `probe`.

        At the parameters before the step or, if given, at `theta` ``(R, P)``.
        """


@runtime_checkable
class Intervention(Protocol):
    """What every arm does to the vector that moves the student."""

    @property
    def space(self) -> Space:
        """The vector that `apply` is given."""

    @property
    def uses_trait(self) -> bool:
        """Whether `apply` needs the trait gradient (else it may be None)."""

    def init(self, context: BlockContext) -> Any:
        """Return the state before the first step."""

    def apply(
        self, vector: Tensor, g_trait: Tensor | None, state: Any, context: StepContext
    ) -> tuple[Tensor, Any]:
        """Return the changed vector ``(R, P)`` and the next state."""


@runtime_checkable
class Following(Protocol):
    """An intervention that asks for the alignment of other arms at every step."""

    @property
    def follows(self) -> tuple[str, ...]:
        """The arms that it asks for; each is run before it and follows no other."""


@runtime_checkable
class OfLayers(Protocol):
    """An intervention that names layers of the network."""

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers' names; empty: the network as a whole."""


@runtime_checkable
class Compound(Protocol):
    """An intervention that consists of several in order."""

    def expand(self) -> tuple[dict[str, Any], ...]:
        """Return a table for each: ``intervention`` and its options."""
