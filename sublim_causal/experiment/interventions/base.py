"""The contract of an intervention, and what it is told.

An intervention is a frozen object with two pure methods, ``init`` and ``apply``. It sees a block
of R replicates as ``(R, P)`` tensors, writes nothing in place, and draws random numbers from the
generators it is given only, so a replicate's result does not depend on its block.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from sublim_causal.experiment.alignment import Probe
    from sublim_causal.experiment.networks.base import Forward, Layout


@dataclass(frozen=True)
class LogitSplit:
    """Which logits are which: class logits first, auxiliary ones after them."""

    classes: int
    auxiliary: int

    def columns(self, which: Literal["all", "class", "auxiliary"]) -> slice:
        """Return the columns of the named logits."""
        total = self.classes + self.auxiliary
        return {
            "all": slice(0, total),
            "class": slice(0, self.classes),
            "auxiliary": slice(self.classes, total),
        }[which]


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
        The images of the trait loss.
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


@dataclass(frozen=True)
class StepContext:
    """What an intervention knows at a step.

    Attributes
    ----------
    step : int
        Steps done before this one.
    steps_per_epoch, steps : int
        Steps of an epoch and of the whole run.
    split : LogitSplit
    forward : Forward
        The student's pass over the step's batch: logits, and gradients of losses on them.
    reference_logits : callable
        Returns the logits ``(R, B, K)`` of the shared initialisation on the step's batch.
    alignment_of : callable
        Returns ``cos_update`` ``(R,)`` that an arm in ``follows`` has at this step.
    trait_gradient : callable
        Returns the gradient ``(R, P)`` of the trait loss on a `Probe`, at the step's beginning or,
        if given, at other parameters ``(R, P)``.
    """

    step: int
    steps_per_epoch: int
    steps: int
    split: LogitSplit
    forward: Forward
    reference_logits: Callable[[], Tensor]
    alignment_of: Callable[[str], Tensor]
    trait_gradient: Callable[..., Tensor]


@runtime_checkable
class Intervention(Protocol):
    """What every arm does to the vector that moves the student.

    ``space`` says which vector `apply` is handed: ``"gradient"``, the gradient before the
    optimizer; ``"update"``, the step that the optimizer would take, as a descent direction
    ``theta_t - theta_{t+1}``. ``uses_trait`` says whether `apply` needs the trait gradient. An
    intervention may have a tuple ``follows``: arms whose alignment it asks for at every step.
    """

    @property
    def space(self) -> Literal["gradient", "update"]:
        """The vector that `apply` is handed."""

    @property
    def uses_trait(self) -> bool:
        """Whether `apply` needs the trait gradient (else it may be None)."""

    def init(self, context: BlockContext) -> Any:
        """Return the state before the first step."""

    def apply(
        self, vector: Tensor, g_trait: Tensor | None, state: Any, context: StepContext
    ) -> tuple[Tensor, Any]:
        """Return the changed vector ``(R, P)`` and the next state."""


class Options(BaseModel):
    """Base of the built-in interventions: validated, frozen options from a study file."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False
    )
