"""Run blocks on a Ray cluster: one that is there, or one that is started here for the run.

A worker is an actor that asks for one core or one GPU, and for the memory it needs. The job with
its data sets is put into Ray's object store, which holds it once per node. The messages of a worker
come as a stream of results, so that progress arrives while a block trains.
"""

from __future__ import annotations

import os
import queue
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from sublim_causal.errors import RequestError, RunError, SublimError
from sublim_causal.store.manifest import FILE
from sublim_causal.study.executors import RECEIVE_SECONDS, Idle, Lost, Message, Progress, Resources
from sublim_causal.study.executors.local import free_gpu_memory, resources_here
from sublim_causal.study.executors.machine import cores
from sublim_causal.study.executors.training import StepCounter, train
from sublim_causal.study.worker.blocks import Block
from sublim_causal.study.worker.device import DEVICES
from sublim_causal.study.worker.trainer import Job, prepare

SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",  # by default Ray's workers yield to everything else
    # Ray prints lost workers to standard output, where our tables go; the dispatcher reports them.
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # the new behaviour, without a word about the old
}
ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
NUMERICAL_PACKAGES = ("sublim-causal", "torch", "numpy")
"""Packages of which all workers must have the caller's version."""
REACH_SECONDS = 10.0
GPU_SECONDS = 60.0


@dataclass(frozen=True)
class Origin:
    """What a worker must find on its node as on the caller's machine."""

    manifest: bytes
    versions: dict[str, str]


class Trainer:
    """Holds data and network, and trains a block at a time; becomes an actor of the cluster."""

    def __init__(self) -> None:
        os.environ.update(dict.fromkeys(ONE_THREAD, "1"))
        self._stop = threading.Event()

    def prepare(self, job: Job, origin: Origin) -> Iterator[Message]:
        """Load data and network; yield that the worker is idle, or what is wrong."""
        sys.path.extend(job.path)
        try:
            validate_node(job, origin)
            self._job, self._run = job, prepare(job)
        except SublimError as error:
            yield error
            return
        yield Idle()

    def train(self, block: Block) -> Iterator[Message]:
        """Train `block`; yield its messages."""
        messages: queue.SimpleQueue[Message] = queue.SimpleQueue()
        counter = StepCounter(messages.put, self._stop)
        threading.Thread(
            target=lambda: messages.put(train(self._job, self._run, block, counter)), daemon=True
        ).start()
        while isinstance(message := messages.get(), Progress):
            yield message
        yield message

    def stop(self) -> None:
        """Leave the block after the current step."""
        self._stop.set()


def validate_node(job: Job, origin: Origin) -> None:
    """Check that this node sees the run directory, and has the caller's packages.

    Raises
    ------
    RunError
        If not.
    """
    try:
        seen = (job.run / FILE).read_bytes()
    except OSError:
        seen = b""
    node = socket.gethostname()
    if seen != origin.manifest:
        raise RunError(
            f"{job.run}: node {node} of the Ray cluster does not see this run directory\n"
            "remedy: choose an --out that all nodes share under the same path, or use one machine"
        )
    for name, version in versions().items():
        if version != origin.versions[name]:
            raise RunError(
                f"node {node} of the Ray cluster has {name} {version}, this machine "
                f"{origin.versions[name]}\nremedy: install the same version on all nodes"
            )


def versions() -> dict[str, str]:
    """Return the versions of the packages that determine the numbers."""
    return {name: metadata.version(name) for name in NUMERICAL_PACKAGES}


@dataclass(eq=False)
class RayWorker:
    """An actor, and the stream of messages of its current task; None if it has none."""

    actor: Any
    stream: Any

    def give(self, block: Block) -> None:
        """Send a block."""
        self.stream = self.actor.train.options(num_returns="streaming").remote(block)

    def stop(self) -> None:
        """Tell the worker to leave its block after the current step."""
        self.actor.stop.remote()

    def kill(self) -> None:
        """End the worker at once."""
        import ray

        ray.kill(self.actor)


