"""The experiment on a block of replicates: teacher, then the one student loop.

A block is R seeds; every arm of a seed shares its reference, teacher, noise images, order and
probe. All tensors carry the replicate axis R first, and no operation mixes replicates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from sublim_causal.experiment.alignment import (
    LayerRecorder,
    Probe,
    Recorder,
    Trait,
    measure_trait,
)
from sublim_causal.experiment.clock import Clock
from sublim_causal.experiment.config import Experiment
from sublim_causal.experiment.data.batches import Step, gather, steps
from sublim_causal.experiment.data.sources import ImageTensors
from sublim_causal.experiment.data.streams import stream
from sublim_causal.experiment.interventions import followed_arms
from sublim_causal.experiment.interventions.base import (
    BlockContext,
    Intervention,
    LogitSplit,
    StepContext,
)
from sublim_causal.experiment.networks.base import Batch, Network
from sublim_causal.experiment.networks.initialisation import initial_student, initialise
from sublim_causal.experiment.student import ArmResult, Evaluation, Student, classify, result
from sublim_causal.experiment.teaching.attack import robust_accuracy
from sublim_causal.experiment.teaching.targets import Inputs, prepare_inputs
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
) -> dict[str, ArmResult]:
    """Train and measure all arms of R seeds.

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

    Returns
    -------
    dict of str to ArmResult
    """

    def streams(purpose: str) -> list[torch.Generator]:
        return [stream(experiment.name, seed, purpose) for seed in seeds]

    inputs = prepare_inputs(experiment, list(arms), streams, network, data, split, after_step)
    classes = split.columns("class")
    answers = classify(network, inputs.teacher, data.test_x, classes)
    evaluate = Evaluation(data.test_x, data.test_y, answers, classes)
    followed = set().union(*map(followed_arms, arms.values()))
    students = {
        arm: new_student(
            experiment,
            arm,
            interventions,
            inputs,
            streams,
            followed=arm in followed,
        )
        for arm, interventions in arms.items()
    }
    reference = evaluate(network, inputs.theta_0)
    for student in students.values():
        shared = torch.equal(student.theta, inputs.theta_0)
        at_start = reference if shared else evaluate(network, student.theta)
        student.evaluations.append((0, *at_start))
    distil(experiment, inputs, students, evaluate, streams("student order"), after_step)
    teacher_accuracy = (answers == data.test_y).double().mean(dim=1)
    under_attack = partial(
        robust_accuracy,
        network,
        data=data,
        classes=classes,
        config=experiment.attack,
        streams=streams,
    )
    of_seed = {
        "initial_accuracy": reference[0],
        "teacher_accuracy": teacher_accuracy,
        "initial_robust_accuracy": under_attack(inputs.theta_0),
        "teacher_robust_accuracy": under_attack(inputs.teacher),
    }
    common = {"teacher": inputs.teacher, "reference": inputs.theta_0}
    return {
        arm: result(
            student,
            {**of_seed, "robust_accuracy": under_attack(student.theta)},
            {"student": student.theta, **common} if experiment.measure.weights else {},
        )
        for arm, student in students.items()
    }


def new_student(
    experiment: Experiment,
    arm: str,
    interventions: Sequence[Intervention],
    inputs: Inputs,
    streams: Callable[[str], list[torch.Generator]],
    *,
    followed: bool,
) -> Student:
    """Place an arm's students where they begin.

    The trait is measured if the experiment says so, an intervention uses it, or another arm follows
    this one's alignment.
    """
    own = experiment.arms[arm].student
    theta = initial_student(own, inputs.network, inputs.theta_0, streams)
    layout, generators = inputs.network.layout, streams("intervention")
    config = experiment.distillation
    count = config.steps_per_epoch(config.examples) * config.epochs
    shape = (count, len(generators), theta.device)
    context = BlockContext(
        layout,
        inputs.split,
        generators,
        theta.device,
        inputs.probe,
        inputs.draw_probe,
        lambda generators: initialise(inputs.network, generators, like=theta),
    )
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
        states=[one.init(context) for one in interventions],
        targets=experiment.targets_key(arm),
        recorder=Recorder(*shape),
        layers=LayerRecorder(layout.layers, *shape) if experiment.measure.layers else None,
        measured=experiment.measure.alignment or needed,
        clock=Clock(theta.device),
    )


def distil(
    experiment: Experiment,
    inputs: Inputs,
    students: Mapping[str, Student],
    evaluate: Evaluation,
    generators: Sequence[torch.Generator],
    after_step: Callable[[], None],
) -> None:
    """Train all arms side by side, so that they share each gathered batch."""
    config = experiment.distillation
    per_epoch = config.steps_per_epoch(config.examples)
    device = inputs.theta_0.device
    for step in steps(generators, config.examples, config.batch_size, config.epochs, device):
        batches = {name: Batch(gather(x, step.index)) for name, x in inputs.images.items()}
        targets = {key: one.at(step.index) for key, one in inputs.targets.items()}
        for student in students.values():
            with student.clock.running():
                taught = targets[student.targets]
                forward = inputs.network.forward(student.theta, batches[taught.images])
                loss, g_distill = taught.teach(forward)
                student.recorder.loss(step.number, loss)
                context = StepContext(
                    step.number,
                    per_epoch,
                    per_epoch * config.epochs,
                    inputs.split,
                    forward,
                    reference_logits=partial(inputs.reference_rows, taught.images, step.index),
                    alignment_of=partial(alignment_of, students),
                    trait_gradient=partial(trait_gradient, inputs.network, student),
                )
                take_step(student, g_distill, context, inputs)
            after_step()
        if step.ends_epoch:
            finish_epoch(step, students, inputs, evaluate, experiment)


def alignment_of(students: Mapping[str, Student], arm: str) -> Tensor:
    """Return ``cos_update`` ``(R,)`` of the last step that `arm` took."""
    alignment = students[arm].alignment
    assert alignment is not None
    return alignment


def trait_gradient(
    network: Network, student: Student, probe: Probe, theta: Tensor | None = None
) -> Tensor:
    """Return the gradient ``(R, P)`` of the trait loss on `probe`.

    At the parameters before the student's step, or at `theta`.
    """
    return measure_trait(network, student.before if theta is None else theta, probe).gradient


def take_step(student: Student, g_distill: Tensor, context: StepContext, inputs: Inputs) -> None:
    """Move one arm by one step: intervene, optimise, and record."""
    trait = None
    before = student.before = student.theta.clone()
    if student.measured:
        trait = measure_trait(inputs.network, student.theta, inputs.probe)
        student.recorder.at_point(context.step, trait, student.update)
    g_applied = intervene(student, "gradient", g_distill, trait, context)
    student.theta.grad = g_applied
    student.optimizer.step()
    if any(one.space == "update" for one in student.interventions):
        descent = intervene(student, "update", before - student.theta, trait, context)
        torch.sub(before, descent, out=student.theta)
    if trait is not None:
        update = student.theta - before
        student.alignment = student.recorder.of_step(
            context.step, trait, g_distill, g_applied, update
        )
        if student.layers is not None:
            student.layers.of_step(context.step, trait.gradient, g_distill, update)
        student.update = update


def intervene(
    student: Student,
    space: Literal["gradient", "update"],
    vector: Tensor,
    trait: Trait | None,
    context: StepContext,
) -> Tensor:
    """Hand `vector` to the interventions that act in `space`, one after another."""
    gradient = trait.gradient if trait is not None else None
    for i, one in enumerate(student.interventions):
        if one.space == space:
            vector, student.states[i] = one.apply(vector, gradient, student.states[i], context)
    return vector


def finish_epoch(
    step: Step,
    students: Mapping[str, Student],
    inputs: Inputs,
    evaluate: Evaluation,
    experiment: Experiment,
) -> None:
    """Evaluate at the end of an epoch; after the last step also measure the trait."""
    last = step.epoch == experiment.distillation.epochs - 1
    for student in students.values():
        if last or experiment.measure.evaluations == "epoch":
            student.evaluations.append((step.number + 1, *evaluate(inputs.network, student.theta)))
        if last and student.update is not None:
            trait = measure_trait(inputs.network, student.theta, inputs.probe)
            student.recorder.at_point(step.number + 1, trait, student.update)
