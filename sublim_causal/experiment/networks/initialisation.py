"""Where students begin: at the shared initialisation, near it, or elsewhere."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from sublim_causal.experiment.config import StudentConfig
from sublim_causal.experiment.networks.base import Network


def initialise(network: Network, generators: Sequence[torch.Generator], *, like: Tensor) -> Tensor:
    """Draw initial parameters ``(R, P)``, one generator each, on the device and dtype of `like`."""
    return torch.stack([network.initialise(g) for g in generators]).to(like)


def initial_student(
    own: StudentConfig,
    theta_0: Tensor,
    draw_reference: Callable[[Sequence[torch.Generator]], Tensor],
    streams: Callable[[str], Sequence[torch.Generator]],
) -> Tensor:
    r"""Return the parameters ``(R, P)`` at which an arm's students begin.

    With :math:`\theta'` another reference of the seed, the same for all its arms: the shared
    one :math:`\theta_0` itself, :math:`\theta'`, or for noise s
    :math:`(\theta_0 + s\,\theta') / \sqrt{1 + s^2}`, which has the usual spread of weights
    for every s, so that a larger s means less shared, not larger weights.
    """
    if own.initialisation == "shared":
        return theta_0.clone()
    other = draw_reference(streams("student init"))
    if own.initialisation == "other":
        return other
    return (theta_0 + own.noise * other) / math.sqrt(1 + own.noise**2)
