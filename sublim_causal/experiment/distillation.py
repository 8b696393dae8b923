"""The student loop: all arms of a block, side by side, step by step.

`sublim_causal.experiment.reference` is the same for one seed, in plain torch. All tensors carry the
replicate axis R first, and no operation mixes replicates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from sublim_causal.experiment.alignment import Trait, inner, measure_trait
from sublim_causal.experiment.attack import AtPixels, ascended
from sublim_causal.experiment.config import AttackConfig, Experiment
from sublim_causal.experiment.contracts import ArmError, applied, class_name, guarded
from sublim_causal.experiment.data.batches import Step, steps
from sublim_causal.experiment.data.streams import draw, normal
from sublim_causal.experiment.interventions.base import Space, StepContext
from sublim_causal.experiment.networks.base import Batch, Layout, Network
from sublim_causal.experiment.shared import Shared
from sublim_causal.experiment.student_step import StudentStep
from sublim_causal.experiment.students import Student
from sublim_causal.experiment.teaching.targets import Targets


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
        moving = [student for student in students.values() if student.moves]
        indices = {one.part: one.part.of(step.index) for one in moving}
        batches = {
            (name, part): shared.batch(name, indices[part])
            for name, part in {(one.inputs, one.part) for one in moving}
        }
        targets = {
            (name, part): shared.targets[name].at(indices[part])
            for name, part in {(one.targets, one.part) for one in moving}
        }
        for student in students.values():
            if student.moves:
                with student.clock.running():
                    theta = perturbed(student, shared.network.layout)
                    batch = batches[student.inputs, student.part]
                    told = targets[student.targets, student.part]
                    what = f"its channel at step {step.number}"
                    try:
                        if student.attack is not None:
                            attack = partial(
                                attacked,
                                student,
                                student.attack,
                                shared.network,
                                theta,
                                batch,
                                told,
                            )
                            batch = guarded(what, attack)
                        forward = shared.network.forward(theta, batch)
                        context = StudentStep(
                            step.number,
                            per_epoch,
                            per_epoch * config.epochs,
                            forward,
                            indices[student.part],
                            student,
                            students,
                            shared,
                        )
                        loss, g_distill = guarded(what, partial(told.loss_and_gradient, forward))
                        student.recorder.loss(step.number, loss)
                        if student.until_loss is not None:
                            stop_at(student, step.number, loss, student.until_loss)
                        take_step(student, g_distill, context, shared)
                        # Else they would hold what this pass keeps during that of the next student.
                        del forward, context
                    except ArmError as error:
                        student.failure = error.failure()
            after_step()
        ends = not any(student.moves for student in students.values())
        if step.ends_epoch or ends:
            finish_epoch(step, students, shared, experiment, ends=ends)
        if ends:
            break


def perturbed(student: Student, layout: Layout) -> Tensor:
    r"""Return the parameters ``(R, P)`` at which a step's distillation gradient is taken.

    :math:`\theta + s\,\mathrm{rms}(\theta_l)\,\epsilon`, with s the size of the noise, l a
    parameter's layer and :math:`\epsilon` normal, drawn at every step.
    """
    theta = student.theta
    if student.weight_noise == 0:
        return theta
    drawn = partial(normal, layout.size, theta.device)
    noise = draw(drawn, student.noise, theta.device).to(theta)
    for span in layout.layers.values():
        size = theta[:, span].square().mean(dim=1, keepdim=True).sqrt()
        noise[:, span] *= student.weight_noise * size
    return noise.add_(theta)


def attacked(
    student: Student,
    attack: AttackConfig,
    network: Network,
    theta: Tensor,
    batch: Batch,
    targets: Targets,
) -> Batch:
    """Return the images of `batch`, attacked to raise the student's own distillation loss."""

    def gradient(x: Tensor) -> Tensor:
        return targets.loss_and_gradient(AtPixels(network.forward(theta, Batch(x))))[1]

    return Batch(ascended(batch.x, attack, student.starts, gradient))


def stop_at(student: Student, step: int, loss: Tensor, until_loss: float) -> None:
    """Let the replicates whose `loss` ``(R,)`` is small enough stay as they are from `step` on."""
    student.lengths.masked_fill_((loss <= until_loss) & (student.lengths > step), step)
    student.reached = bool((student.lengths <= step).all())


def take_step(student: Student, g_distill: Tensor, context: StepContext, shared: Shared) -> None:
    """Move one arm by one step: intervene, optimise, and record."""
    trait = None
    before = student.before = student.theta.clone()
    if student.measured:
        trait = measure_trait(shared.network, student.theta, shared.probe)
        student.recorder.at_point(context.step, trait, student.update)
    if student.reached:
        return
    g_applied = intervene(student, "gradient", g_distill, trait, context)
    student.theta.grad = g_applied
    student.optimizer.step()
    if any(one.space == "update" for one in student.interventions):
        descent = intervene(student, "update", before - student.theta, trait, context)
        torch.sub(before, descent, out=student.theta)
    if student.until_loss is not None:
        moves = (student.lengths > context.step)[:, None]
        torch.where(moves, student.theta, before, out=student.theta)
    update = student.theta - before
    if trait is None:
        length = inner(update, update).sqrt()
    else:
        student.measure = student.recorder.of_step(
            context.step, trait, g_distill, g_applied, update
        )
        length = student.measure.length
        if student.layers is not None:
            student.layers.of_step(context.step, trait.gradient, g_distill, update)
        student.update = update
    lengths = length * shared.teaching_length
    student.recorder.cover(context.step, inner(update, shared.teaching), lengths)


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
    *,
    ends: bool,
) -> None:
    """Evaluate at the end of an epoch; after the last step also measure the trait.

    `ends` says whether no student takes another step.
    """
    last = ends or step.epoch == experiment.distillation.epochs - 1
    for student in (one for one in students.values() if one.failure is None):
        if last or experiment.measure.evaluations == "epoch":
            figures = shared.measures.evaluate(student.theta)
            student.recorder.evaluations.append((step.number + 1, figures))
        if last and student.update is not None and not student.reached:
            trait = measure_trait(shared.network, student.theta, shared.probe)
            student.recorder.at_point(step.number + 1, trait, student.update)
