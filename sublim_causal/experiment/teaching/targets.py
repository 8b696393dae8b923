"""Targets: what students are fitted to, example by example."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from torch import Tensor

from sublim_causal.experiment.data.batches import gather
from sublim_causal.experiment.networks.base import Forward
from sublim_causal.experiment.teaching.losses import Loss, kl_divergence, squared_distance

if TYPE_CHECKING:
    pass


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
    target, log_target : Tensor of shape (R, N, C) or (R, N, T, C)
        The distribution taught, and its logarithm (0 where the distribution is 0, as 0 log 0 is);
        T answers an example where there are several.
    weight : Tensor of shape (R, N) or (R, N, T), or None
        1 for the answers whose loss counts, 0 for the others; None: all count.
    """

    columns: slice
    temperature: float
    target: Tensor
    log_target: Tensor
    weight: Tensor | None = None

    def at(self, index: Tensor) -> LogitTargets:
        """Return the targets of the examples `index` ``(R, B)``, ``(R, B * T, C)``."""
        weight = None
        if self.weight is not None:
            by_example = self.weight.reshape(*self.weight.shape[:2], -1)
            weight = gather(by_example, index).flatten(1)
        return replace(
            self,
            target=gather(self.target, index).flatten(1, -2),
            log_target=gather(self.log_target, index).flatten(1, -2),
            weight=weight,
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
