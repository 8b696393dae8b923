"""Gradients and parameters of a network as vectors ``(P,)``, and how it is trained."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from sublim_causal.experiment.config import TrainingConfig


def flat(tensors: Iterable[Tensor]) -> Tensor:
    """Return a copy of `tensors` as one vector."""
    return torch.cat([t.detach().flatten() for t in tensors])


def parts_of(model: nn.Module, vector: Tensor) -> list[Tensor]:
    """Return `vector` ``(P,)`` as tensors of the parameters' shapes."""
    parameters = list(model.parameters())
    parts = vector.split([p.numel() for p in parameters])
    return [part.view_as(p) for part, p in zip(parts, parameters, strict=True)]


def set_gradient(model: nn.Module, vector: Tensor) -> None:
    """Give the optimizer `vector` as the gradient."""
    for p, part in zip(model.parameters(), parts_of(model, vector), strict=True):
        p.grad = part.clone()


def set_parameters(model: nn.Module, vector: Tensor) -> None:
    """Move the model to the parameters `vector`."""
    with torch.no_grad():
        for p, part in zip(model.parameters(), parts_of(model, vector), strict=True):
            p.copy_(part)


def gradient(loss: Tensor, model: nn.Module) -> Tensor:
    """Return the gradient ``(P,)`` of `loss`."""
    return flat(torch.autograd.grad(loss, list(model.parameters())))


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Return the cosine of two vectors; 0 if one of them is zero."""
    norms = a.norm() * b.norm()
    return a @ b / norms if norms else torch.zeros(())


def divergence(taught: Tensor, logits: Tensor) -> Tensor:
    """Return KL(softmax(taught) || softmax(logits)), the mean over all but the last axis."""
    q, log_s = F.softmax(taught.detach(), dim=-1), F.log_softmax(logits, dim=-1)
    return F.kl_div(log_s, q, reduction="none").sum(dim=-1).mean()


def adam_of(model: nn.Module, learning_rate: float) -> torch.optim.Adam:
    """Return Adam, one tensor at a time."""
    return torch.optim.Adam(model.parameters(), lr=learning_rate, foreach=False, fused=False)


def batches(order: torch.Generator, count: int, config: TrainingConfig) -> Iterable[Tensor]:
    """Yield the examples of each step; every epoch draws an order of its own."""
    for _ in range(config.epochs):
        yield from torch.randperm(count, generator=order).split(config.batch_size)