@dataclass
class RayExecutor:
    """Actors of a Ray cluster.

    Attributes
    ----------
    address : str or None
        ``HOST:PORT`` of a cluster that this machine belongs to; None: a cluster of this machine's
        cores and GPUs is started.
    """

    address: str | None

    def resources(self, device: str) -> Resources:
        """Return the cluster's cores, or its GPUs.

        Raises
        ------
        RequestError
            If there is no such device.
        """
        if self.address is None:
            return resources_here(device, gpus=gpus_here())
        self.warm_up()
        return resources_of_cluster(device)

    def warm_up(self) -> None:
        """Connect to the cluster, or start it.

        Raises
        ------
        RequestError
            If there is none at the address.
        """
        import ray

        if ray.is_initialized():
            return
        try:
            if self.address is not None:
                validate_reachable(self.address)
            self._connect()
        except (OSError, RuntimeError, ValueError) as error:
            raise RequestError(
                "--address",
                self.address,
                "HOST:PORT of a running Ray cluster that this machine belongs to",
                f"'ray start --head' starts one ({error})",
            ) from error

    def _connect(self) -> None:
        import ray

        options: dict[str, Any] = {"address": self.address}
        if self.address is None:
            options = {
                "address": "local",
                "num_cpus": cores(),
                "num_gpus": gpus_here(),
                "include_dashboard": False,
            }
        ray.init(**options, log_to_driver=False, logging_level="CRITICAL")

    def load(self, job: Job, worker_bytes: int) -> None:
        """Put the job into the object store."""
        import ray

        resource = "num_gpus" if job.device == "cuda" else "num_cpus"
        self._actor = ray.remote(Trainer).options(
            **{"num_cpus": 1, resource: 1},
            memory=worker_bytes if self.address is not None else None,
            max_concurrency=2,  # to receive `stop` while it trains
            scheduling_strategy="SPREAD",
        )
        self._job = ray.put(job)
        self._origin = Origin((job.run / FILE).read_bytes(), versions())

    def start(self) -> RayWorker:
        """Start an actor; the cluster finds the place for it."""
        actor = self._actor.remote()
        prepared = actor.prepare.options(num_returns="streaming").remote(self._job, self._origin)
        return RayWorker(actor, prepared)

    def receive(self, workers: Sequence[RayWorker]) -> list[tuple[RayWorker, Message]]:
        """Return one message of every worker that has sent one."""
        import ray

        streams = [worker.stream for worker in workers if worker.stream is not None]
        if not ray.wait(streams, num_returns=1, timeout=RECEIVE_SECONDS)[0]:
            return []
        ready, _ = ray.wait(streams, num_returns=len(streams), timeout=0)
        return [(w, _read(w)) for w in workers if any(w.stream is stream for stream in ready)]


@contextmanager
def open_ray(address: str | None) -> Iterator[RayExecutor]:
    """Open the executor of the cluster at `address`; leaving disconnects, or ends our own cluster.

    Raises
    ------
    RequestError
        If Ray is not installed, or cannot be used at this address.
    """
    os.environ.update({name: os.environ.get(name, value) for name, value in SETTINGS.items()})
    try:
        import ray
    except ImportError as error:
        raise RequestError(
            "--executor",
            "ray",
            "local, if Ray is not installed",
            "pip install 'sublim-causal[ray]'",
        ) from error
    if address is not None and "://" in address:
        raise RequestError(
            "--address",
            address,
            "HOST:PORT of a Ray cluster that this machine belongs to",
            "Ray's client (ray://) does not stream; join the cluster with 'ray start --address'",
        )
    try:
        yield RayExecutor(address)
    finally:
        ray.shutdown()


def validate_reachable(address: str) -> None:
    """Connect to `address`, ``HOST:PORT``; Ray itself would try again for minutes.

    Raises
    ------
    OSError or ValueError
        If no process listens there, or it is not an address.
    """
    host, _, port = address.rpartition(":")
    socket.create_connection((host, int(port)), timeout=REACH_SECONDS).close()


def gpus_here() -> int:
    """Return how many GPUs torch finds on this machine."""
    import torch

    return torch.cuda.device_count()


def resources_of_cluster(device: str) -> Resources:
    """Return the GPUs of the cluster if it has some and `device` allows, else its cores."""
    import ray

    total = ray.cluster_resources()
    gpus, memory = int(total.get("GPU", 0)), int(total["memory"])
    if device not in DEVICES or (device == "cuda" and not gpus):
        raise RequestError("--device", device, "auto or cpu; cuda if the Ray cluster has a GPU")
    if device == "cpu" or not gpus:
        return Resources("cpu", int(total.get("CPU", 1)), memory)
    asked = ray.remote(free_gpu_memory).options(num_gpus=1).remote()
    try:
        return Resources("cuda", gpus, memory, gpus, ray.get(asked, timeout=GPU_SECONDS))
    except ray.exceptions.RayError as error:
        raise RunError(f"no GPU of the Ray cluster answers: {_reason(error)}") from error


def _read(worker: RayWorker) -> Message:
    """Take the next message of a worker that has one."""
    import ray

    try:
        message: Message = ray.get(next(worker.stream))
    except ray.exceptions.RayError as error:
        return Lost(_reason(error))
    if not isinstance(message, Progress):
        worker.stream = None
    return message


def _reason(error: Exception) -> str:
    """Return why a worker ended: the first sentence of the last line of Ray's explanation."""
    import ray

    if isinstance(error, ray.exceptions.ActorUnavailableError):
        return "its node does not answer"
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1].split(". ")[0].rstrip(".")
