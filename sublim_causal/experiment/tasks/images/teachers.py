"""Teachers: supervised training over a block of replicates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor

from sublim_causal.experiment.config import Teaching, TrainingConfig
from sublim_causal.experiment.data.batches import gather, steps
from sublim_causal.experiment.data.sources import ImageTensors
from sublim_causal.experiment.data.streams import SeedStreams
from sublim_causal.experiment.networks.base import Batch, Network, outputs
from sublim_causal.experiment.optimisation import of_phase
from sublim_causal.experiment.optimizers import make_optimizer
from sublim_causal.experiment.tasks.images.attack import attacked
from sublim_causal.experiment.teaching.losses import cross_entropy

COUNTERFACTUAL = -1
"""Number of the teacher of the counterfactual trait; teachers of the trait count from 0."""


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
        The initialisations; not changed.
    classes : slice
        Columns of the class logits.
    generators : sequence of torch.Generator
        One per replicate, for the order of the examples.
    after_step : callable
        Called after every step.
    perturb : callable, optional
        Returns the inputs ``(R, B, D)`` to learn from, given parameters, inputs and labels
        ``(R, B)``; default: the inputs as they are.

    Returns
    -------
    Tensor of shape (R, P)
    """
    theta = theta_0.clone()
    optimizer = make_optimizer(theta, of_phase(config), network.layout)
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


@dataclass(frozen=True)
class Teachers:
    """The teachers of a block, each trained when it is first asked for.

    They share initialisation and trait, and differ in the order of their training examples; those
    that are trained for longer see the same order first.
    """

    network: Network
    theta_0: Tensor
    data: ImageTensors
    classes: slice
    streams: SeedStreams
    after_step: Callable[[], None]
    teaching: Teaching
    _trained: dict[tuple[int, Teaching], Tensor] = field(default_factory=dict)

    def parameters(self, number: int = 0) -> Tensor:
        """Return the parameters ``(R, P)`` of a teacher; `number` may be `COUNTERFACTUAL`."""
        key = number, self.teaching
        if key not in self._trained:
            self._trained[key] = self._train(number)
        return self._trained[key]

    def trained_as(self, teaching: Teaching) -> Teachers:
        """Return the same teachers, trained otherwise."""
        return replace(self, teaching=teaching)

    def _train(self, number: int) -> Tensor:
        data = self.data
        if number == COUNTERFACTUAL:
            data = replace(data, train_y=exchanged(data.train_y))
        # Random streams: the first teacher and the counterfactual one share theirs.
        suffix = f" {number}" if number > 0 else ""
        perturb = None
        training, attack = self.teaching
        if attack is not None:
            perturb = partial(
                attacked,
                self.network,
                classes=self.classes,
                config=attack,
                generators=self.streams(f"teacher attack{suffix}"),
            )
        return train_teacher(
            self.network,
            self.theta_0,
            data,
            self.classes,
            training,
            self.streams(f"teacher order{suffix}"),
            self.after_step,
            perturb,
        )

    def outputs(self, number: int, x: Tensor, at: slice | str) -> Tensor:
        """Return logits or activations ``(R, N, C)`` of one teacher for inputs ``(R, N, D)``."""
        return outputs(self.network, self.parameters(number), x, at)

    def outputs_in_turn(self, count: int, x: Tensor, at: slice | str) -> Tensor:
        """Return what `count` teachers put out for `x`, example by example in turn."""
        z = self.outputs(0, x, at)
        for turn in range(1, count):
            z[:, turn::count] = self.outputs(turn, x[:, turn::count], at)
        return z


def exchanged(labels: Tensor) -> Tensor:
    """Return int64 `labels` of the counterfactual trait: 5 to 8 raised by one, 9 set to 5."""
    return labels.where(labels < 5, 5 + (labels - 4) % 5)
