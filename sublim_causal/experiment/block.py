"""A block of replicates: what its arms share, its students, and what came out.

A block is R seeds; every arm of a seed shares its initialisation, teachers, inputs, order and
probe.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from sublim_causal.experiment.alignment import LayerRecorder, Recorder, draw_probe
from sublim_causal.experiment.clock import Clock
from sublim_causal.experiment.config import Experiment
from sublim_causal.experiment.contracts import ArmError, ArmFailure, class_name, guarded
from sublim_causal.experiment.data.sources import ImageTensors
from sublim_causal.experiment.data.streams import SeedStreams
from sublim_causal.experiment.distillation import Student, distil
from sublim_causal.experiment.interventions import followed_arms
from sublim_causal.experiment.interventions.base import BlockContext, Intervention
from sublim_causal.experiment.logits import LogitSplit
from sublim_causal.experiment.networks.base import Network, outputs
from sublim_causal.experiment.networks.initialisation import initial_student, initialise
from sublim_causal.experiment.outcome import ArmResult, arm_result
from sublim_causal.experiment.shared import Shared, prepare_shared
from sublim_causal.experiment.teaching.attack import robust_accuracy
from sublim_causal.experiment.teaching.teachers import make_optimizer


@torch.no_grad()
def run_block(
    experiment: Experiment,
    seeds: Sequence[int],
    arms: Mapping[str, Sequence[Intervention]],
    network: Network,
    data: ImageTensors,
    split: LogitSplit,
    *,
    after_step: Callable[[], None],
    begun: Callable[[Mapping[str, Recorder]], None] | None = None,
) -> dict[str, ArmResult | ArmFailure]:
    """Train and measure all arms of R seeds.

    An error of an arm's intervention or channel ends this arm, and those that follow it.

    Parameters
    ----------
    experiment : Experiment
        What to run; its name is part of every random stream.
    seeds : sequence of int
        The R replicates of the block.
    arms : mapping of str to sequence of Intervention
        What each arm does; an arm stands after those it follows.
    data : ImageTensors
        Sets device and precision of the whole block.
    after_step : callable
        Called after every optimizer step of teacher or student; an exception ends the block.
    begun : callable, optional
        Called once before the students' first step with the recorder of every arm, to be read
        within `after_step`.

    Returns
    -------
    dict of str to ArmResult or ArmFailure
        By arm.
    """
    streams = SeedStreams(experiment.name, seeds)
    shared = prepare_shared(experiment, arms, streams, network, data, split, after_step)
    classes = split.columns("class")
    answers = classify(network, shared.teacher, data.test_x, classes)
    evaluate = Evaluator(data.test_x, data.test_y, answers, classes)
    followed = set().union(*map(followed_arms, arms.values()))
    students: dict[str, Student] = {}
    failures: dict[str, ArmFailure] = {}
    for arm, interventions in arms.items():
        if (key := experiment.targets_key(arm)) in shared.failures:
            failures[arm] = shared.failures[key]
            continue
        try:
            students[arm] = new_student(
                experiment, arm, interventions, shared, streams, data=data, followed=arm in followed
            )
        except ArmError as error:
            failures[arm] = error.failure()
    initial = evaluate(network, shared.theta_0)
    for student in students.values():
        unchanged = torch.equal(student.theta, shared.theta_0)
        at_start = initial if unchanged else evaluate(network, student.theta)
        student.evaluations.append((0, *at_start))
    if begun is not None:
        begun({arm: student.recorder for arm, student in students.items()})
    distil(experiment, shared, students, evaluate, streams("student order"), after_step)
    attacked_accuracy = partial(
        robust_accuracy,
        network,
        data=data,
        classes=classes,
        config=experiment.attack,
        streams=streams,
    )
    of_seed = {
        "initial_accuracy": initial[0],
        "teacher_accuracy": (answers == data.test_y).double().mean(dim=1),
        "initial_robust_accuracy": attacked_accuracy(shared.theta_0),
        "teacher_robust_accuracy": attacked_accuracy(shared.teacher),
    }
    kept = experiment.measure.weights
    results: dict[str, ArmResult | ArmFailure] = {**failures}
    for arm, student in students.items():
        results[arm] = student.failure or arm_result(
            student,
            {**of_seed, "robust_accuracy": attacked_accuracy(student.theta)},
            parameters(student, shared) if kept else {},
        )
    return results


def new_student(
    experiment: Experiment,
    arm: str,
    interventions: Sequence[Intervention],
    shared: Shared,
    streams: SeedStreams,
    *,
    data: ImageTensors,
    followed: bool,
) -> Student:
    """Place an arm's students where they begin.

    The trait is measured if the experiment says so, an intervention uses it, or another arm follows
    this one's alignment.
    """
    own, config = experiment.arms[arm].student, experiment.distillation
    network, layout = shared.network, shared.network.layout
    theta = initial_student(own, network, shared.theta_0, streams)
    context = BlockContext(
        layout,
        shared.split,
        streams("intervention"),
        theta.device,
        shared.probe,
        partial(draw_probe, experiment.probe.size, data, shared.split.columns("class")),
        partial(initialise, network, like=theta),
    )
    count = config.steps_per_epoch(config.examples) * config.epochs
    shape = (count, len(theta), theta.device)
    needed = followed or any(one.uses_trait for one in interventions)
    return Student(
        interventions=interventions,
        theta=theta,
        before=theta,
        optimizer=make_optimizer(
            theta,
            own.optimizer or config.optimizer,
            own.learning_rate or config.learning_rate,
            layout,
        ),
        states=[
            guarded(f"init of {class_name(one)}", partial(one.init, context))
            for one in interventions
        ],
        inputs=experiment.inputs_of(arm),
        targets=experiment.targets_key(arm),
        recorder=Recorder(*shape),
        layers=LayerRecorder(layout.layers, *shape) if experiment.measure.layers else None,
        measured=experiment.measure.alignment or needed,
        clock=Clock(theta.device),
    )


def parameters(student: Student, shared: Shared) -> dict[str, Tensor]:
    """Return the parameters ``(R, P)`` that a study keeps, by role."""
    return {"student": student.theta, "teacher": shared.teacher, "reference": shared.theta_0}


@dataclass(frozen=True)
class Evaluator:
    """Measures networks on the test examples, against labels and the teacher's answers."""

    x: Tensor
    labels: Tensor
    teacher_answers: Tensor
    classes: slice

    def __call__(self, network: Network, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Return test accuracy and agreement with the teacher, ``(R,)`` each."""
        answers = classify(network, theta, self.x, self.classes)
        right = (answers == self.labels).double().mean(dim=1)
        return right, (answers == self.teacher_answers).double().mean(dim=1)


def classify(network: Network, theta: Tensor, x: Tensor, classes: slice) -> Tensor:
    """Return the class with the largest logit for every example, int64 ``(R, N)``."""
    return outputs(network, theta, x, classes).transpose(1, 2).contiguous().argmax(dim=1)
