"""Named random streams: every draw depends on (study, seed, purpose) and on nothing else."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


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
    """Return a CPU generator of its own for ``(study, seed, purpose)``.

    Draws are made on the CPU whatever the training device, so that they are the same everywhere.
    """
    import torch

    return torch.Generator().manual_seed(stream_seed(study, seed, purpose))
