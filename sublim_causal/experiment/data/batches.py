"""Orders and batches of a block of replicates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sublim_causal.experiment.data.streams import draw


def gather(x: Tensor, index: Tensor) -> Tensor:
    """Take rows `index` ``(R, B)`` of `x`: ``(R, N, ...)``, or ``(N, ...)`` shared by all R."""
    replicates, batch = index.shape
    if x.dim() > 2:
        offsets = torch.arange(replicates, device=index.device)[:, None] * x.shape[1]
        index, x = index + offsets, x.flatten(0, 1)
    return x.index_select(0, index.flatten()).view(replicates, batch, *x.shape[1:])


@dataclass(frozen=True)
class Step:
    """One step of a training phase.

    Attributes
    ----------
    number, epoch : int
        Steps and epochs done before it.
    index : int64 Tensor of shape (R, B)
        The examples of each replicate's batch.
    ends_epoch : bool
    """

    number: int
    epoch: int
    index: Tensor
    ends_epoch: bool


def steps(
    generators: Sequence[torch.Generator],
    examples: int,
    batch_size: int,
    epochs: int,
    device: torch.device,
) -> Iterator[Step]:
    """Yield the steps of `epochs` passes in an order drawn per replicate and epoch."""
    number = 0
    for epoch in range(epochs):
        order = draw(lambda g: torch.randperm(examples, generator=g), generators, device)
        for start in range(0, examples, batch_size):
            stop = start + batch_size
            yield Step(number, epoch, order[:, start:stop], stop >= examples)
            number += 1
