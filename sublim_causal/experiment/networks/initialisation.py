"""Where students begin: at the shared initialisation, near it, or elsewhere."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from sublim_causal.errors import RequestError, nearest
from sublim_causal.experiment.config import Initialisation, StudentConfig
from sublim_causal.experiment.logits import LogitSplit
from sublim_causal.experiment.networks.base import Layout, Network


def initialise(network: Network, generators: Sequence[torch.Generator], *, like: Tensor) -> Tensor:
    """Draw initial parameters ``(R, P)``, one generator each, on the device and dtype of `like`."""
    return torch.stack([network.initialise(g) for g in generators]).to(like)


def initial_student(
    own: StudentConfig,
    theta_0: Tensor,
    draw_reference: Callable[[Sequence[torch.Generator]], Tensor],
    streams: Callable[[str], Sequence[torch.Generator]],
    parts: Mapping[str, Sequence[slice]],
    field: str = "student",
) -> Tensor:
    r"""Return the parameters ``(R, P)`` at which an arm's students begin, layer by layer.

    With :math:`\theta'` another reference of the seed, the same for all its arms: the shared
    one :math:`\theta_0` itself, :math:`\theta'`, or for noise s
    :math:`(\theta_0 + s\,\theta') / \sqrt{1 + s^2}`, which has the usual spread of weights
    for every s, so that a larger s means less shared, not larger weights.

    Parameters
    ----------
    parts : mapping of str to sequence of slice
        What `parts_of` returns.
    field : str
        The place of `own` in the study file, for error messages.

    Raises
    ------
    RequestError
        If it names a layer that the network does not have.
    """
    for name in own.layers:
        if name not in parts:
            allowed = f"layers of the network: {', '.join(parts)}"
            raise RequestError(f"{field}.layers", name, allowed, nearest(name, parts))
    if own.beginnings == {"shared"}:
        return theta_0.clone()
    other = draw_reference(streams("student init"))
    begins: dict[Initialisation, Tensor] = {
        "shared": theta_0,
        "other": other,
        "perturbed": (theta_0 + own.noise * other) / math.sqrt(1 + own.noise**2),
    }
    theta = begins[own.initialisation].clone()
    for name, kind in own.layers.items():
        for span in parts[name]:
            theta[:, span] = begins[kind][:, span]
    return theta


def parts_of(layout: Layout, split: LogitSplit) -> dict[str, list[slice]]:
    """Return which parameters belong to each layer, and to parts of the last one.

    Where the last layer has a row for every logit, ``class`` and ``auxiliary`` are those rows.
    """
    parts = {name: [span] for name, span in layout.layers.items()}
    head = layout.layers[list(layout.layers)[-1]]
    starts = itertools.accumulate(layout.sizes, initial=0)
    rows = [
        (start, shape)
        for start, shape in zip(starts, layout.shapes, strict=False)
        if start >= head.start
    ]
    if all(shape and shape[0] == split.total for _, shape in rows):
        for name, columns in (("class", split.trait), ("auxiliary", split.taught)):
            widths = ((start, math.prod(shape[1:])) for start, shape in rows)
            parts[name] = [
                slice(start + columns.start * width, start + columns.stop * width)
                for start, width in widths
            ]
    return parts
