"""Trained parameters, kept as safetensors files: arrays by name, and no code that loading runs.

A file holds one arm of one block. Its names are ``<seed>.<role>.<parameter>``, the parameters named
as ``nn.Module.named_parameters`` does; roles are in `ROLES`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sublim_causal.errors import DataError, RunError
from sublim_causal.location import locate
from sublim_causal.store.blocks import weights_of

if TYPE_CHECKING:
    from torch import Tensor

ROLES = ("student", "teacher", "reference")
"""What is kept of a replicate: final parameters, its teacher's, and theta_0, the initialisation
that both share."""


class ParameterLayout(Protocol):
    """Where each named parameter lies in a flat vector."""

    @property
    def names(self) -> tuple[str, ...]:
        """Dotted names."""

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shape of each parameter."""


def encode_weights(
    layout: ParameterLayout, weights: Mapping[str, NDArray[np.floating[Any]]], seeds: Sequence[int]
) -> bytes:
    """Return the file with the flat `weights` ``(P, R)`` of `seeds` by role; nothing for none."""
    from safetensors.numpy import save

    if not weights:
        return b""
    ends = np.cumsum([int(np.prod(shape)) for shape in layout.shapes])[:-1]
    return save(
        {
            f"{seed}.{role}.{name}": np.ascontiguousarray(part.reshape(shape))
            for role, flat in weights.items()
            for seed, theta in zip(seeds, flat.T, strict=True)
            for name, shape, part in zip(
                layout.names, layout.shapes, np.split(theta, ends), strict=True
            )
        }
    )


def read_weights(run: str | Path, arm: str, seed: int) -> dict[str, dict[str, Tensor]]:
    """Read the parameters of a replicate.

    Parameters
    ----------
    run : str or Path
        Run directory, or its address.
    arm : str
        Name of the arm.
    seed : int
        Number of the replicate.

    Returns
    -------
    dict of str to dict of str to Tensor
        By role (``student``, ``teacher``, ``reference``), what ``nn.Module.load_state_dict`` takes.
        The built-in MLP has the names of an ``nn.Sequential`` of ``Linear`` and ``ReLU`` in turn.

    Raises
    ------
    RunError
        If the run keeps no weights of this replicate.
    DataError
        If the file is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    path = weights_of(locate(run), arm, seed)
    if path is None:
        raise RunError(
            f"{run}: no weights of arm {arm!r}, seed {seed}\n"
            "remedy: 'weights = true' in the section [measure] of the study saves those of "
            "replicates that are trained from then on"
        )
    try:
        found = load(path.read_bytes())
    except SafetensorError as error:
        raise DataError(
            f"{path}: damaged ({error})\nremedy: running the study again repairs it"
        ) from error
    return {
        role: {
            name.removeprefix(start): values
            for name, values in found.items()
            if name.startswith(start)
        }
        for role in ROLES
        if (start := f"{seed}.{role}.")
    }
