"""A seed of the task `images`: an MLP, its teacher, and noise as the student's inputs.

Covered are the MLP, uniform noise, the teacher's auxiliary logits as the channel, students that
begin at the teacher's initialisation, Adam, and every built-in intervention.
"""

from __future__ import annotations

import itertools
import math
from copy import deepcopy
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from sublim_causal.experiment.config import Experiment
from sublim_causal.experiment.data.sources import ImageTensors
from sublim_causal.experiment.data.streams import stream
from sublim_causal.experiment.reference.interventions import Rows
from sublim_causal.experiment.reference.loop import distil
from sublim_causal.experiment.reference.seed import (
    OneSeed,
    ProbePart,
    one_seed,
    plain_experiment,
    plain_training,
    validate_covered,
)
from sublim_causal.experiment.reference.vectors import adam_of, batches, divergence, gradient


def run_arm(
    experiment: Experiment, seed: int, data: ImageTensors, arm: str, classes: int = 10
) -> Rows:
    """Train the teacher and one student of `seed` under `arm`.

    Returns
    -------
    dict of str to list of float
        Columns of the step table, and ``test_accuracy`` and ``teacher_agreement`` at the end.

    Raises
    ------
    RequestError
        If `experiment` or the arm asks for what is not covered here.
    """
    plain, config = plain_experiment(), experiment.arms[arm]
    validate_covered(
        ("model.class", experiment.model.class_, [plain.model.class_]),
        ("teacher.optimizer", experiment.teacher.optimizer, [plain.teacher.optimizer]),
        ("distillation.optimizer", experiment.distillation.optimizer, [plain.teacher.optimizer]),
        ("distillation.inputs", experiment.distillation.inputs, [plain.distillation.inputs]),
        ("attack", experiment.attack, [plain.attack]),
        *plain_training(experiment),
        (f"arms.{arm}.student", config.student, [plain.arms["a"].student]),
        (f"arms.{arm}.channel", config.channel, [plain.arms["a"].channel]),
        (f"arms.{arm}.targets", config.targets, [plain.arms["a"].targets]),
        (f"arms.{arm}.inputs", config.inputs, [plain.arms["a"].inputs]),
    )
    return distil(begin(experiment, seed, data, classes), arm)


@dataclass(frozen=True)
class ImageTask:
    """Auxiliary logits on noise are taught; how well images are classified is the trait.

    Attributes
    ----------
    probe_x, probe_y : Tensor
        Held-out images ``(B, D)`` and labels ``(B,)`` of the trait loss.
    classes : int
        Class logits; the auxiliary logits come after them.
    """

    data: ImageTensors
    teacher: nn.Sequential
    probe_x: Tensor
    probe_y: Tensor
    classes: int

    def logits(self, model: nn.Module, x: Tensor, which: str) -> Tensor:
        """Return all logits ``(B, C)``, those of the classes, or the auxiliary ones."""
        columns = {
            "all": slice(None),
            "class": slice(0, self.classes),
            "auxiliary": slice(self.classes, None),
        }
        return torch.as_tensor(model(x)[:, columns[which]])

    def distillation_loss(self, student: nn.Module, x: Tensor, channel: str) -> Tensor:
        """Return KL(teacher || student) of the auxiliary logits."""
        taught, logits = (self.logits(model, x, "auxiliary") for model in (self.teacher, student))
        return divergence(taught, logits)

    def trait_loss(self, model: nn.Module, part: ProbePart = "probe") -> Tensor:
        """Return the cross-entropy of the probe's labels."""
        half = len(self.probe_y) // 2
        rows = {"first half": slice(half), "second half": slice(half, None)}.get(part, slice(None))
        y = (self.probe_y + 1) % self.classes if part == "relabelled" else self.probe_y
        return self._loss(model, self.probe_x[rows], y[rows])

    def _loss(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(self.logits(model, x, "class"), y)

    def other_trait(self, student: nn.Module, kind: str, generator: torch.Generator) -> Tensor:
        """Return the gradient with shuffled labels, on another probe, or of another network."""
        x, y = self.probe_x, self.probe_y
        if kind == "labels":
            halves = y.split(len(y) // 2)
            y = torch.cat([part[torch.randperm(len(part), generator=generator)] for part in halves])
        elif kind == "probe":
            probe = held_out(self.data, len(y), generator)
            x, y = self.data.held_out_x[probe], self.data.held_out_y[probe]
        else:
            student = mlp(sizes_of(self.teacher), generator)
        return gradient(self._loss(student, x, y), student)

    def outcome(self, student: nn.Module) -> dict[str, float]:
        """Return test accuracy and the share of test images with the teacher's answer."""
        answers, taught = (
            self.logits(model, self.data.test_x, "class").argmax(1)
            for model in (student, self.teacher)
        )
        return {
            "test_accuracy": float((answers == self.data.test_y).double().mean()),
            "teacher_agreement": float((answers == taught).double().mean()),
        }


def begin(experiment: Experiment, seed: int, data: ImageTensors, classes: int) -> OneSeed:
    """Draw initialisation, noise and probe, and train the teacher."""
    name, config = experiment.name, experiment.distillation
    inputs, hidden = data.train_x.shape[1], experiment.model.options["hidden"]
    sizes = (inputs, *hidden, classes + experiment.model.auxiliary)
    initial = mlp(sizes, stream(name, seed, "init"))
    teacher = deepcopy(initial)
    adam = adam_of(teacher, experiment.teacher.learning_rate)
    order = stream(name, seed, "teacher order")
    for index in batches(order, len(data.train_y), experiment.teacher):
        adam.zero_grad()
        F.cross_entropy(teacher(data.train_x[index])[:, :classes], data.train_y[index]).backward()
        adam.step()
    noise = torch.rand((config.examples, inputs), generator=stream(name, seed, "noise")) * 2 - 1
    probe = held_out(data, experiment.probe.size, stream(name, seed, "probe"))
    task = ImageTask(data, teacher, data.held_out_x[probe], data.held_out_y[probe], classes)
    return one_seed(experiment, seed, initial, noise.double(), task)


def mlp(sizes: tuple[int, ...], generator: torch.Generator) -> nn.Sequential:
    """Return a ReLU network of the given widths: weights N(0, 1/fan_in), biases 0."""
    layers: list[nn.Module] = []
    for n_in, n_out in itertools.pairwise(sizes):
        linear = nn.Linear(n_in, n_out).double()
        with torch.no_grad():
            drawn = torch.randn(linear.weight.shape, generator=generator) / math.sqrt(n_in)
            linear.weight.copy_(drawn)
            linear.bias.zero_()
        layers += [linear, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def sizes_of(model: nn.Sequential) -> tuple[int, ...]:
    """Return the widths of an MLP from its inputs to its logits."""
    linear = [layer for layer in model if isinstance(layer, nn.Linear)]
    return (linear[0].in_features, *(layer.out_features for layer in linear))


def held_out(data: ImageTensors, size: int, generator: torch.Generator) -> Tensor:
    """Draw the held-out images of a probe."""
    return torch.randperm(len(data.held_out_y), generator=generator)[:size]
