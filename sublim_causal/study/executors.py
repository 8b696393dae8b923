"""Run blocks in worker processes of this machine."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

import pandas as pd

from sublim_causal.errors import SublimError
from sublim_causal.store.tables import write_atomically, write_block
from sublim_causal.study.plan import Block
from sublim_causal.study.records import failed_rows
from sublim_causal.study.work import Job, prepare, start_method

REPORT_SECONDS = 0.2
ATTEMPTS = 3
"""A block whose worker dies is tried again; after this many deaths it is recorded as failed."""


@dataclass(frozen=True)
class Progress:
    """Optimizer steps done since the last event (negative: a block starts again)."""

    steps: int


@dataclass(frozen=True)
class Finished:
    """A block whose tables are written, with its replicate rows."""

    block: Block
    replicates: pd.DataFrame


Event = Progress | Finished | None
"""None: nothing happened for a while."""


class Stopped(Exception):  # noqa: N818 - control flow inside a worker
    """Raised inside a worker's training to leave it."""


@dataclass(eq=False)
class Worker:
    """A worker process and the block it has in hand."""

    process: BaseProcess
    pipe: Connection
    block: Block | None = None
    steps: int = 0


@dataclass
class LocalExecutor:
    """Worker processes on this machine, one thread each.

    Attributes
    ----------
    workers : int
        Processes at a time.
    """

    workers: int
    _alive: list[Worker] = field(default_factory=list, init=False)
    _stopping: bool = field(default=False, init=False)

    def run(self, job: Job, blocks: Sequence[Block]) -> Iterator[Event]:
        """Yield events until all blocks are finished; `stop` ends it early.

        Raises
        ------
        SublimError
            If a worker cannot start.
        """
        context = multiprocessing.get_context(start_method())
        self._stop = context.Event()
        waiting, deaths = deque(blocks), dict.fromkeys(blocks, 0)
        try:
            while (waiting and not self._stopping) or any(w.block for w in self._alive):
                while waiting and not self._stopping and len(self._alive) < self.workers:
                    self._alive.append(self._start(context, job))
                for worker in self._alive:
                    if worker.block is None and waiting and not self._stopping:
                        worker.block, worker.steps = waiting.popleft(), 0
                        worker.pipe.send(worker.block)
                yield from self._events(job, waiting, deaths)
        finally:
            self.kill()

    def stop(self) -> None:
        """Stop after the current step."""
        self._stopping = True
        self._stop.set()

    def kill(self) -> None:
        """End all workers at once."""
        for worker in self._alive:
            worker.process.kill()
        for worker in self._alive:
            worker.process.join()
            worker.pipe.close()
        self._alive.clear()

    def _start(self, context: multiprocessing.context.BaseContext, job: Job) -> Worker:
        ours, theirs = multiprocessing.Pipe()
        process = context.Process(target=work, args=(job, theirs, self._stop), daemon=True)  # type: ignore[attr-defined]
        process.start()
        theirs.close()
        return Worker(process, ours)

    def _events(self, job: Job, waiting: deque[Block], deaths: dict[Block, int]) -> Iterator[Event]:
        ready = wait([w.pipe for w in self._alive], timeout=0.2)
        if not ready:
            yield None
        for worker in [w for w in self._alive if w.pipe in ready]:
            try:
                message = worker.pipe.recv()
            except (EOFError, ConnectionResetError):
                yield from self._bury(worker, job, waiting, deaths)
                continue
            if isinstance(message, SublimError):
                raise message
            if isinstance(message, Progress):
                worker.steps += message.steps
            elif isinstance(message, Finished):
                worker.block = None
            else:  # stopped
                worker.block = None
                continue
            yield message

    def _bury(
        self, worker: Worker, job: Job, waiting: deque[Block], deaths: dict[Block, int]
    ) -> Iterator[Event]:
        """Take a dead worker out; its block is tried again, or recorded as failed."""
        worker.process.join()
        self._alive.remove(worker)
        block, code = worker.block, worker.process.exitcode
        if block is None:
            raise SublimError(f"a worker process ended while starting (exit code {code})")
        yield Progress(-worker.steps)
        deaths[block] += 1
        if deaths[block] < ATTEMPTS:
            waiting.appendleft(block)
        else:
            yield failed(job, block, f"its worker process died {ATTEMPTS} times (exit code {code})")


def failed(job: Job, block: Block, reason: str) -> Finished:
    """Record `block` as failed, and return it as finished."""
    frames = failed_rows(block.seeds, reason)
    for arm in block.arms:
        write_block(job.run, block.name, arm, frames)
    replicates = pd.concat([frames["replicates"].assign(arm=arm) for arm in block.arms])
    return Finished(block, replicates)


def work(job: Job, pipe: Connection, stop: threading.Event) -> None:
    """Be a worker: take blocks from `pipe` until it closes, and send back what happens."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C means
    threading.Thread(target=_die_with_parent, daemon=True).start()
    try:
        run = prepare(job)
    except SublimError as error:
        pipe.send(error)
        return
    while True:
        try:
            block = pipe.recv()
        except EOFError:
            return
        counter = StepCounter(pipe, stop)
        try:
            replicates = run(block, counter.add)
            counter.flush()
            pipe.send(Finished(block, replicates))
        except Stopped:
            pipe.send(None)
        except Exception as error:
            counter.flush()
            log_error(job.run, block)
            pipe.send(failed(job, block, f"{type(error).__name__}: {error}"))


@dataclass
class StepCounter:
    """Counts optimizer steps, and tells the parent a few times a second."""

    pipe: Connection
    stop: threading.Event
    waiting: int = 0
    told: float = 0.0

    def add(self) -> None:
        """Count one step.

        Raises
        ------
        Stopped
            If the worker is to stop.
        """
        if self.stop.is_set():
            raise Stopped
        self.waiting += 1
        if time.monotonic() - self.told > REPORT_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Tell the parent what was counted."""
        self.pipe.send(Progress(self.waiting))
        self.waiting, self.told = 0, time.monotonic()


def log_error(run: Path, block: Block) -> None:
    """Write the current exception's traceback to the folder ``errors`` of the run."""
    text = f"block {block.name}, arms {', '.join(block.arms)}\n{traceback.format_exc()}"
    write_atomically(run / "errors" / f"{block.name}.log", text.encode())


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
