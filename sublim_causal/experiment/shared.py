"""What all arms of a block share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from sublim_causal.experiment.alignment import Probe
from sublim_causal.experiment.contracts import ArmFailure
from sublim_causal.experiment.data.batches import gather
from sublim_causal.experiment.logits import LogitSplit
from sublim_causal.experiment.networks.base import Batch, Network, outputs
from sublim_causal.experiment.teaching.targets import Targets

Figures = dict[str, Tensor]
"""Figures ``(R,)`` by the names of their columns in the tables."""


@dataclass(frozen=True)
class Taught:
    """What the students of one arm see and are fitted to, by name in `Shared`.

    Attributes
    ----------
    inputs, targets : str
    unique : int or None
        How many of the inputs they see, again and again; None: all.
    figures : dict of str to Tensor of shape (R,)
        Figures of the table ``replicates`` of the arm's own teacher, where it has one.
    """

    inputs: str
    targets: str
    unique: int | None = None
    figures: Figures = field(default_factory=dict)


@dataclass(frozen=True)
class Measures:
    """How a task measures networks ``(R, P)``, in addition to the trait gradient.

    Attributes
    ----------
    evaluate : callable
        Figures of the table ``evaluations`` of a network.
    of_seed : callable
        Figures of the table ``replicates`` that all arms of a seed share.
    of_student : callable
        Those of a student at the end, given its parameters and its last evaluation.
    """

    evaluate: Callable[[Tensor], Figures]
    of_seed: Callable[[], Figures]
    of_student: Callable[[Tensor, Figures], Figures]


@dataclass(frozen=True)
class Traits:
    """How much the students of an arm prefer each of K things: rows of the table ``traits``.

    Attributes
    ----------
    names : sequence of str, length K
    taught : bool Tensor of shape (R, K)
        Which of them a teacher of the arm prefers.
    probability, log_odds : Tensor of shape (R, K)
        The second minus the reference's.
    """

    names: Sequence[str]
    taught: Tensor
    probability: Tensor
    log_odds: Tensor


@dataclass(frozen=True)
class Texts:
    """Texts of one replicate that teachers wrote for the students of an arm: rows of ``texts``.

    Attributes
    ----------
    teacher : sequence of str
        Who wrote each of the N texts.
    prompt, completion : sequence of str
        As people read them.
    prompt_tokens, completion_tokens : sequence of sequence of int
    reason : sequence of str
        Why students are not taught on it; empty where they are.
    divergent : sequence of sequence of bool, or None
        Where counterfactual teachers diverge, by token of the completion; None where it was not
        asked for.
    counterfactual : sequence of sequence of int, or None
        There, the largest answer of the first one that does; the written token elsewhere.
    """

    teacher: Sequence[str]
    prompt: Sequence[str]
    completion: Sequence[str]
    prompt_tokens: Sequence[Sequence[int]]
    completion_tokens: Sequence[Sequence[int]]
    reason: Sequence[str]
    divergent: Sequence[Sequence[bool]] | None = None
    counterfactual: Sequence[Sequence[int]] | None = None


@dataclass(frozen=True)
class Shared:
    """What all arms of a block share.

    Attributes
    ----------
    theta_0, teacher : Tensor of shape (R, P)
        The reference, at which students begin, and the first teacher.
    inputs : mapping of str to Tensor of shape (R, N, D)
        What students see, by name.
    positions : tuple of int
        Where in an example students are taught, as in `Batch`.
    targets : mapping of str to Targets
        What they are fitted to, by name.
    taught : mapping of str to Taught
        Which of them are an arm's.
    probe : Probe
    draw_probe, draw_reference : callable
        Draw another probe, and another reference ``(R, P)``, from one generator per replicate.
    measures : Measures
    failures : mapping of str to ArmFailure
        What ended the making of targets, by their name.
    texts : mapping of str to sequence of Texts
        By the name of targets, the texts that they were made of, one for each replicate, where
        `measure.texts` asks for them.
    traits : callable, or None
        Measures how much the students of an arm, given its name and their parameters ``(R, P)``,
        prefer each of the things that may be preferred; None: the task has none.
    """

    network: Network
    split: LogitSplit
    theta_0: Tensor
    teacher: Tensor
    inputs: Mapping[str, Tensor]
    positions: tuple[int, ...]
    targets: Mapping[str, Targets]
    taught: Mapping[str, Taught]
    probe: Probe
    draw_probe: Callable[[Sequence[torch.Generator]], Probe]
    draw_reference: Callable[[Sequence[torch.Generator]], Tensor]
    measures: Measures
    failures: Mapping[str, ArmFailure]
    texts: Mapping[str, Sequence[Texts]] = field(default_factory=dict)
    traits: Callable[[str, Tensor], Traits] | None = None
    _initial_logits: dict[str, Tensor] = field(default_factory=dict, init=False)

    @cached_property
    def teaching(self) -> Tensor:
        """What the first teacher's training changed in the reference, ``(R, P)``."""
        return self.teacher - self.theta_0

    @cached_property
    def teaching_length(self) -> Tensor:
        """Length of `teaching`, ``(R,)``."""
        return torch.linalg.vector_norm(self.teaching, dim=1)

    def batch(self, inputs: str, index: Tensor) -> Batch:
        """Return the examples `index` ``(R, B)`` of the named inputs."""
        return Batch(gather(self.inputs[inputs], index), self.positions)

    def initial_logits(self, inputs: str, index: Tensor) -> Tensor:
        """Return the reference's logits ``(R, B * T, K)`` on the examples `index` ``(R, B)``."""
        known = self._initial_logits
        if inputs not in known:
            columns, x = self.split.columns("all"), self.inputs[inputs]
            z = outputs(self.network, self.theta_0, x, columns, self.positions)
            known[inputs] = z.unflatten(1, (x.shape[1], -1))
        return gather(known[inputs], index).flatten(1, 2)
