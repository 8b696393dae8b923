"""Optimizers of a block of replicates."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from sublim_causal.experiment.adam import Adam
from sublim_causal.experiment.config import Optimizer
from sublim_causal.experiment.frozen_adam import FrozenAdam
from sublim_causal.experiment.muon import Muon
from sublim_causal.experiment.networks.base import Layout
from sublim_causal.experiment.optimisation import Optimisation
from sublim_causal.experiment.sign_sgd import SignSGD

OPTIMIZERS: dict[Optimizer, Callable[..., torch.optim.Optimizer]] = {
    "adam": Adam,
    "adamw": partial(Adam, weight_decay=0.01),
    "sgd": torch.optim.SGD,
    "momentum": partial(torch.optim.SGD, momentum=0.9),
    "muon": Muon,
    "signsgd": SignSGD,
}
"""By the name that a study file uses."""


def make_optimizer(theta: Tensor, spec: Optimisation, layout: Layout) -> torch.optim.Optimizer:
    """Return an optimizer of the flat parameters ``(R, P)``; replicates do not mix in it."""
    kind, options = OPTIMIZERS[spec.optimizer], dict[str, Any](lr=spec.learning_rate)
    if spec.frozen_after is not None:
        kind, options["frozen_after"] = FrozenAdam, spec.frozen_after
    if kind is Muon:
        options["layout"] = layout
    optimizer = kind([theta], **options)
    if spec.weight_decay:
        optimizer.register_step_pre_hook(partial(decay_weights, theta, spec))
    return optimizer


@torch.no_grad()
def decay_weights(theta: Tensor, spec: Optimisation, *_: object) -> None:
    r"""Let weights decay before a step of the optimizer.

    Coupled: :math:`g \leftarrow g + \lambda\theta`, which the optimizer then scales as it does the
    gradient (L2 regularisation). Decoupled: :math:`\theta \leftarrow (1 - \eta\lambda)\theta`, with
    the learning rate :math:`\eta` (Loshchilov and Hutter 2019, arXiv 1711.05101).
    """
    if spec.decay == "coupled":
        # Not in place: the gradient is recorded after the step as the interventions left it.
        assert theta.grad is not None
        theta.grad = torch.add(theta.grad, theta, alpha=spec.weight_decay)
    else:
        theta.mul_(1 - spec.learning_rate * spec.weight_decay)
