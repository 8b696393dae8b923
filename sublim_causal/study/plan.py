"""Which replicates are missing, and in which blocks they are run."""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from sublim_causal.errors import RequestError, RunError
from sublim_causal.experiment.data.sources import SOURCES, division
from sublim_causal.experiment.teaching.representation import validate_representations
from sublim_causal.store.damage import damaged
from sublim_causal.store.tables import (
    committed,
    read_table,
    remove_block,
    remove_uncommitted,
)
from sublim_causal.study.spec import Study

if TYPE_CHECKING:
    from sublim_causal.experiment.networks.base import Network

FLOAT_BYTES = 4
MODEL_VECTORS = 24
"""Flat vectors of length P alive at a time for one model: parameters, Adam, gradients, graph."""


@dataclass(frozen=True)
class Block:
    """Seeds that are trained together, under the arms they still miss."""

    seeds: tuple[int, ...]
    arms: tuple[str, ...]

    @property
    def name(self) -> str:
        """File name of the block's tables, without suffix."""
        return f"{self.seeds[0]:07d}-{self.seeds[-1]:07d}"

    def halves(self) -> list[Block]:
        """Return two blocks of half the seeds; none if there is only one seed."""
        middle = len(self.seeds) // 2
        parts = (self.seeds[:middle], self.seeds[middle:])
        return [replace(self, seeds=part) for part in parts] if middle else []


def finished(run: Path, arms: Collection[str]) -> dict[str, set[int]]:
    """Return the seeds of `arms` that need no rerun: those that are complete or diverged.

    A failed replicate says nothing about the experiment, so its block is run again.
    """
    replicates = _statuses(run, arms)
    kept = replicates[replicates["status"] != "failed"]
    return {str(arm): set(part["seed"]) for arm, part in kept.groupby("arm")}


def is_whole(run: Path, study: Study) -> bool:
    """Return whether every replicate of `study` has a row, be it of one that failed."""
    try:
        rows = _statuses(run, study.arms)
    except RunError:  # a file is damaged
        return False
    there = {*rows[["arm", "seed"]].itertuples(index=False, name=None)}
    return all((arm, seed) in there for arm in study.arms for seed in range(study.seeds))


def _statuses(run: Path, arms: Collection[str]) -> pd.DataFrame:
    """Read seed, arm and status of the replicates of `arms`."""
    columns = ["seed", "arm", "status"]
    there = {arm for arm, _ in committed(run)} & set(arms)
    if not there:
        return pd.DataFrame(columns=columns)
    return read_table(run, "replicates", columns=columns, arms=there)


def remove_unusable(run: Path, arms: Collection[str]) -> dict[Path, str]:
    """Delete what has to be run again of `arms`; return the damaged files, with what was wrong.

    That is what a killed run left uncommitted, blocks with a damaged file, and failed blocks.
    """
    remove_uncommitted(run)
    broken = {pair: found for pair, found in damaged(run).items() if pair[0] in arms}
    for pair in broken:
        remove_block(run, *pair)
    replicates = _statuses(run, arms)
    failed = set(replicates.loc[replicates["status"] == "failed", "arm"])
    for arm, block in [pair for pair in committed(run) if pair[0] in failed]:
        part = read_table(run, "replicates", columns=["status"], arms=[arm], blocks=[block])
        if (part["status"] == "failed").any():
            remove_block(run, arm, block)
    return {path: problem for found in broken.values() for path, problem in found.items()}


def missing_blocks(study: Study, done: Mapping[str, set[int]], block_size: int) -> list[Block]:
    """Group the missing replicates into blocks of at most `block_size` seeds."""

    def missing(seed: int) -> tuple[str, ...]:
        return tuple(arm for arm in study.arms if seed not in done.get(arm, ()))

    blocks = []
    for arms, group in groupby(range(study.seeds), key=missing):
        seeds = list(group)
        if arms:
            blocks += [Block(part, arms) for part in _chunks(seeds, block_size)]
    return blocks


def _chunks(seeds: list[int], size: int) -> Iterator[tuple[int, ...]]:
    for start in range(0, len(seeds), size):
        yield tuple(seeds[start : start + size])


def block_steps(study: Study, arms: Sequence[str]) -> int:
    """Optimizer steps of one block: the teachers', and those of `arms` and the arms they follow."""
    teacher, student, needed = study.teacher, study.distillation, study.with_followed(arms)
    one_teacher = teacher.steps_per_epoch(division(study.data).train) * teacher.epochs
    one_student = student.steps_per_epoch(student.examples) * student.epochs
    return one_teacher * study.teachers_of(needed) + one_student * len(needed)


def activations_taught(study: Study, network: Network) -> int:
    """Return how many activations an image's lessons hold, over all lessons on hidden layers.

    Raises
    ------
    RequestError
        If an arm is taught a layer that the network does not have.
    """
    pixels = math.prod(SOURCES[study.data.name].shape)
    widths = validate_representations(study.channels(), network, pixels)
    return sum({study.lesson_key(arm): width for arm, width in widths.items()}.values())


def study_bytes(study: Study, parameters: int, block_size: int, activations: int = 0) -> int:
    """Estimate the memory of one worker, in bytes, beside the libraries themselves.

    The students' images and the targets of each seed, among them `activations` an image; the data
    set, models and one step's batches.
    """
    source, student = SOURCES[study.data.name], study.distillation
    pixels = source.shape[0] * source.shape[1] * source.shape[2]
    logits = source.classes + study.model.auxiliary
    inputs = len({study.inputs_of(arm) for arm in study.arms})
    inputs += any(arm.lesson.jitter for arm in study.arms.values())
    lessons = len({study.lesson_key(arm) for arm in study.arms})
    targets = 2 * lessons * logits + activations
    seen = student.examples * (inputs * (pixels + logits) + targets) * block_size
    models = parameters * MODEL_VECTORS * (len(study.arms) + 1) * block_size
    others = sum(SOURCES[name].images for name in study.other_data())
    images = (source.images + source.test + others) * pixels
    batch = max(student.batch_size, study.probe.size, study.teacher.batch_size)
    return FLOAT_BYTES * (seen + models + images + 8 * batch * pixels * block_size)


def default_memory() -> int:
    """A quarter of the machine's memory, in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4


def parse_memory(text: str) -> int:
    """Read ``"6G"``, ``"800M"`` or a number of bytes.

    Raises
    ------
    RequestError
        If it is none of these.
    """
    units = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
    number = text.strip().upper().removesuffix("B").removesuffix("I")
    factor = units.get(number[-1:], 1)
    try:
        value = int(float(number.rstrip("KMGT")) * factor)
    except (ValueError, OverflowError):
        value = 0
    if value <= 0:
        raise RequestError("--memory", text, "a positive size such as 6G or 800M")
    return value


def cores() -> int:
    """Processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def workers_for(memory: int, worker_bytes: int, limit: int) -> int:
    """Return how many workers fit into `memory`, at most `limit`.

    Raises
    ------
    RequestError
        If not even one fits.
    """
    fit = memory // worker_bytes
    if fit < 1:
        raise RequestError(
            "--memory",
            f"{memory / 2**30:.2f}G",
            f"at least {worker_bytes / 2**30:.2f}G, what one block of this study needs",
            "raise --memory, or lower --block-size or distillation.examples",
        )
    return min(limit, fit)
