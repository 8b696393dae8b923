"""Blocks of seeds: what is trained together, and which blocks of a study are missing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from sublim_causal.experiment.tasks import build_task
from sublim_causal.store.blocks import block_name
from sublim_causal.study.spec.study import Study


@dataclass(frozen=True)
class Block:
    """Seeds that are trained together, under the arms they still miss."""

    seeds: tuple[int, ...]
    arms: tuple[str, ...]

    @property
    def name(self) -> str:
        """File name of the block's tables, without suffix."""
        return block_name(self.seeds[0], self.seeds[-1])

    def halves(self) -> list[Block]:
        """Return two blocks of half the seeds; none if there is only one seed."""
        middle = len(self.seeds) // 2
        parts = (self.seeds[:middle], self.seeds[middle:])
        return [replace(self, seeds=part) for part in parts] if middle else []


def missing_blocks(
    study: Study, done: Mapping[str, set[int]], block_size: int, seeds: range | None = None
) -> list[Block]:
    """Group the missing replicates of `seeds`, by default all, into blocks of `block_size` seeds.

    The last block of a group is smaller where they do not divide evenly.
    """

    def missing(seed: int) -> tuple[str, ...]:
        return tuple(arm for arm in study.arms if seed not in done.get(arm, ()))

    blocks = []
    for arms, group in groupby(range(study.seeds) if seeds is None else seeds, key=missing):
        if arms:
            blocks += [Block(part, arms) for part in _chunks(list(group), block_size)]
    return blocks


def _chunks(seeds: list[int], size: int) -> Iterator[tuple[int, ...]]:
    for start in range(0, len(seeds), size):
        yield tuple(seeds[start : start + size])


@dataclass(frozen=True)
class Work:
    """What is to be done, at most.

    Attributes
    ----------
    optimizer_steps : int
    generation_steps : int
        Each writes the next token of a batch of texts.
    tokens : int
        Tokens that these write.
    """

    optimizer_steps: int
    generation_steps: int
    tokens: int

    @property
    def steps(self) -> int:
        """Steps of both kinds, as progress counts them."""
        return self.optimizer_steps + self.generation_steps


def block_work(study: Study, arms: Sequence[str], seeds: int = 1) -> Work:
    """Return the work of one block: before the students, and of `arms` and those they follow.

    An optimizer steps, and a token is written, for all `seeds` of a block at once.
    """
    student, needed = study.distillation, study.with_followed(arms)
    phases = build_task(study).phases(needed)
    one_student = student.steps_per_epoch(student.examples) * student.epochs
    return Work(
        sum(one.steps for one in phases if not one.tokens) + one_student * len(needed),
        sum(one.steps for one in phases if one.tokens),
        seeds * sum(one.tokens for one in phases),
    )
