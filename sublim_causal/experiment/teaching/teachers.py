"""The teacher: a supervised training phase over a block of replicates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from sublim_causal.experiment.config import Optimizer, TrainingConfig
from sublim_causal.experiment.data.batches import gather, steps
from sublim_causal.experiment.data.sources import ImageTensors
from sublim_causal.experiment.muon import Muon
from sublim_causal.experiment.networks.base import Batch, Layout, Network
from sublim_causal.experiment.teaching.losses import cross_entropy

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


def train_teacher(
    network: Network,
    theta_0: Tensor,
    data: ImageTensors,
    classes: slice,
    config: TrainingConfig,
    generators: Sequence[torch.Generator],
    after_step: Callable[[], None],
    perturb: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None,
) -> Tensor:
    """Train R teachers from `theta_0` on the class logits of the training images.

    Parameters
    ----------
    theta_0 : Tensor of shape (R, P)
        The references; left as they are.
    classes : slice
        Columns of the class logits.
    generators : sequence of torch.Generator
        One per replicate, for the order of the images.
    after_step : callable
        Called after every step.
    perturb : callable, optional
        Returns the images ``(R, B, D)`` to learn from, given parameters, images and labels
        ``(R, B)``; default: the images as they are.

    Returns
    -------
    Tensor of shape (R, P)
    """
    theta = theta_0.clone()
    optimizer = make_optimizer(theta, config.optimizer, config.learning_rate, network.layout)
    examples = len(data.train_y)
    for step in steps(generators, examples, config.batch_size, config.epochs, theta.device):
        pixels, labels = gather(data.train_x, step.index), data.train_y[step.index]
        if perturb is not None:
            pixels = perturb(theta, pixels, labels)
        forward = network.forward(theta, Batch(pixels))
        loss = cross_entropy(forward.logits(classes), labels)
        theta.grad = forward.gradient(loss.derivative, classes)
        optimizer.step()
        after_step()
    return theta
