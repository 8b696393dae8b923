"""Optimizers of a block of replicates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from sublim_causal.experiment.config import Optimizer
from sublim_causal.experiment.networks.base import Layout
from sublim_causal.experiment.optimisation import Optimisation
from sublim_causal.experiment.optimizers.adam import Adam, FrozenAdam
from sublim_causal.experiment.optimizers.muon import Muon
from sublim_causal.experiment.optimizers.sgd import SGD, SignSGD


class BlockOptimizer(Protocol):
    """Moves the flat parameters `theta` ``(R, P)`` of R replicates, which do not mix in it.

    Made of `theta`, whose ``grad`` is the gradient, and `lr`, the step size.

    Not a ``torch.optim.Optimizer``, of which the first one that is made imports the compiler of
    torch, about as long as torch itself.
    """

    def step(self) -> None:
        """Move the parameters by their ``grad``."""


OPTIMIZERS: dict[Optimizer, Callable[..., BlockOptimizer]] = {
    "adam": Adam,
    "adamw": partial(Adam, weight_decay=0.01),
    "sgd": SGD,
    "momentum": partial(SGD, momentum=0.9),
    "muon": Muon,
    "signsgd": SignSGD,
}
"""By the name that a study file uses."""


def make_optimizer(theta: Tensor, spec: Optimisation, layout: Layout) -> BlockOptimizer:
    """Return an optimizer of the flat parameters ``(R, P)``."""
    kind, options = OPTIMIZERS[spec.optimizer], dict[str, Any](lr=spec.learning_rate)
    if spec.frozen_after is not None:
        kind, options["frozen_after"] = FrozenAdam, spec.frozen_after
    if kind is Muon:
        options["layout"] = layout
    optimizer = kind(theta, **options)
    return WithDecay(optimizer, theta, spec) if spec.weight_decay else optimizer


@dataclass(frozen=True)
class WithDecay:
    r"""Lets weights decay before each step of `optimizer`.

    Coupled: :math:`g \leftarrow g + \lambda\theta`, which the optimizer then scales as it does the
    gradient (L2 regularisation). Decoupled: :math:`\theta \leftarrow (1 - \eta\lambda)\theta`, with
    the learning rate :math:`\eta` (Loshchilov and Hutter 2019, arXiv 1711.05101).
    """

    optimizer: BlockOptimizer
    theta: Tensor
    spec: Optimisation

    @torch.no_grad()
    def step(self) -> None:
        """Let weights decay, then move them."""
        theta, spec = self.theta, self.spec
        if spec.decay == "coupled":
            # Not in place: the gradient is recorded after the step as the interventions left it.
            assert theta.grad is not None
            theta.grad = torch.add(theta.grad, theta, alpha=spec.weight_decay)
        else:
            theta.mul_(1 - spec.learning_rate * spec.weight_decay)
        self.optimizer.step()
