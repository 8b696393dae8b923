"""A block of replicates: what its arms share, its students, and what came out.

A block is R seeds; every arm of a seed shares its initialisation, teachers, inputs, order and
probe.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from sublim_causal.experiment.alignment import LayerRecorder, Recorder
from sublim_causal.experiment.clock import Clock
from sublim_causal.experiment.config import Experiment
from sublim_causal.experiment.contracts import ArmError, ArmFailure, class_name, guarded
from sublim_causal.experiment.data.streams import SeedStreams
from sublim_causal.experiment.distillation import distil
from sublim_causal.experiment.interventions import followed_arms
from sublim_causal.experiment.interventions.base import BlockContext, Intervention
from sublim_causal.experiment.networks.base import Network
from sublim_causal.experiment.networks.initialisation import initial_student, parts_of
from sublim_causal.experiment.optimisation import of_arm
from sublim_causal.experiment.optimizers import make_optimizer
from sublim_causal.experiment.outcome import ArmResult, arm_result
from sublim_causal.experiment.shared import Shared
from sublim_causal.experiment.students import Part, Student
from sublim_causal.experiment.tasks.base import Keep, Task, train_anew
from sublim_causal.experiment.tasks.trial import validate_columns
from sublim_causal.store.schema import EVALUATIONS, REPLICATES


@torch.no_grad()
def run_block(
    experiment: Experiment,
    seeds: Sequence[int],
    arms: Mapping[str, Sequence[Intervention]],
    task: Task,
    network: Network,
    data: Any,
    *,
    after_step: Callable[[], None],
    begun: Callable[[Mapping[str, Recorder]], None] | None = None,
    keep: Keep = train_anew,
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
        What each arm does; an arm comes after those it follows.
    task : Task
        What is taught, and how it is measured.
    data : object
        What `Task.on_device` returned; sets device and precision of the whole block.
    after_step : callable
        Called after every optimizer step of teacher or student; an exception ends the block.
    begun : callable, optional
        Called once before the students' first step with the recorder of every arm, to be read
        within `after_step`.
    keep : Keep, optional
        Where references are kept; default: nowhere.

    Returns
    -------
    dict of str to ArmResult or ArmFailure
        By arm.
    """
    streams = SeedStreams(experiment.name, seeds)
    shared = task.share(list(arms), streams, network, data, after_step, keep)
    followed = set().union(*map(followed_arms, arms.values()))
    students: dict[str, Student] = {}
    failures: dict[str, ArmFailure] = {}
    for arm, interventions in arms.items():
        if (key := shared.taught[arm].targets) in shared.failures:
            failures[arm] = shared.failures[key]
            continue
        try:
            students[arm] = new_student(
                experiment, arm, interventions, shared, streams, followed=arm in followed
            )
        except ArmError as error:
            failures[arm] = error.failure()
    evaluate = shared.measures.evaluate
    initial, of_seed = evaluate(shared.theta_0), shared.measures.of_seed()
    validate_columns(list(initial), EVALUATIONS, "measures.evaluate", "evaluations")
    validate_columns(list(of_seed), REPLICATES, "measures.of_seed", "replicates")
    for student in students.values():
        unchanged = torch.equal(student.theta, shared.theta_0)
        figures = initial if unchanged else evaluate(student.theta)
        student.recorder.evaluations.append((0, figures))
    if begun is not None:
        begun({arm: student.recorder for arm, student in students.items()})
    distil(experiment, shared, students, streams("student order"), after_step)
    kept = experiment.measure.weights
    results: dict[str, ArmResult | ArmFailure] = {**failures}
    for arm, student in students.items():
        results[arm] = student.failure or arm_result(
            student,
            of_seed | shared.taught[arm].figures,
            shared.measures.of_student(student.theta, student.recorder.evaluations[-1][1]),
            parameters(student, shared) if kept else {},
            shared.texts.get(student.targets, ()),
            None if shared.traits is None else shared.traits(arm, student.theta),
        )
    return results


def new_student(
    experiment: Experiment,
    arm: str,
    interventions: Sequence[Intervention],
    shared: Shared,
    streams: SeedStreams,
    *,
    followed: bool,
) -> Student:
    """Place an arm's students where they begin.

    The trait is measured if the experiment requires it, an intervention uses it, or another arm
    follows this one's alignment.
    """
    own, config = experiment.arms[arm].student, experiment.distillation
    layout = shared.network.layout
    parts = parts_of(layout, shared.split)
    theta = initial_student(own, shared.theta_0, shared.draw_reference, streams, parts)
    context = BlockContext(
        layout,
        shared.split,
        streams("intervention"),
        theta.device,
        shared.probe,
        shared.draw_probe,
        shared.draw_reference,
    )
    count = config.steps_per_epoch(config.examples) * config.epochs
    shape = (count, len(theta), theta.device)
    needed = followed or any(one.uses_trait for one in interventions)
    return Student(
        interventions=interventions,
        theta=theta,
        before=theta,
        optimizer=make_optimizer(theta, of_arm(experiment, arm), layout),
        states=[
            guarded(f"init of {class_name(one)}", partial(one.init, context))
            for one in interventions
        ],
        inputs=shared.taught[arm].inputs,
        targets=shared.taught[arm].targets,
        part=Part(own.batch_size, shared.taught[arm].unique),
        weight_noise=own.weight_noise,
        noise=streams("weight noise"),
        attack=experiment.attack if own.adversarial else None,
        starts=streams("student attack"),
        recorder=Recorder(*shape),
        layers=LayerRecorder(layout.layers, *shape) if experiment.measure.layers else None,
        measured=experiment.measure.alignment or needed,
        clock=Clock(theta.device),
        until_loss=config.until_loss,
        lengths=torch.full((len(theta),), count, device=theta.device),
    )


def parameters(student: Student, shared: Shared) -> dict[str, Tensor]:
    """Return the parameters ``(R, P)`` that a study keeps, by role."""
    return {"student": student.theta, "teacher": shared.teacher, "reference": shared.theta_0}
