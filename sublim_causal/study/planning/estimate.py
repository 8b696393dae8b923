"""How long a study would take: a few steps of its own network, timed on this machine."""

from __future__ import annotations

import math
import time
from collections import Counter
from functools import cache, partial
from statistics import median
from typing import TYPE_CHECKING

from sublim_causal.experiment.tasks import build_task
from sublim_causal.study.planning.plan import RunPlan
from sublim_causal.study.spec.study import Study
from sublim_causal.study.worker.device import Precision, configured

if TYPE_CHECKING:
    from sublim_causal.experiment.networks.base import Batch, Network

START_SECONDS = 6.0
"""Importing, loading data and starting workers."""
LONGEST_SECONDS = 0.05
"""Time after which no other pass of one size begins."""


def estimate_seconds(
    study: Study, network: Network, plan: RunPlan, precision: Precision
) -> float | None:
    """Return the estimated wall time of `plan` on this machine's CPU; None on a GPU.

    A forward and backward pass is timed at each batch size in use; a student's step takes two.
    """
    if plan.device != "cpu":
        return None
    student, task = study.distillation, build_task(study)
    timed = cache(partial(pass_seconds, study, network, plan.block_size, precision=precision))
    student_steps = student.steps_per_epoch(student.examples) * student.epochs
    seconds = {
        size: timed(size) for size in {phase.batch_size for phase in task.phases(list(study.arms))}
    }
    measured = study.measure.alignment
    one_pass = timed(student.batch_size)
    of_probe = timed(study.probe.size) if measured else 0
    seeds: Counter[tuple[str, ...]] = Counter()
    for block in plan.blocks:
        seeds[block.arms] += len(block.seeds)
    work = 0.0
    for missing, count in seeds.items():
        arms = study.with_followed(missing)
        before = sum(
            phase.steps * phase.passes * seconds[phase.batch_size] for phase in task.phases(arms)
        )
        passes = sum(1 + _attack_steps(study, arm) for arm in arms)
        of_students = student_steps * (passes * one_pass + len(arms) * of_probe)
        work += count * (before + of_students)
    if not work:
        return 0.0
    of_block = work / len(plan.blocks)
    return START_SECONDS + 1.1 * of_block * math.ceil(len(plan.blocks) / plan.workers)


def _attack_steps(study: Study, arm: str) -> int:
    attack = study.attack if study.arms[arm].student.adversarial else None
    return attack.steps if attack is not None else 0


def pass_seconds(
    study: Study,
    network: Network,
    block_size: int,
    batch_size: int,
    *,
    precision: Precision,
    repeats: int = 5,
) -> float:
    """Time a forward and backward pass of a block, in seconds a seed: the median of `repeats`.

    The first is not counted; none begins after `LONGEST_SECONDS`.
    """
    import torch

    from sublim_causal.experiment.data.streams import stream
    from sublim_causal.experiment.networks.base import Batch
    from sublim_causal.experiment.teaching.losses import cross_entropy

    task, generator = build_task(study), stream(study.name, -1, "estimate")
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
        theta = network.initialise(generator).to(dtype).repeat(block_size, 1)
        one = task.sample(batch_size, generator, dtype)
        batch = Batch(one.x.repeat(block_size, *[1] * (one.x.dim() - 1)), one.positions)
        once(batch)
        times = [once(batch)]
        while len(times) < repeats and sum(times) < LONGEST_SECONDS:
            times.append(once(batch))
    return median(times) / block_size
