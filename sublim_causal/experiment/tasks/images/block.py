"""What the arms of a block share when they learn from images, and how networks are measured."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from sublim_causal.experiment.alignment import Probe
from sublim_causal.experiment.config import Experiment
from sublim_causal.experiment.contracts import ArmError, ArmFailure
from sublim_causal.experiment.data.batches import gather
from sublim_causal.experiment.data.sources import ImageTensors
from sublim_causal.experiment.data.streams import SeedStreams, draw
from sublim_causal.experiment.logits import LogitSplit
from sublim_causal.experiment.networks.base import Batch, Network, outputs
from sublim_causal.experiment.networks.initialisation import initialise
from sublim_causal.experiment.shared import Figures, Measures, Shared, Taught
from sublim_causal.experiment.tasks.images.attack import robust_accuracy
from sublim_causal.experiment.tasks.images.inputs import INPUTS
from sublim_causal.experiment.tasks.images.targets import make_targets
from sublim_causal.experiment.tasks.images.teachers import Teachers
from sublim_causal.experiment.teaching.channels import build_channel
from sublim_causal.experiment.teaching.targets import Targets


def share_images(
    experiment: Experiment,
    arms: Iterable[str],
    streams: SeedStreams,
    network: Network,
    data: ImageTensors,
    split: LogitSplit,
    after_step: Callable[[], None],
) -> Shared:
    """Draw initialisation, inputs and probe, train the teachers, make the targets of `arms`."""
    theta_0 = initialise(network, streams("init"), like=data.train_x)
    classes = split.columns("class")
    teachers = Teachers(network, theta_0, data, classes, streams, after_step, experiment.teaching)
    taught = {
        arm: Taught(
            experiment.inputs_of(arm),
            experiment.targets_key(arm),
            experiment.arms[arm].targets.unique,
        )
        for arm in arms
    }
    names = {one.targets: arm for arm, one in taught.items()}
    inputs: dict[str, Tensor] = {
        name: draw_inputs(name, experiment.distillation.examples, data, streams)
        for name in dict.fromkeys(map(experiment.inputs_of, names.values()))
    }
    targets: dict[str, Targets] = {}
    failures: dict[str, ArmFailure] = {}
    for key, arm in names.items():
        config = experiment.arms[arm]
        channel = build_channel("channel", config.channel.model_dump(), split)
        x = inputs[experiment.inputs_of(arm)]
        own = teachers.trained_as(experiment.teaching_of(arm))
        try:
            targets[key] = make_targets(config.targets, channel, own, x, split, streams)
        except ArmError as error:
            failures[key] = error.failure()
    probe = partial(draw_probe, experiment.probe.size, data, classes)
    teacher = teachers.parameters()
    answers = classify(network, teacher, data.test_x, classes)
    attacked = partial(
        robust_accuracy,
        network,
        data=data,
        classes=classes,
        config=experiment.attack,
        streams=streams,
    )
    measured = Accuracies(network, data, classes, theta_0, teacher, answers, attacked)
    for arm, one in taught.items():
        if (teaching := experiment.teaching_of(arm)) != experiment.teaching:
            figures = measured.of_teacher(teachers.trained_as(teaching).parameters())
            taught[arm] = replace(one, figures=figures)
    return Shared(
        network,
        split,
        theta_0,
        teacher,
        inputs,
        (),
        targets,
        taught,
        probe(streams("probe")),
        draw_probe=probe,
        draw_reference=partial(initialise, network, like=theta_0),
        measures=Measures(measured.evaluate, measured.of_seed, measured.of_student),
        failures=failures,
    )


def draw_inputs(name: str, count: int, data: ImageTensors, streams: SeedStreams) -> Tensor:
    """Draw `count` inputs ``(R, count, D)`` of the named kind."""
    return draw(partial(INPUTS[name], count, data), streams("noise"), data.train_x.device)


def draw_probe(
    size: int, data: ImageTensors, classes: slice, generators: Sequence[torch.Generator]
) -> Probe:
    """Draw `size` held-out images for each replicate, without repetition."""
    examples, labels = data.held_out_x, data.held_out_y
    index = draw(
        lambda g: torch.randperm(len(labels), generator=g)[:size], generators, examples.device
    )
    first, second = (
        (Batch(gather(examples, half)), labels[half]) for half in index.split(size // 2, dim=1)
    )
    return Probe((first, second), classes)


@dataclass(frozen=True)
class Accuracies:
    """Measures networks on the test images, against labels and the answers of the teacher."""

    network: Network
    data: ImageTensors
    classes: slice
    theta_0: Tensor
    teacher: Tensor
    answers: Tensor
    attacked: Callable[[Tensor], Tensor]

    def evaluate(self, theta: Tensor) -> Figures:
        """Return test accuracy and agreement with the teacher."""
        answers = classify(self.network, theta, self.data.test_x, self.classes)
        return {
            "test_accuracy": (answers == self.data.test_y).double().mean(dim=1),
            "teacher_agreement": (answers == self.answers).double().mean(dim=1),
        }

    def of_seed(self) -> Figures:
        """Return accuracy, also under attack, of the initialisation and the teacher."""
        return {
            "initial_accuracy": self.evaluate(self.theta_0)["test_accuracy"],
            "initial_robust_accuracy": self.attacked(self.theta_0),
            **self.of_teacher(self.teacher),
        }

    def of_teacher(self, theta: Tensor) -> Figures:
        """Return accuracy, also under attack, of a teacher."""
        return {
            "teacher_accuracy": self.evaluate(theta)["test_accuracy"],
            "teacher_robust_accuracy": self.attacked(theta),
        }

    def of_student(self, theta: Tensor, last: Figures) -> Figures:
        """Return accuracy, also under attack, of a student."""
        return {"final_accuracy": last["test_accuracy"], "robust_accuracy": self.attacked(theta)}


def classify(network: Network, theta: Tensor, x: Tensor, classes: slice) -> Tensor:
    """Return the class with the largest logit for every example, int64 ``(R, N)``."""
    return outputs(network, theta, x, classes).transpose(1, 2).contiguous().argmax(dim=1)
