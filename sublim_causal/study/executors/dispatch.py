"""Assign blocks to workers, and again where a worker was lost."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sublim_causal.errors import SublimError
from sublim_causal.study.executors import Executor, Finished, Idle, Lost, Message, Progress, Worker
from sublim_causal.study.executors.training import failed
from sublim_causal.study.worker.blocks import Block
from sublim_causal.study.worker.trainer import Job

if TYPE_CHECKING:
    from sublim_causal.store.curves import ArmCurves

ATTEMPTS = 3
"""A block whose worker is lost is tried again; after this many losses its seeds are tried apart,
and one that is alone is recorded as failed."""
PATIENCE_SECONDS = 60.0
"""After this time without a worker, a message says that the study is waiting."""


@dataclass(frozen=True)
class Notice:
    """Something the user should know."""

    text: str


@dataclass(frozen=True)
class CurveUpdate:
    """Curves so far of a block that is being trained."""

    block: str
    arms: ArmCurves


Event = Progress | CurveUpdate | Finished | Notice | None
"""None: nothing happened for a while."""


@dataclass
class Assignment:
    """The block of a worker, and its progress."""

    ready: bool = False
    block: Block | None = None
    steps: int = 0


@dataclass
class Dispatcher:
    """Runs the blocks of one job on the workers of an executor.

    Attributes
    ----------
    executor : Executor
        Loaded with `job`.
    job : Job
    workers : int
        Workers at a time.
    """

    executor: Executor[Worker]
    job: Job
    workers: int
    _assignments: dict[Worker, Assignment] = field(default_factory=dict, init=False)
    _waiting: deque[Block] = field(default_factory=deque, init=False)
    _losses: Counter[Block] = field(default_factory=Counter, init=False)
    _false_starts: int = field(default=0, init=False)
    _stopping: bool = field(default=False, init=False)

    def run(self, blocks: Sequence[Block]) -> Generator[Event, None, None]:
        """Yield events until all blocks are finished; closing the iterator ends all workers.

        Raises
        ------
        SublimError
            If a worker cannot do its work, or workers cannot start.
        """
        self._waiting.extend(blocks)
        try:
            patience = time.monotonic() + PATIENCE_SECONDS
            while self._busy() or (self._waiting and not self._stopping):
                self._direct()
                yield from self._listen()
                if any(assignment.ready for assignment in self._assignments.values()):
                    patience = time.monotonic() + PATIENCE_SECONDS
                elif time.monotonic() > patience:
                    patience = float("inf")
                    yield Notice("Waiting for a worker: none has started so far.")
        finally:
            for worker in self._assignments:
                worker.kill()

    def stop(self) -> None:
        """Let the workers leave their blocks after the current step."""
        self._stopping = True

    def _busy(self) -> list[Worker]:
        return [worker for worker, assignment in self._assignments.items() if assignment.block]

    def _direct(self) -> None:
        """Start workers that are missing, give blocks to those that are idle; or stop them."""
        busy = self._busy()
        if self._stopping:
            for worker in busy:
                worker.stop()
            return
        while len(self._assignments) < min(self.workers, len(busy) + len(self._waiting)):
            self._assignments[self.executor.start()] = Assignment()
        for worker, assignment in self._assignments.items():
            if assignment.ready and assignment.block is None and self._waiting:
                assignment.block, assignment.steps = self._waiting.popleft(), 0
                worker.give(assignment.block)

    def _listen(self) -> Iterator[Event]:
        messages = self.executor.receive(list(self._assignments))
        if not messages:
            yield None
        for worker, message in messages:
            yield from self._take(worker, message)

    def _take(self, worker: Worker, message: Message) -> Iterator[Event]:
        assignment = self._assignments[worker]
        if isinstance(message, SublimError):
            raise message
        if isinstance(message, Lost):
            worker.kill()
            del self._assignments[worker]
            yield from self._retry(assignment, message.reason)
        elif isinstance(message, Progress):
            assignment.steps += message.steps
            yield message
            if message.curves is not None and assignment.block is not None:
                yield CurveUpdate(assignment.block.name, message.curves)
        else:
            assignment.ready, assignment.block, self._false_starts = True, None, 0
            if isinstance(message, Finished):
                yield message
            else:
                assert isinstance(message, Idle)

    def _retry(self, assignment: Assignment, reason: str) -> Iterator[Event]:
        """Try the block of a lost worker again, then its seeds apart, or record it as failed."""
        if assignment.block is None:
            self._false_starts += not assignment.ready
            if self._false_starts >= ATTEMPTS * self.workers:
                raise SublimError(f"no worker can start: {reason}")
            return
        yield Progress(-assignment.steps)
        self._losses[assignment.block] += 1
        if self._losses[assignment.block] < ATTEMPTS:
            self._waiting.appendleft(assignment.block)
            yield Notice(
                f"A worker was lost ({reason}); block {assignment.block.name} starts again."
            )
        elif halves := assignment.block.halves():
            self._waiting.extendleft(reversed(halves))
            yield Notice(
                f"A worker was lost ({reason}); the seeds of block {assignment.block.name} are "
                "tried separately."
            )
        else:
            yield failed(
                self.job, assignment.block, f"its worker was lost {ATTEMPTS} times (last: {reason})"
            )
