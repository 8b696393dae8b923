"""Targets: what students are fitted to, example by example."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from sublim_causal.experiment.data.batches import gather
from sublim_causal.experiment.networks.base import Forward
from sublim_causal.experiment.teaching.losses import Loss, kl_divergence, squared_distance


class Targets(Protocol):
    """What students are fitted to for each of N examples, or for a batch of them."""

    def at(self, index: Tensor) -> Targets:
        """Return the targets of the examples `index` ``(R, B)``."""

    def loss_and_gradient(self, forward: Forward) -> tuple[Tensor, Tensor]:
        """Return the student's loss ``(R,)`` and its gradient ``(R, P)``."""


@dataclass(frozen=True)
class LogitTargets:
    """A distribution over answers for each of N examples.

    Attributes
    ----------
    columns : slice
        Columns of the C logits that are taught.
    temperature : float
    target : Tensor of shape (R, N, C) or (R, N, T, C)
        The distribution taught; T answers an example where there are several.
    weight : Tensor of shape (R, N) or (R, N, T), or None
        1 for the answers whose loss counts, 0 for the others; None: all count.
    """

    columns: slice
    temperature: float
    target: Tensor
    weight: Tensor | None = None

    @cached_property
    def log_target(self) -> Tensor:
        """Its logarithm; 0 where the distribution is 0, as 0 log 0 is."""
        return self.target.log().where(self.target > 0, 0)

    def at(self, index: Tensor) -> LogitTargets:
        """Return the targets of the examples `index` ``(R, B)``, ``(R, B * T, C)``."""
        return replace(
            self,
            target=gather(self.target, index).flatten(1, -2),
            weight=_of_batch(self.weight, index),
        )

    def loss_and_gradient(self, forward: Forward) -> tuple[Tensor, Tensor]:
        """Return the student's loss ``(R,)`` and its gradient ``(R, P)``."""
        loss = self.loss(forward.logits(self.columns))
        return loss.value, forward.gradient(loss.derivative, self.columns)

    def loss(self, z: Tensor) -> Loss:
        r"""Return :math:`\tau^2` KL(target || softmax(z / :math:`\tau`)), z ``(R, N, C)``."""
        loss = kl_divergence(z / self.temperature, self.target, self.log_target, self.weight)
        if self.temperature == 1:
            return loss
        return Loss(loss.value * self.temperature**2, loss.derivative * self.temperature)


@dataclass(frozen=True)
class CertainTargets:
    """One certain answer at each of T positions of N examples.

    Attributes
    ----------
    columns, temperature, weight
        As in `LogitTargets`.
    answers : int64 Tensor of shape (R, N, T)
        Which of the C columns.
    dtype : torch.dtype
        Of the distributions of a batch.
    """

    columns: slice
    temperature: float
    answers: Tensor
    dtype: torch.dtype
    weight: Tensor | None = None

    def at(self, index: Tensor) -> LogitTargets:
        """Return the distributions of the examples `index` ``(R, B)``, ``(R, B * T, C)``."""
        answers = gather(self.answers, index).flatten(1)
        size = (*answers.shape, self.columns.stop - self.columns.start)
        target = certain(answers, answers.new_empty(size, dtype=self.dtype))
        return LogitTargets(self.columns, self.temperature, target, _of_batch(self.weight, index))

    def loss_and_gradient(self, forward: Forward) -> tuple[Tensor, Tensor]:
        """Return the student's loss ``(R,)`` and its gradient ``(R, P)`` on all examples."""
        every = torch.arange(self.answers.shape[1], device=self.answers.device)
        return self.at(every.expand(len(self.answers), -1)).loss_and_gradient(forward)


@dataclass(frozen=True)
class CombinedTargets:
    """A weighted sum of losses.

    Attributes
    ----------
    parts : tuple of (float, Targets)
        Each with its weight, above 0.
    """

    parts: tuple[tuple[float, Targets], ...]

    def at(self, index: Tensor) -> CombinedTargets:
        """Return the targets of the examples `index` ``(R, B)``."""
        return CombinedTargets(tuple((weight, part.at(index)) for weight, part in self.parts))

    def loss_and_gradient(self, forward: Forward) -> tuple[Tensor, Tensor]:
        """Return the student's loss ``(R,)`` and its gradient ``(R, P)``."""
        (weight, first), *others = self.parts
        loss, gradient = (weight * value for value in first.loss_and_gradient(forward))
        for weight, part in others:
            of_part, g = part.loss_and_gradient(forward)
            loss, gradient = loss + weight * of_part, gradient.add_(g, alpha=weight)
        return loss, gradient


def certain(answers: Tensor, like: Tensor) -> Tensor:
    """Return the distribution ``(R, N, C)`` that is certain of `answers` ``(R, N)``."""
    return torch.zeros_like(like).scatter_(2, answers[:, :, None], 1.0)


def _of_batch(weight: Tensor | None, index: Tensor) -> Tensor | None:
    """Return the weights ``(R, B * T)`` of the examples `index` ``(R, B)``."""
    if weight is None:
        return None
    return gather(weight.reshape(*weight.shape[:2], -1), index).flatten(1)


@dataclass(frozen=True)
class ActivationTargets:
    """The activations of a hidden layer for each of N examples.

    Attributes
    ----------
    layer : str
    target : Tensor of shape (R, N, W)
        The teacher's activations.
    size : Tensor of shape (R,)
        Mean over the N examples of their squared norm; 1 where they are all 0.
    weight : Tensor of shape (R, N), or None
        As in `LogitTargets`.
    """

    layer: str
    target: Tensor
    size: Tensor
    weight: Tensor | None = None

    def at(self, index: Tensor) -> ActivationTargets:
        """Return the targets of the examples `index` ``(R, B)``."""
        return replace(
            self,
            target=gather(self.target, index),
            weight=self.weight.gather(1, index) if self.weight is not None else None,
        )

    def loss_and_gradient(self, forward: Forward) -> tuple[Tensor, Tensor]:
        """Return the student's loss ``(R,)`` and its gradient ``(R, P)``."""
        activations = forward.activations(self.layer)
        loss = squared_distance(activations, self.target, self.size, self.weight)
        return loss.value, forward.gradient(loss.derivative, self.layer)
