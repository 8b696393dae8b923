"""The students of an arm: the parameters of its replicates, and what belongs to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sublim_causal.experiment.alignment import LayerRecorder, Recorder, UpdateMeasure
from sublim_causal.experiment.clock import Clock
from sublim_causal.experiment.config import AttackConfig
from sublim_causal.experiment.contracts import ArmFailure
from sublim_causal.experiment.interventions.base import Intervention
from sublim_causal.experiment.optimizers import BlockOptimizer


@dataclass(frozen=True)
class Part:
    """Which examples of a step's batch an arm's students see.

    Attributes
    ----------
    size : int or None
        At most so many, the first ones.
    unique : int or None
        So many different ones in all: every example stands for one of them.
    """

    size: int | None
    unique: int | None

    def of(self, index: Tensor) -> Tensor:
        """Return the examples of the batch `index` ``(R, B)``."""
        index = index[:, : self.size]
        return index if self.unique is None else index % self.unique


@dataclass
class Student:
    """One arm's students, ``(R, P)``: the only thing here that changes from step to step.

    Attributes
    ----------
    theta, before : Tensor of shape (R, P)
        The parameters, and what they were at the beginning of the step.
    states : list
        State of each intervention.
    inputs, targets : str
        Which of the shared inputs and targets are the arm's.
    part : Part
        Which examples of a batch it sees.
    weight_noise : float
        Size of the noise under which distillation gradients are taken.
    noise : sequence of torch.Generator
        One per replicate, for that.
    attack : AttackConfig or None
        How the images are attacked that it is trained on, if they are.
    starts : sequence of torch.Generator
        One per replicate, for that.
    measured : bool
        Whether the trait is measured at every step.
    update : Tensor of shape (R, P), or None
        The last step; None before the first, or where nothing is measured.
    alignment : Tensor of shape (R,), or None
        ``cos_update`` of the last step.
    until_loss : float or None
        The distillation loss at which they stop, if any.
    lengths : int64 Tensor of shape (R,)
        Steps that each takes: all, or those before it reached `until_loss`.
    reached : bool
        Whether all have reached it.
    failure : ArmFailure or None
        What ended the arm; its students stay as they are then.
    """

    interventions: Sequence[Intervention]
    theta: Tensor
    before: Tensor
    optimizer: BlockOptimizer
    states: list[Any]
    inputs: str
    targets: str
    part: Part
    weight_noise: float
    noise: Sequence[torch.Generator]
    attack: AttackConfig | None
    starts: Sequence[torch.Generator]
    recorder: Recorder
    layers: LayerRecorder | None
    measured: bool
    clock: Clock
    until_loss: float | None
    lengths: Tensor
    reached: bool = False
    update: Tensor | None = None
    measure: UpdateMeasure | None = None
    failure: ArmFailure | None = None

    @property
    def moves(self) -> bool:
        """Whether it takes the next step."""
        return self.failure is None and not self.reached
