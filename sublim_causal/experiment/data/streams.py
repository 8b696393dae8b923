"""Named random streams: every draw depends on (study, seed, purpose) and on nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor

DRAWS, STEPS = ThreadPoolExecutor(), ThreadPoolExecutor()
"""Threads in which replicates, and what a later step needs of all of them, are drawn for a GPU."""


def stream_seed(study: str, seed: int, purpose: str) -> int:
    """Hash ``(study, seed, purpose)`` to a 63-bit seed.

    Parameters
    ----------
    study : str
        Name of the study.
    seed : int
        Number of the replicate; -1 for what all replicates of a study share.
    purpose : str
        What the numbers are for: ``"init"``, ``"noise"``, ``"probe"``, ...
    """
    key = f"{study}\x1f{seed}\x1f{purpose}".encode()
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big") >> 1


def stream(study: str, seed: int, purpose: str) -> torch.Generator:
    """Return a new CPU generator for ``(study, seed, purpose)``.

    Numbers are drawn on the CPU, also for training on a GPU, so that they are the same everywhere.
    """
    import torch

    return torch.Generator().manual_seed(stream_seed(study, seed, purpose))


@dataclass(frozen=True)
class SeedStreams:
    """The random streams of a block's seeds: called with a purpose, one generator for each seed."""

    study: str
    seeds: Sequence[int]

    def __call__(self, purpose: str) -> list[torch.Generator]:
        """Return new generators at the beginning of their streams."""
        return [stream(self.study, seed, purpose) for seed in self.seeds]


def unfilled(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return memory for numbers to draw on the CPU; a copy from it to a GPU waits for nothing."""
    import torch

    return torch.empty(tuple(shape), dtype=dtype, pin_memory=device.type == "cuda")


def normal(count: int, device: torch.device, generator: torch.Generator) -> Tensor:
    """Draw `count` standard normal numbers, float32, on their way to `device`."""
    import torch

    return unfilled([count], torch.float32, device).normal_(generator=generator)


def draw(
    function: Callable[[torch.Generator], Tensor],
    generators: Sequence[torch.Generator],
    device: torch.device,
) -> Tensor:
    """Return ``(R, ...)`` on `device`: what `function` draws from each replicate's generator.

    For a GPU replicates are drawn in threads, since its blocks have hundreds of them; every
    generator is used by one thread only, so the numbers are the same in any order.

    Parameters
    ----------
    function : callable
        Returns a tensor of the same shape for every generator; draws from nothing else.
    """
    import torch

    first = function(generators[0])
    if len(generators) == 1:
        return first.to(device)[None]
    drawn = torch.empty((len(generators), *first.shape), dtype=first.dtype, device=device)
    drawn[0] = first

    def fill(replicate: int) -> None:
        drawn[replicate].copy_(function(generators[replicate]), non_blocking=True)

    others = range(1, len(generators))
    if device.type == "cpu":  # a worker there has one core
        for replicate in others:
            fill(replicate)
        return drawn
    for _ in DRAWS.map(fill, others):
        continue
    return drawn


class Ahead:
    """What each step draws for a GPU: the next step's is drawn while the GPU computes this one's.

    Parameters
    ----------
    function : callable
        Returns what a step draws, given its number; depends on nothing else.
    """

    def __init__(self, function: Callable[[int], Tensor]) -> None:
        self._function = function
        self._next: tuple[int, Future[Tensor]] | None = None

    def at(self, step: int) -> Tensor:
        """Return what `step` draws, and begin with the step after it."""
        number, drawn = self._next or (-1, None)
        now = drawn.result() if drawn is not None and number == step else self._function(step)
        self._next = step + 1, STEPS.submit(self._function, step + 1)
        return now
