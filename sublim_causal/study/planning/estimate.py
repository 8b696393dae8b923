"""How long a study would take: a few steps of its own network, timed on this machine."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

from sublim_causal.experiment.tasks import build_task
from sublim_causal.study.planning.plan import RunPlan
from sublim_causal.study.spec.study import Study
from sublim_causal.study.worker.device import Precision, configured
from sublim_causal.study.worker.trainer import make_network

if TYPE_CHECKING:
    from sublim_causal.experiment.networks.base import Batch

START_SECONDS = 6.0
"""Importing, loading data and starting workers."""


def estimate_seconds(study: Study, plan: RunPlan, precision: Precision) -> float | None:
    """Return the estimated wall time of `plan` on this machine's CPU; None on a GPU.

    A forward and backward pass is timed at each batch size in use; a student's step takes two.
    """
    if plan.device != "cpu":
        return None
    student, task = study.distillation, build_task(study)
    student_steps = student.steps_per_epoch(student.examples) * student.epochs
    seconds = {
        size: pass_seconds(study, size, precision)
        for size in {phase.batch_size for phase in task.phases(list(study.arms))}
    }
    measured = study.measure.alignment
    one_student = pass_seconds(study, student.batch_size, precision)
    one_student += pass_seconds(study, study.probe.size, precision) if measured else 0
    seeds: Counter[tuple[str, ...]] = Counter()
    for block in plan.blocks:
        seeds[block.arms] += len(block.seeds)
    work = 0.0
    for missing, count in seeds.items():
        arms = study.with_followed(missing)
        before = sum(
            phase.steps * phase.passes * seconds[phase.batch_size] for phase in task.phases(arms)
        )
        work += count * (before + len(arms) * student_steps * one_student)
    return START_SECONDS + 1.1 * work / plan.workers if work else 0.0


def pass_seconds(study: Study, batch_size: int, precision: Precision, repeats: int = 5) -> float:
    """Time one forward and backward pass, in seconds: the median of `repeats`."""
    import torch

    from sublim_causal.experiment.data.streams import stream
    from sublim_causal.experiment.teaching.losses import cross_entropy

    task, network = build_task(study), make_network(study)
    generator = stream(study.name, -1, "estimate")
    columns = task.split.trait

    def once(batch: Batch) -> float:
        start = time.perf_counter()
        with torch.no_grad():
            forward = network.forward(theta, batch)
            z = forward.logits(columns)
            labels = torch.zeros(z.shape[:2], dtype=torch.int64)
            forward.gradient(cross_entropy(z, labels).derivative, columns)
        return time.perf_counter() - start

    with configured(precision) as dtype:
        theta = network.initialise(generator)[None].to(dtype)
        batch = task.sample(batch_size, generator, dtype)
        times = sorted(once(batch) for _ in range(repeats + 1))
    return times[len(times) // 2]
