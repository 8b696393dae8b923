"""What a run keeps so that no start makes it again: references, teachers and texts of a seed.

A file ``networks/<role>/<seed>-<digest>.safetensors`` holds one network. The digest is that of all
that determines it; the file holds another one, of its numbers, without which it is not used.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sublim_causal.location import read_files, write_atomically

if TYPE_CHECKING:
    import torch
    from torch import Tensor

NETWORKS = "networks"
"""Folder of a run."""
CONTENT = "sublim_causal.content"
"""Key in the metadata of a file under which the hash of its numbers stands."""


@dataclass(frozen=True)
class KeptNetworks:
    """The networks of a block's seeds in a run: a `Keep`.

    Attributes
    ----------
    run : Path
    seeds : sequence of int
        The R replicates.
    definition : mapping
        All that determines the numbers of the run.
    """

    run: Path
    seeds: Sequence[int]
    definition: Mapping[str, Any]

    def __call__(
        self, role: str, generators: Sequence[torch.Generator], train: Callable[[], Tensor]
    ) -> Tensor:
        """Return the parameters ``(R, P)``: those that are kept, or trained and kept from now on.

        If some seeds lack theirs, or the file is damaged, `train` is called for all of the block.
        """
        import torch

        paths = [
            self._path(role, seed, generator.initial_seed())
            for seed, generator in zip(self.seeds, generators, strict=True)
        ]
        kept = [self._decode(data) for data in read_files(paths)]
        if all(values is not None for values in kept):
            return torch.from_numpy(np.stack([v for v in kept if v is not None]))
        theta = train()
        for row, (path, values) in enumerate(zip(paths, kept, strict=True)):
            if values is None:
                write_atomically(path, encode(theta[row].cpu().numpy()))
            else:
                theta[row] = torch.from_numpy(values).to(theta)
        return theta

    def _path(self, role: str, seed: int, stream: int) -> Path:
        determined_by = json.dumps([self.definition, role, stream], sort_keys=True)
        digest = hashlib.sha256(determined_by.encode()).hexdigest()[:16]
        return self.run / NETWORKS / role / f"{seed:07d}-{digest}.safetensors"

    def _decode(self, data: bytes | Exception) -> NDArray[np.floating[Any]] | None:
        return None if isinstance(data, Exception) else decode(data)


def encode(theta: NDArray[np.floating[Any]]) -> bytes:
    """Return the file of one network ``(P,)``."""
    from safetensors.numpy import save

    return save({"parameters": theta}, {CONTENT: _hash(theta)})


def decode(data: bytes) -> NDArray[np.floating[Any]] | None:
    """Return the numbers that a file holds; None if it is damaged."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        theta = load(data)["parameters"]
        length = int.from_bytes(data[:8], "little")
        content = json.loads(data[8 : 8 + length])["__metadata__"][CONTENT]
    except (SafetensorError, ValueError, KeyError, TypeError):
        return None
    return theta if content == _hash(theta) else None


def _hash(theta: NDArray[np.floating[Any]]) -> str:
    return hashlib.blake2b(theta.tobytes(), digest_size=16).hexdigest()
