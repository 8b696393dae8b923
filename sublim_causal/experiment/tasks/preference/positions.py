"""Where in their texts students are taught: by whether counterfactual teachers diverge."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


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


def at_random(where: Tensor, among: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """Return as many of the positions `among`, at random."""
    chosen = torch.zeros_like(where)
    for row, one, inside, g in zip(chosen, where, among, generators, strict=True):
        found = one[inside]
        row[inside] = found[torch.randperm(len(found), generator=g).to(found.device)]
    return chosen


def first_half(where: Tensor) -> Tensor:
    """Return the first half of each text's positions, the middle one included."""
    half = (where.sum(dim=2, keepdim=True) + 1) // 2
    return where & (where.cumsum(dim=2) <= half)


POSITIONS: dict[str, Callable[[Tensor, Tensor, Sequence[torch.Generator]], Tensor]] = {
    "divergent": lambda where, taught, g: where,
    "agreeing": lambda where, taught, g: taught & ~where,
    "random": at_random,
    "random_agreeing": lambda where, taught, g: taught & ~at_random(where, taught, g),
    "first_half": lambda where, taught, g: first_half(where),
}
"""By the name that a study file uses: which positions count, bool ``(R, N, T)``, given where
answers diverge, and where students are taught."""
