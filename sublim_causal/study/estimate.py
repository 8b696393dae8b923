"""How long a study would take: a few steps of its own network, timed on this machine."""

from __future__ import annotations

import math
import time
from collections import Counter
from typing import TYPE_CHECKING

from sublim_causal.experiment.data.sources import SOURCES, division
from sublim_causal.study.planning import RunPlan
from sublim_causal.study.spec import Study
from sublim_causal.study.work import Precision, configured, make_network

if TYPE_CHECKING:
    from torch import Tensor

START_SECONDS = 6.0
"""Importing, loading data and starting workers."""


def estimate_seconds(study: Study, plan: RunPlan, precision: Precision) -> float | None:
    """Return the estimated wall time of `plan` on this machine's CPU; None on a GPU.

    A forward and backward pass is timed at each batch size in use; a student's step takes two.
    """
    if plan.device != "cpu":
        return None
    teacher, student = study.teacher, study.distillation
    teacher_steps = teacher.steps_per_epoch(division(study.data).train) * teacher.epochs
    student_steps = student.steps_per_epoch(student.examples) * student.epochs
    one_teacher = pass_seconds(study, teacher.batch_size, precision)
    measured = study.measure.alignment
    one_student = pass_seconds(study, student.batch_size, precision)
    one_student += pass_seconds(study, study.probe.size, precision) if measured else 0
    seeds: Counter[tuple[str, ...]] = Counter()
    for block in plan.blocks:
        seeds[block.arms] += len(block.seeds)
    work = 0.0
    for missing, count in seeds.items():
        arms = study.with_followed(missing)
        teachers = study.teachers_of(arms) * teacher_steps * one_teacher * teacher_passes(study)
        work += count * (teachers + len(arms) * student_steps * one_student)
    return START_SECONDS + 1.1 * work / plan.workers if work else 0.0


def teacher_passes(study: Study) -> int:
    """Return forward and backward passes of a teacher's step: those of the attack, and its own."""
    attack = study.attack
    return 1 + attack.steps if attack is not None and attack.teacher == "adversarial" else 1


def pass_seconds(study: Study, batch_size: int, precision: Precision, repeats: int = 5) -> float:
    """Time one forward and backward pass, in seconds: the median of `repeats`."""
    import torch

    from sublim_causal.experiment.data.streams import stream
    from sublim_causal.experiment.networks.base import Batch
    from sublim_causal.experiment.teaching.losses import cross_entropy

    source, network = SOURCES[study.data.name], make_network(study)
    generator = stream(study.name, -1, "estimate")
    shape = (1, batch_size, math.prod(source.shape))
    pixels = torch.rand(shape, generator=generator)
    labels = torch.randint(source.classes, (1, batch_size), generator=generator)
    classes = slice(0, source.classes)

    def once(batch: Tensor) -> float:
        start = time.perf_counter()
        with torch.no_grad():
            forward = network.forward(theta, Batch(batch))
            loss = cross_entropy(forward.logits(classes), labels)
            forward.gradient(loss.derivative, classes)
        return time.perf_counter() - start

    with configured(precision) as dtype:
        theta = network.initialise(generator)[None].to(dtype)
        times = sorted(once(pixels.to(dtype)) for _ in range(repeats + 1))
    return times[len(times) // 2]
