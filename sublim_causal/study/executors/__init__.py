"""Where blocks run: a kind of executor is one file here and one row in `EXECUTORS`.

An executor starts workers and receives their messages; `dispatch.Dispatcher` distributes the
blocks.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from sublim_causal.errors import RequestError, SublimError, nearest

if TYPE_CHECKING:
    import pandas as pd

    from sublim_causal.store.curves import ArmCurves
    from sublim_causal.study.worker.blocks import Block
    from sublim_causal.study.worker.trainer import Job

RECEIVE_SECONDS = 0.2
"""How long an executor waits for a message."""


@dataclass(frozen=True)
class Idle:
    """The worker has no block: it is ready, or has stopped its block as requested."""


@dataclass(frozen=True)
class Progress:
    """Optimizer steps done since the last event (negative: a block starts again)."""

    steps: int
    curves: ArmCurves | None = None
    """Curves so far of the arms of the worker's block, now and then."""


@dataclass(frozen=True)
class Finished:
    """A block whose tables are written, with its replicate rows."""

    block: Block
    replicates: pd.DataFrame


@dataclass(frozen=True)
class Lost:
    """The worker ended, and why."""

    reason: str


Message = Idle | Progress | Finished | Lost | SublimError
"""What a worker sends; an error ends the run."""


@dataclass(frozen=True)
class Resources:
    """What an executor has for a run.

    Attributes
    ----------
    device : str
        ``"cpu"`` or ``"cuda"``.
    slots : int
        Workers that run at once: one for each core, or several that share each GPU.
    memory : int
        Bytes that all workers may use together unless the user sets a limit.
    gpus : int
        0 on a CPU.
    gpu_memory : int
        Free bytes of one GPU.
    """

    device: str
    slots: int
    memory: int
    gpus: int = 0
    gpu_memory: int = 0


class Worker(Protocol):
    """Trains one block at a time."""

    def give(self, block: Block) -> None:
        """Send a block to an idle worker."""

    def stop(self) -> None:
        """Tell the worker to leave its block after the current step."""

    def kill(self) -> None:
        """End the worker at once, if it still runs."""


W = TypeVar("W", bound=Worker)


class Executor(Protocol[W]):
    """Starts workers and receives their messages."""

    def resources(self, device: str) -> Resources:
        """Return what there is for `device`: ``"auto"``, ``"cpu"`` or ``"cuda"``.

        Raises
        ------
        RequestError
            If there is no such device.
        """

    def warm_up(self) -> None:
        """Begin what takes time before workers can start, while the caller loads data."""

    def load(self, job: Job, worker_bytes: int) -> None:
        """Take the job of the workers to come, and the memory that each of them needs."""

    def start(self) -> W:
        """Start a worker; it reports that it is idle once it is ready."""

    def receive(self, workers: Sequence[W]) -> list[tuple[W, Message]]:
        """Return the messages of `workers`; wait at most `RECEIVE_SECONDS` for them."""


EXECUTORS = {
    "local": "sublim_causal.study.executors.local:open_local",
    "ray": "sublim_causal.study.executors.ray:open_ray",
}
"""Functions that open an executor at an address (None: here) for as long as a context lasts."""


def open_executor(name: str, address: str | None) -> AbstractContextManager[Executor[Worker]]:
    """Open the executor `name`; leaving the context closes it.

    Raises
    ------
    RequestError
        If there is no such executor, or it cannot be opened.
    """
    if name not in EXECUTORS:
        raise RequestError("--executor", name, " or ".join(EXECUTORS), nearest(name, EXECUTORS))
    opened: AbstractContextManager[Executor[Worker]] = pkgutil.resolve_name(EXECUTORS[name])(
        address
    )
    return opened
