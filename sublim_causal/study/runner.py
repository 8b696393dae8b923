"""Run a study: what is missing, in blocks, into the tables, and on to the mirror."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import tomli_w
from rich.console import Console

from sublim_causal.experiment.data.sources import data_directory, load_images
from sublim_causal.experiment.interventions import validate_layers
from sublim_causal.location import is_remote
from sublim_causal.store.tables import write_atomically
from sublim_causal.store.tracking import REPLICATE_LIMIT
from sublim_causal.study.display import Display
from sublim_causal.study.executors import Executor, Finished, Progress, Resources, open_executor
from sublim_causal.study.executors.dispatch import Dispatcher, Notice
from sublim_causal.study.lock import locked
from sublim_causal.study.manifest import (
    close_run,
    describe,
    note_makers,
    open_run,
    validate_run,
)
from sublim_causal.study.mirroring import BackgroundMirror
from sublim_causal.study.plan import (
    Block,
    activations_taught,
    block_steps,
    finished,
    is_whole,
    missing_blocks,
    remove_unusable,
    study_bytes,
    workers_for,
)
from sublim_causal.study.spec import Study
from sublim_causal.study.work import (
    Job,
    Precision,
    configure_torch,
    make_network,
)


@dataclass(frozen=True)
class RunOptions:
    """How a study is run; nothing here changes its numbers, except `precision`.

    Attributes
    ----------
    run : Path
        Run directory.
    device : str
        ``"auto"``, ``"cpu"`` or ``"cuda"``.
    precision : str
    executor : str
        Where blocks run, a name in `EXECUTORS`.
    address : str or None
        Where the executor is; None: on this machine.
    workers : int or None
        Workers at a time; default: one a core, or one a GPU.
    block_size : int or None
        Seeds trained together; default: 1 on a CPU, on a GPU what its memory holds.
    memory : int or None
        Budget of all workers together, bytes; default: what the executor says.
    data_dir : Path or None
    download : bool
    tracking_uri : str or None
        MLflow store of the mirror; None: no mirror.
    mirror_replicates : bool or None
        Mirror every replicate; None: up to 500 of them.
    path : tuple of str
        Where the study's own modules are looked for.
    """

    run: Path
    device: str
    precision: Precision
    executor: str
    address: str | None
    workers: int | None
    block_size: int | None
    memory: int | None
    data_dir: Path | None
    download: bool
    tracking_uri: str | None
    mirror_replicates: bool | None
    path: tuple[str, ...] = ()


@dataclass(frozen=True)
class RunPlan:
    """What a run would do.

    Attributes
    ----------
    blocks : list of Block
        What is missing.
    done, total : int
        Replicates that are there, and that the study has.
    steps : int
        Optimizer steps to do.
    workers, block_size : int
    worker_bytes : int
        Estimated memory of a worker.
    device : str
    """

    blocks: list[Block]
    done: int
    total: int
    steps: int
    workers: int
    block_size: int
    worker_bytes: int
    device: str


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes
    ----------
    interrupted : bool
        Stopped by Ctrl-C; finished blocks are kept.
    mirror_error : str
        Why the mirror is not up to date; empty if it is.
    """

    interrupted: bool
    mirror_error: str


def plan_run(
    study: Study, options: RunOptions, resources: Resources, done: Mapping[str, set[int]]
) -> RunPlan:
    """Find out what is missing beside the seeds `done` by arm, and how it would be run.

    Raises
    ------
    RequestError
        If the study does not fit into the memory budget, or the model is wrong.
    """
    device = resources.device
    configure_torch(options.precision, device)
    network = make_network(study)
    parameters = network.layout.size
    validate_layers(study.interventions(), network.layout.layers)
    activations = activations_taught(study, network)
    fitting = 1 if device == "cpu" else gpu_block(study, parameters, activations, resources)
    block_size = min(options.block_size or fitting, study.seeds)
    kept = sum(len(done.get(arm, set()) & set(range(study.seeds))) for arm in study.arms)
    blocks = missing_blocks(study, done, block_size)
    worker_bytes = study_bytes(study, parameters, block_size, activations)
    limit = min(options.workers or resources.slots, max(1, len(blocks)))
    memory = options.memory or resources.memory
    return RunPlan(
        blocks,
        kept,
        study.seeds * len(study.arms),
        sum(n * block_steps(study, arms) for arms, n in Counter(b.arms for b in blocks).items()),
        workers_for(memory, worker_bytes, limit) if device == "cpu" else limit,
        block_size,
        worker_bytes,
        device,
    )


