"""The student loop: all arms of a block, side by side, step by step.

`sublim_causal.experiment.reference` is the same for one seed, in plain torch. All tensors carry the
replicate axis R first, and no operation mixes replicates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from sublim_causal.experiment.alignment import (
    LayerRecorder,
    Recorder,
    Trait,
    UpdateMeasure,
    measure_trait,
)
from sublim_causal.experiment.clock import Clock
from sublim_causal.experiment.config import Experiment
from sublim_causal.experiment.contracts import ArmError, ArmFailure, applied, class_name, guarded
from sublim_causal.experiment.data.batches import Step, steps
from sublim_causal.experiment.interventions.base import Intervention, Space, StepContext
from sublim_causal.experiment.shared import Shared
from sublim_causal.experiment.student_step import StudentStep


@dataclass
class Student:
    """One arm's students, ``(R, P)``: the only thing here that changes from step to step.

    Attributes
    ----------
    theta, before : Tensor of shape (R, P)
        The parameters, and what they were at the beginning of the step.
    states : list
        State of each intervention.
    inputs, targets : str
        Which of the shared inputs and targets are the arm's.
    measured : bool
        Whether the trait is measured at every step.
    update : Tensor of shape (R, P), or None
        The last step; None before the first, or where nothing is measured.
    alignment : Tensor of shape (R,), or None
        ``cos_update`` of the last step.
    failure : ArmFailure or None
        What ended the arm; its students stay as they are then.
    """

    interventions: Sequence[Intervention]
    theta: Tensor
    before: Tensor
    optimizer: torch.optim.Optimizer
    states: list[Any]
    inputs: str
    targets: str
    recorder: Recorder
    layers: LayerRecorder | None
    measured: bool
    clock: Clock
    update: Tensor | None = None
    measure: UpdateMeasure | None = None
    failure: ArmFailure | None = None


def distil(
    experiment: Experiment,
    shared: Shared,
    students: Mapping[str, Student],
    generators: Sequence[torch.Generator],
    after_step: Callable[[], None],
) -> None:
    """Train all arms side by side, so that they share each gathered batch."""
    config = experiment.distillation
    per_epoch = config.steps_per_epoch(config.examples)
    device = shared.theta_0.device
    for step in steps(generators, config.examples, config.batch_size, config.epochs, device):
        batches = {name: shared.batch(name, step.index) for name in shared.inputs}
        targets = {key: one.at(step.index) for key, one in shared.targets.items()}
        for student in students.values():
            if student.failure is None:
                with student.clock.running():
                    forward = shared.network.forward(student.theta, batches[student.inputs])
                    context = StudentStep(
                        step.number,
                        per_epoch,
                        per_epoch * config.epochs,
                        forward,
                        step.index,
                        student,
                        students,
                        shared,
                    )
                    taught = partial(targets[student.targets].loss_and_gradient, forward)
                    try:
                        loss, g_distill = guarded(f"its channel at step {step.number}", taught)
                        student.recorder.loss(step.number, loss)
                        take_step(student, g_distill, context, shared)
                    except ArmError as error:
                        student.failure = error.failure()
            after_step()
        if step.ends_epoch:
            finish_epoch(step, students, shared, experiment)


def take_step(student: Student, g_distill: Tensor, context: StepContext, shared: Shared) -> None:
    """Move one arm by one step: intervene, optimise, and record."""
    trait = None
    before = student.before = student.theta.clone()
    if student.measured:
        trait = measure_trait(shared.network, student.theta, shared.probe)
        student.recorder.at_point(context.step, trait, student.update)
    g_applied = intervene(student, "gradient", g_distill, trait, context)
    student.theta.grad = g_applied
    student.optimizer.step()
    if any(one.space == "update" for one in student.interventions):
        descent = intervene(student, "update", before - student.theta, trait, context)
        torch.sub(before, descent, out=student.theta)
    if trait is not None:
        update = student.theta - before
        student.measure = student.recorder.of_step(
            context.step, trait, g_distill, g_applied, update
        )
        student.recorder.cover(context.step, update, shared.teaching)
        if student.layers is not None:
            student.layers.of_step(context.step, trait.gradient, g_distill, update)
        student.update = update


def intervene(
    student: Student, space: Space, vector: Tensor, trait: Trait | None, context: StepContext
) -> Tensor:
    """Apply the interventions that act in `space` to `vector`, one after another."""
    gradient = trait.gradient if trait is not None else None
    for i, one in enumerate(student.interventions):
        if one.space == space:
            call = partial(applied, one, vector, gradient, student.states[i], context)
            vector, student.states[i] = guarded(f"{class_name(one)} at step {context.step}", call)
    return vector


def finish_epoch(
    step: Step,
    students: Mapping[str, Student],
    shared: Shared,
    experiment: Experiment,
) -> None:
    """Evaluate at the end of an epoch; after the last step also measure the trait."""
    last = step.epoch == experiment.distillation.epochs - 1
    for student in (one for one in students.values() if one.failure is None):
        if last or experiment.measure.evaluations == "epoch":
            figures = shared.measures.evaluate(student.theta)
            student.recorder.evaluations.append((step.number + 1, figures))
        if last and student.update is not None:
            trait = measure_trait(shared.network, student.theta, shared.probe)
            student.recorder.at_point(step.number + 1, trait, student.update)
