"""Handing blocks out, with workers that only pretend."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sublim_causal.errors import RequestError, SublimError
from sublim_causal.experiment.data.sources import ImageData
from sublim_causal.store.tables import read_table
from sublim_causal.study.executors import Finished, Idle, Lost, Message, Progress, Resources
from sublim_causal.study.executors import dispatch as dispatching
from sublim_causal.study.executors.dispatch import ATTEMPTS, Dispatcher, Event, Notice
from sublim_causal.study.spec.study import Study
from sublim_causal.study.worker.blocks import Block
from sublim_causal.study.worker.trainer import Job

BLOCKS = [Block((seed,), ("baseline",)) for seed in range(4)]
Behaviour = Callable[[Block], list[Message]]


@dataclass(eq=False)
class Pretender:
    """Sends the messages that its behaviour gives for a block."""

    behaviour: Behaviour
    says: list[Message] = field(default_factory=lambda: [Idle()])
    killed: bool = False

    def give(self, block: Block) -> None:
        self.says += self.behaviour(block)

    def stop(self) -> None:
        self.says = [Idle()]

    def kill(self) -> None:
        self.killed = True


@dataclass
class Pretence:
    """An executor of pretenders."""

    behaviour: Behaviour
    first: tuple[Message, ...] = (Idle(),)
    started: list[Pretender] = field(default_factory=list)

    def resources(self, device: str) -> Resources:
        return Resources("cpu", 2, 2**30)

    def warm_up(self) -> None: ...

    def load(self, job: Job, worker_bytes: int) -> None: ...

    def start(self) -> Pretender:
        self.started.append(Pretender(self.behaviour, [*self.first]))
        return self.started[-1]

    def receive(self, workers: Sequence[Pretender]) -> list[tuple[Pretender, Message]]:
        return [(worker, worker.says.pop(0)) for worker in workers if worker.says]


def finished(block: Block) -> Finished:
    return Finished(block, pd.DataFrame({"seed": block.seeds}))


def events(executor: Pretence, run: Path) -> list[Event]:
    """All events of the blocks on two workers."""
    nothing = (np.zeros((0, 1, 8, 8), np.uint8), np.zeros(0, np.int64))
    images = ImageData(nothing, nothing, nothing, 1.0)
    job = Job(Study.model_construct(), run, images, "cpu", "fp32", ())
    found = list(Dispatcher(executor, job, 2).run(BLOCKS))
    assert all(worker.killed for worker in executor.started)
    return found


def steps(found: list[Event]) -> int:
    return sum(event.steps for event in found if isinstance(event, Progress))


def test_all_blocks_are_finished_by_no_more_workers_than_asked_for(tmp_path: Path) -> None:
    executor = Pretence(lambda block: [Progress(3), finished(block)])
    found = events(executor, tmp_path)
    assert {e.block for e in found if isinstance(e, Finished)} == set(BLOCKS)
    assert steps(found) == 3 * len(BLOCKS)
    assert len(executor.started) == 2


def test_the_block_of_a_lost_worker_is_tried_again_and_its_steps_are_taken_back(
    tmp_path: Path,
) -> None:
    given: Counter[Block] = Counter()

    def loses_each_once(block: Block) -> list[Message]:
        given[block] += 1
        return [Progress(3), finished(block) if given[block] == 2 else Lost("its node died")]

    found = events(Pretence(loses_each_once), tmp_path)
    assert [e.block for e in found if isinstance(e, Finished)].count(BLOCKS[0]) == 1
    assert steps(found) == 3 * len(BLOCKS)
    notices = [event.text for event in found if isinstance(event, Notice)]
    assert notices[0] == "A worker was lost (its node died); block 0000000-0000000 starts again."


def test_a_block_that_loses_three_workers_is_recorded_and_the_rest_continues(
    tmp_path: Path,
) -> None:
    given: Counter[Block] = Counter()

    def one_kills(block: Block) -> list[Message]:
        given[block] += 1
        return [Lost("exit code -11")] if block == BLOCKS[1] else [finished(block)]

    found = events(Pretence(one_kills), tmp_path)
    assert {e.block for e in found if isinstance(e, Finished)} == set(BLOCKS)
    assert given[BLOCKS[1]] == ATTEMPTS
    (row,) = read_table(tmp_path, "replicates").itertuples()
    assert (row.seed, row.status) == (1, "failed")
    assert row.reason == "its worker was lost 3 times (last: exit code -11)"


def test_an_error_of_a_worker_ends_the_run(tmp_path: Path) -> None:
    executor = Pretence(lambda block: [RequestError("field", 1, "2", "try 2")])
    with pytest.raises(RequestError, match="try 2"):
        events(executor, tmp_path)


def test_workers_that_never_start_end_the_run_with_the_reason(tmp_path: Path) -> None:
    executor = Pretence(lambda block: [], first=(Lost("no memory"),))
    with pytest.raises(SublimError, match="no worker can start: no memory"):
        events(executor, tmp_path)


def test_a_long_wait_for_workers_is_reported_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatching, "PATIENCE_SECONDS", -1.0)
    slow = (Progress(0), Progress(0), Idle())
    found = events(Pretence(lambda block: [finished(block)], first=slow), tmp_path)
    notices = [event.text for event in found if isinstance(event, Notice)]
    assert notices == ["Waiting for a worker: none has started so far."]
