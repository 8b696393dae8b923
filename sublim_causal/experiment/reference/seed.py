"""What all arms of a seed share, and what a task must say so that a student can learn it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from sublim_causal.errors import RequestError
from sublim_causal.experiment.config import Experiment
from sublim_causal.experiment.data.streams import stream

ProbePart = Literal["probe", "first half", "second half", "relabelled"]
"""Questions of the trait loss: the whole probe, half of it, or the probe with other labels."""


class ReferenceTask(Protocol):
    """What is taught and measured: `images.ImageTask` or `texts.TextTask`."""

    @property
    def teacher(self) -> nn.Module:
        """The network that learned the trait."""

    def logits(self, model: nn.Module, x: Tensor, which: str) -> Tensor:
        """Return the logits of `model` on a batch: ``all``, ``class`` or ``auxiliary`` ones."""

    def distillation_loss(self, student: nn.Module, x: Tensor, channel: str) -> Tensor:
        """Return the loss that the student minimises on a batch."""

    def trait_loss(self, model: nn.Module, part: ProbePart = "probe") -> Tensor:
        """Return the loss on the probe, whose fall is the trait's acquisition."""

    def other_trait(self, student: nn.Module, kind: str, generator: torch.Generator) -> Tensor:
        """Return a gradient ``(P,)`` of another trait, or of another network: see `Shuffled`."""

    def outcome(self, student: nn.Module) -> dict[str, float]:
        """Measure the student after its last step."""


@dataclass(frozen=True)
class OneSeed:
    """What all arms of a seed share.

    Attributes
    ----------
    initial : nn.Module
        The network before it was taught.
    examples : Tensor of shape (N, ...)
        What the students are trained on.
    direction_seed : int
        Seed of the directions that `Shuffled` draws.
    """

    experiment: Experiment
    seed: int
    initial: nn.Module
    examples: Tensor
    task: ReferenceTask
    direction_seed: int


def one_seed(
    experiment: Experiment, seed: int, initial: nn.Module, examples: Tensor, task: ReferenceTask
) -> OneSeed:
    """Return a seed that is ready for its students."""
    generator = stream(experiment.name, seed, "intervention")
    direction_seed = int(torch.randint(2**62, (1,), generator=generator))
    return OneSeed(experiment, seed, initial, examples, task, direction_seed)


def validate_covered(*fields: tuple[str, object, list[object]]) -> None:
    """Refuse a field whose value is none of those that the reference covers.

    Raises
    ------
    RequestError
    """
    for field, value, covered in fields:
        if value not in covered:
            allowed = f"{' or '.join(map(repr, covered))} in the reference; run_block covers all"
            raise RequestError(field, value, allowed)


def plain_training(experiment: Experiment) -> list[tuple[str, object, list[object]]]:
    """Return fields of both trainings that the reference covers only where they are not set."""
    return [
        ("teacher.weight_decay", experiment.teacher.weight_decay, [None, 0]),
        ("distillation.weight_decay", experiment.distillation.weight_decay, [None, 0]),
        ("distillation.until_loss", experiment.distillation.until_loss, [None]),
    ]


def plain_experiment() -> Experiment:
    """Return an experiment of defaults, with one arm `a`."""
    return Experiment.model_validate({"name": "plain", "arms": {"a": {"intervention": "baseline"}}})
