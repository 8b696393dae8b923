"""Run blocks in worker processes of this machine, one thread each."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event

from sublim_causal.errors import RequestError, SublimError
from sublim_causal.study.executors import RECEIVE_SECONDS, Idle, Lost, Message, Resources
from sublim_causal.study.executors.forkserver import import_for_workers, start_method
from sublim_causal.study.executors.machine import cores, default_memory
from sublim_causal.study.executors.training import StepCounter, train
from sublim_causal.study.worker.blocks import Block
from sublim_causal.study.worker.device import choose_device
from sublim_causal.study.worker.trainer import Job, prepare

WORKERS_A_GPU = 4
"""At most: they take turns on the GPU."""
CORES_A_WORKER, MEMORY_A_WORKER = 4, 8 * 2**30
"""What a worker that shares a GPU has at least: cores, and bytes of the GPU."""


@dataclass(eq=False)
class LocalWorker:
    """A worker process; `failure` says why it could not be started, and is empty if it was."""

    process: BaseProcess
    pipe: Connection
    stopping: Event
    failure: str = ""

    def give(self, block: Block) -> None:
        """Send a block."""
        with suppress(OSError):  # it died meanwhile, which `receive` reports
            self.pipe.send(block)

    def stop(self) -> None:
        """Tell the worker to leave its block after the current step."""
        self.stopping.set()

    def kill(self) -> None:
        """End the worker at once."""
        if not self.failure:
            self.process.kill()
            self.process.join()
        self.pipe.close()


@dataclass
class LocalExecutor:
    """Worker processes of this machine."""

    def resources(self, device: str) -> Resources:
        """Return this machine's cores, or its GPU, which workers share."""
        found = resources_here(device, gpus=1)
        return replace(found, slots=sharing_gpu(found.gpu_memory, cores())) if found.gpus else found

    def warm_up(self) -> None:
        """Let the server that forks workers import torch."""
        import_for_workers()

    def load(self, job: Job, worker_bytes: int) -> None:
        """Keep the job for the workers to come."""
        self._job = job
        self._context: BaseContext = multiprocessing.get_context(start_method())
        self._stopping = self._context.Event()

    def start(self) -> LocalWorker:
        """Start a process; one that dies meanwhile is a lost worker."""
        pipe, of_worker = multiprocessing.Pipe()
        arguments = (self._job, of_worker, self._stopping)
        process = self._context.Process(target=work, args=arguments, daemon=True)  # type: ignore[attr-defined]
        failure = ""
        try:
            process.start()
        except (OSError, EOFError) as error:
            failure = f"it could not be started: {error or type(error).__name__}"
        of_worker.close()
        return LocalWorker(process, pipe, self._stopping, failure)

    def receive(self, workers: Sequence[LocalWorker]) -> list[tuple[LocalWorker, Message]]:
        """Return one message of every worker that has sent one."""
        ready = wait([worker.pipe for worker in workers], timeout=RECEIVE_SECONDS)
        return [(worker, _read(worker)) for worker in workers if worker.pipe in ready]


@contextmanager
def open_local(address: str | None) -> Iterator[LocalExecutor]:
    """Open the executor of this machine.

    Raises
    ------
    RequestError
        If an address is given.
    """
    if address is not None:
        raise RequestError("--address", address, "nothing, except with --executor ray")
    yield LocalExecutor()


def resources_here(device: str, *, gpus: int) -> Resources:
    """Return what this machine has: its cores, or `gpus` GPUs."""
    chosen = choose_device(device)
    if chosen == "cpu":
        return Resources("cpu", cores(), default_memory())
    return Resources(chosen, gpus, default_memory(), gpus, free_gpu_memory())


def sharing_gpu(memory: int, cores: int) -> int:
    """Return how many workers share a GPU of so many free bytes.

    While one draws random numbers or writes tables on the CPU, the GPU computes for the others.
    """
    return max(1, min(WORKERS_A_GPU, cores // CORES_A_WORKER, memory // MEMORY_A_WORKER))


def free_gpu_memory() -> int:
    """Return the free memory of the current GPU, in bytes."""
    import torch

    free, _ = torch.cuda.mem_get_info()
    return int(free)


def work(job: Job, pipe: Connection, stop: threading.Event) -> None:
    """Be a worker: take blocks from `pipe` until it closes, and send back what happens."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C means
    threading.Thread(target=_die_with_parent, daemon=True).start()
    try:
        run = prepare(job)
    except SublimError as error:
        pipe.send(error)
        return
    pipe.send(Idle())
    while True:
        try:
            block = pipe.recv()
        except EOFError:
            return
        pipe.send(train(job, run, block, StepCounter(pipe.send, stop)))


def _read(worker: LocalWorker) -> Message:
    try:
        message: Message = worker.pipe.recv()
    except (EOFError, OSError):  # an OSError where it died within a message
        if worker.failure:
            return Lost(worker.failure)
        worker.process.join()
        return Lost(f"exit code {worker.process.exitcode}")
    return message


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
