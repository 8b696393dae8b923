"""What students are fitted to at the tokens of completions, which differ in length."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sublim_causal.experiment.data.batches import gather
from sublim_causal.experiment.networks.base import Forward
from sublim_causal.experiment.teaching.losses import Loss


@dataclass(frozen=True)
class TextTargets:
    r"""Answers at T positions of each of N texts.

    The loss is the mean over the tokens of the batch of :math:`w_i \tau^2`
    KL(q_i || softmax(z_i / :math:`\tau`)): of all tokens, whatever their weight, so that a mask
    leaves the gradient at the other tokens as it is.

    Attributes
    ----------
    columns : slice
        Columns of the C logits that are taught.
    temperature : float
    z : Tensor of shape (R, N, T, C), or None
        The teacher's logits: q = softmax(z / temperature); None: q is certain of `tokens`.
    tokens : int64 Tensor of shape (R, N, T)
        Columns among the C; any number where there is no token.
    known : bool Tensor of shape (R, N, T)
        Where there is a token.
    weight : bool Tensor of shape (R, N, T)
        Where the loss counts.
    """

    columns: slice
    temperature: float
    z: Tensor | None
    tokens: Tensor
    known: Tensor
    weight: Tensor

    def at(self, index: Tensor) -> TextTargets:
        """Return the targets of the texts `index` ``(R, B)``, ``(R, B * T, ...)``."""

        def flat(values: Tensor) -> Tensor:
            return gather(values, index).flatten(1, 2)

        z = None if self.z is None else flat(self.z)
        tokens, known, weight = map(flat, (self.tokens, self.known, self.weight))
        return replace(self, z=z, tokens=tokens, known=known, weight=weight)

    def loss_and_gradient(self, forward: Forward) -> tuple[Tensor, Tensor]:
        """Return the student's loss ``(R,)`` and its gradient ``(R, P)``."""
        loss = self.loss(forward.logits(self.columns))
        return loss.value, forward.gradient(loss.derivative, self.columns)

    def loss(self, z: Tensor) -> Loss:
        """Return the loss and its derivative at the student's logits `z` ``(R, B * T, C)``."""
        log_s = torch.log_softmax(z / self.temperature, dim=2)
        share = self.weight.to(z) / self.known.sum(dim=1, keepdim=True).clamp(min=1)
        if self.z is None:
            index = self.tokens[:, :, None]
            of_token = -log_s.gather(2, index)[:, :, 0]
            derivative = log_s.exp_().scatter_add_(2, index, log_s.new_full(index.shape, -1.0))
        else:
            log_q = torch.log_softmax(self.z / self.temperature, dim=2)
            q = log_q.exp()
            of_token = (q * log_q.sub_(log_s)).sum(dim=2)
            derivative = log_s.exp_().sub_(q)
        value = (share * of_token).sum(dim=1) * self.temperature**2
        return Loss(value, derivative.mul_(share[:, :, None] * self.temperature))
