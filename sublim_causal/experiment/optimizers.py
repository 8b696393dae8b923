"""Optimizers of a block of replicates."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from sublim_causal.experiment.config import Optimizer
from sublim_causal.experiment.muon import Muon
from sublim_causal.experiment.networks.base import Layout

OPTIMIZERS: dict[Optimizer, Callable[..., torch.optim.Optimizer]] = {
    "adam": partial(torch.optim.Adam, fused=True),
    "adamw": partial(torch.optim.AdamW, weight_decay=0.01, fused=True),
    "sgd": torch.optim.SGD,
    "momentum": partial(torch.optim.SGD, momentum=0.9),
    "muon": Muon,
}
"""By the name that a study file uses."""


def make_optimizer(
    theta: Tensor, name: Optimizer, learning_rate: float, layout: Layout
) -> torch.optim.Optimizer:
    """Return an optimizer of the flat parameters ``(R, P)``; replicates do not mix in it."""
    of_matrices = {"layout": layout} if name == "muon" else {}
    return OPTIMIZERS[name]([theta], lr=learning_rate, **of_matrices)