def gpu_block(study: Study, parameters: int, activations: int, resources: Resources) -> int:
    """Return how many seeds fit into four fifths of a GPU's free memory, at least one."""
    fixed = study_bytes(study, parameters, 0, activations)
    each = study_bytes(study, parameters, 1, activations) - fixed
    return max(1, int(0.8 * resources.gpu_memory - fixed) // each)


def run_study(study: Study, options: RunOptions, console: Console) -> Outcome:
    """Run what is missing of `study`; tables are complete up to the last finished block.

    Raises
    ------
    SublimError
        If the request, the data or the run directory cannot be used; nothing is written then.
    """
    for entry in options.path:
        sys.path.insert(0, entry)
    with open_executor(options.executor, options.address) as executor:
        executor.warm_up()
        return run_on(executor, study, options, console)


def run_on(executor: Executor[Any], study: Study, options: RunOptions, console: Console) -> Outcome:
    """Run what is missing of `study` on an open executor."""
    import torch

    from sublim_causal.experiment.networks.products import product_engine

    resources = executor.resources(options.device)
    device = resources.device
    plan_run(study, options, resources, done={})

    engine = product_engine(torch.device(device))
    images = load_images(
        study.data,
        data_directory(options.data_dir),
        others=study.other_data(),
        download=options.download,
    )
    existed = is_remote(options.run) or options.run.exists()
    described = describe(study, device, options.precision, engine)
    validate_run(options.run, described)
    with locked(options.run), removed_if_refused(options.run, existed):
        manifest = open_run(options.run, described)
        write_study(options.run, manifest["study"])
        for path, problem in remove_unusable(options.run, study.arms).items():
            told = f"Damaged, and run again: {path} ({problem})"
            console.print(told, soft_wrap=True)
        plan = plan_run(study, options, resources, finished(options.run, study.arms))
        if plan.done:
            console.print(f"{plan.done} of {plan.total} replicates are there already.")
        if plan.blocks:
            note_makers(options.run, described)
        job = Job(study, options.run.absolute(), images, device, options.precision, options.path)
        executor.load(job, plan.worker_bytes)
        outcome = train(Dispatcher(executor, job, plan.workers), plan, options, console)
        if not outcome.interrupted and is_whole(
            options.run, Study.model_validate(manifest["study"])
        ):
            close_run(options.run)
    return outcome


@contextlib.contextmanager
def removed_if_refused(run: Path, existed: bool) -> Iterator[None]:
    """Leave no new directory behind when a run is refused before it wrote a manifest."""
    try:
        yield
    finally:
        if not existed and run.is_dir() and not (run / "manifest.json").exists():
            for path in run.iterdir():
                path.unlink()
            run.rmdir()


def write_study(run: Path, study: Mapping[str, Any]) -> None:
    """Write the study as it is recorded, all defaults filled in, to ``study.toml``."""
    table = Study.model_validate(study).model_dump(mode="json", by_alias=True, exclude_none=True)
    write_atomically(run / "study.toml", tomli_w.dumps(table).encode())


def train(dispatcher: Dispatcher, plan: RunPlan, options: RunOptions, console: Console) -> Outcome:
    """Run the plan's blocks with progress, Ctrl-C and the mirror."""
    wanted = options.mirror_replicates
    mirror = BackgroundMirror(
        options.run,
        options.tracking_uri,
        replicates=plan.total <= REPLICATE_LIMIT if wanted is None else wanted,
    )
    replicates = sum(len(block.seeds) * len(block.arms) for block in plan.blocks)
    display = Display(console, plan.steps, replicates)
    with (
        interruptible(dispatcher, console) as presses,
        mirror,
        display.show(),
        contextlib.closing(dispatcher.run(plan.blocks)) as events,
    ):
        if plan.done:
            mirror.update()
        for event in events:
            if isinstance(event, Progress):
                display.advance(event.steps)
            elif isinstance(event, Finished):
                display.add(event.replicates)
                mirror.update()
            elif isinstance(event, Notice):
                console.print(event.text, soft_wrap=True)
            else:
                display.refresh()
    return Outcome(interrupted=bool(presses), mirror_error=mirror.error)


@contextlib.contextmanager
def interruptible(dispatcher: Dispatcher, console: Console) -> Iterator[list[int]]:
    """Stop after the current step at the first Ctrl-C, at once at the second."""
    presses: list[int] = []

    def on_interrupt(number: int, frame: FrameType | None) -> None:
        presses.append(number)
        if len(presses) == 1:
            console.print("Stopping after the current step; Ctrl-C again stops at once.")
            dispatcher.stop()
        else:
            raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield presses
        return
    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield presses
    finally:
        signal.signal(signal.SIGINT, before)
