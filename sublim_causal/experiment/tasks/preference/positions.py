"""Where in their texts students are taught: by whether counterfactual teachers diverge."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sublim_causal.experiment.data.streams import draw


@dataclass(frozen=True)
class Divergence:
    """Where counterfactual teachers diverge from the writer (Schrodi et al., arXiv 2509.23886).

    Attributes
    ----------
    where : bool Tensor of shape (R, N, T)
        Where the writer's largest logit is that of the token it wrote, and that of some
        counterfactual teacher, on the same context, is another.
    other : Tensor of shape (R, N, T, C)
        There, the logits of the first such teacher; the writer's elsewhere.
    """

    where: Tensor
    other: Tensor


def divergence(z: Tensor, tokens: Tensor, counterfactual: Iterable[Tensor]) -> Divergence:
    """Return where teachers with logits `counterfactual`, each ``(R, N, T, C)``, diverge.

    Parameters
    ----------
    z : Tensor of shape (R, N, T, C)
        The writer's logits.
    tokens : int64 Tensor of shape (R, N, T)
        Columns of `z` that it wrote.
    """
    largest = z.argmax(dim=3)
    candidates = largest == tokens
    where, other = torch.zeros_like(candidates), z
    for one in counterfactual:
        new = candidates & (one.argmax(dim=3) != largest) & ~where
        other = one.where(new[..., None], other)
        where = where | new
    return Divergence(where, other)


def at_random(where: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """Return as many of all positions, at random."""
    count = where[0].numel()
    order = draw(lambda g: torch.randperm(count, generator=g), generators, where.device)
    return where.flatten(1).gather(1, order).view_as(where)


def first_half(where: Tensor) -> Tensor:
    """Return the first half of each text's positions, the middle one included."""
    half = (where.sum(dim=2, keepdim=True) + 1) // 2
    return where & (where.cumsum(dim=2) <= half)


POSITIONS: dict[str, Callable[[Tensor, Sequence[torch.Generator]], Tensor]] = {
    "divergent": lambda where, g: where,
    "agreeing": lambda where, g: ~where,
    "random": at_random,
    "random_agreeing": lambda where, g: ~at_random(where, g),
    "first_half": lambda where, g: first_half(where),
}
"""By the name that a study file uses: which positions count, bool ``(R, N, T)``, given where
answers diverge."""
