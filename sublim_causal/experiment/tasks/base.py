"""The contract of a task: what is learned, taught and measured.

A task belongs to one experiment. It says what a study of it may ask for, and gives a block its
reference, teachers, examples, targets, probe and measures; the student loop, interventions, tables
and analysis do not know which task they serve.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from pydantic import BaseModel

from sublim_causal.experiment.logits import LogitSplit
from sublim_causal.store.outcome import Outcome

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from sublim_causal.experiment.alignment import Probe
    from sublim_causal.experiment.data.streams import SeedStreams
    from sublim_causal.experiment.networks.base import Batch, Network
    from sublim_causal.experiment.shared import Shared


@dataclass(frozen=True)
class Phase:
    """Steps of one seed before its students, at most: of an optimizer, or of a generation.

    Attributes
    ----------
    steps : int
        A step of a generation writes the next token of all texts of a batch.
    batch_size : int
        Examples of a step.
    passes : int
        Forward and backward passes of a step.
    tokens : int
        Tokens that are written; 0 where the steps are those of an optimizer.
    """

    steps: int
    batch_size: int
    passes: int = 1
    tokens: int = 0


@dataclass(frozen=True)
class Sizes:
    """Numbers that a worker keeps, each of four bytes.

    Attributes
    ----------
    example : int
        Of one example.
    answers : int
        Of one example's logits.
    inputs : int
        Sets of examples that the arms of a seed see.
    data : int
        Of the data set.
    activations : int or None
        Of a pass over one example, until its gradient is taken; None: few beside the parameters.
    """

    example: int
    answers: int
    inputs: int
    data: int
    activations: int | None = None


@dataclass(frozen=True)
class Rehearsal:
    """Made-up material on which arms take a few steps before anything is trained.

    Attributes
    ----------
    theta_0, teacher : Tensor of shape (R, P)
        Two initialisations: the second stands for a trained teacher.
    probe, draw_probe, draw_reference
        As in `Shared`.
    inputs : callable
        Returns examples ``(R, B, D)`` such as the students of a named arm see.
    positions : tuple of int
        As in `Shared`.
    """

    theta_0: Tensor
    teacher: Tensor
    probe: Probe
    draw_probe: Callable[[Sequence[torch.Generator]], Probe]
    draw_reference: Callable[[Sequence[torch.Generator]], Tensor]
    inputs: Callable[[str], Tensor]
    positions: tuple[int, ...]


class Keep(Protocol):
    """Keeps networks that are trained before the students, from one start to the next."""

    def __call__(
        self, role: str, generators: Sequence[torch.Generator], train: Callable[[], Tensor]
    ) -> Tensor:
        """Return parameters ``(R, P)``, or texts: those that were kept, or what `train` returns.

        Parameters
        ----------
        role : str
            What the networks are, a file name.
        generators : sequence of torch.Generator
            One per replicate: the streams that their training draws from, not used yet.
        train : callable
        """


def train_anew(
    role: str, generators: Sequence[torch.Generator], train: Callable[[], Tensor]
) -> Tensor:
    """Keep nothing: a `Keep`."""
    return train()


METHODS = (
    "validate",
    "build_network",
    "load",
    "on_device",
    "phases",
    "sizes",
    "sample",
    "rehearse",
    "share",
)
"""What a `Task` can be called for."""


@runtime_checkable
class Detailed(Protocol):
    """A task that has more to say of a run before it begins."""

    def details(self) -> Mapping[str, str]:
        """Return rows for the dry run."""


class Task(Protocol):
    """What is learned, taught and measured."""

    @property
    def options(self) -> BaseModel:
        """The options of the section `task`."""

    @property
    def unused(self) -> tuple[str, ...]:
        """Fields of a study file that the task has no use for; those of arms begin with `arms`."""

    @property
    def outcome(self) -> Outcome:
        """By what its students are judged."""

    @property
    def split(self) -> LogitSplit:
        """Which logits show the trait, and which are taught."""

    def validate(self) -> None:
        """Refuse what the experiment asks for and the task does not have.

        Raises
        ------
        RequestError
        """

    def build_network(self) -> Network:
        """Build the network of reference, teachers and students.

        Raises
        ------
        RequestError
            If the model or its options are wrong.
        """

    def load(self, data_dir: Path, *, download: bool) -> Any:
        """Return what workers need from disk, small enough to send to them.

        Raises
        ------
        DataError
            If it is missing or damaged.
        """

    def on_device(self, data: Any, device: torch.device, dtype: torch.dtype) -> Any:
        """Return what `load` returned, as `share` takes it."""

    def phases(self, arms: Sequence[str]) -> Sequence[Phase]:
        """Return what is trained for a seed before the students of `arms`."""

    def sizes(self) -> Sizes:
        """Return how much a worker keeps."""

    def sample(self, count: int, generator: torch.Generator, dtype: torch.dtype) -> Batch:
        """Return a batch of `count` made-up examples of one replicate, to time the network with."""

    def rehearse(self, streams: SeedStreams, network: Network, dtype: torch.dtype) -> Rehearsal:
        """Return made-up material, on which nothing is trained."""

    def share(
        self,
        arms: Sequence[str],
        streams: SeedStreams,
        network: Network,
        data: Any,
        after_step: Callable[[], None],
        keep: Keep,
    ) -> Shared:
        """Make what the `arms` of a block share: train reference and teachers, draw the rest.

        `after_step` is called after every optimizer step; an exception ends the block. What takes
        long to train, and is the same for all arms, goes through `keep`.
        """
