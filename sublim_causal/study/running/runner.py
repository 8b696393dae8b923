"""Run a study: train the missing blocks, write their tables, and mirror them."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console

from sublim_causal.errors import RequestError, RunError
from sublim_causal.experiment.data.sources import data_directory
from sublim_causal.experiment.tasks import build_task
from sublim_causal.location import is_remote, write_atomically
from sublim_causal.store.lock import locked, manifest_locked
from sublim_causal.store.manifest import FILE, STUDY_FILE, read_manifest
from sublim_causal.study.console.display import Display
from sublim_causal.study.executors import Executor, Finished, Progress, open_executor
from sublim_causal.study.executors.dispatch import CurveUpdate, Dispatcher, Notice
from sublim_causal.study.planning.options import RunOptions
from sublim_causal.study.planning.plan import RunPlan, plan_run
from sublim_causal.study.planning.trial import try_study
from sublim_causal.study.running.completion import finished, is_whole, remove_unusable
from sublim_causal.study.running.manifest import (
    changed_code,
    describe,
    open_run,
    record_end,
    record_provenance,
    study_text,
    validate_run,
)
from sublim_causal.study.running.mirroring import BackgroundMirror
from sublim_causal.study.spec.study import Study
from sublim_causal.study.worker.trainer import Job, make_network


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes
    ----------
    interrupted : bool
        Stopped by Ctrl-C; finished blocks are kept.
    complete : bool
        Whether all replicates of the recorded study are there.
    mirror_error : str
        Why the mirror is not up to date; empty if it is.
    mirror_seconds : float
        What is left of the time that the mirror may delay the end.
    """

    interrupted: bool
    complete: bool
    mirror_error: str
    mirror_seconds: float


def run_study(study: Study, options: RunOptions, console: Console) -> Outcome:
    """Run what is missing of `study`; tables are complete up to the last finished block.

    Raises
    ------
    SublimError
        If the request, the data or the run directory cannot be used; nothing is written then.
    """
    if options.seed_range is not None and options.executor != "local":
        raise RequestError(
            "--executor", options.executor, "local, if a process runs only some of the seeds"
        )
    with open_executor(options.executor, options.address) as executor:
        executor.warm_up()  # while this process imports torch, too
        return run_on(executor, study, options, console)


def run_on(executor: Executor[Any], study: Study, options: RunOptions, console: Console) -> Outcome:
    """Run what is missing of `study` on an open executor."""
    import torch

    from sublim_causal.experiment.networks.products import product_engine

    resources = executor.resources(options.device)
    device = resources.device
    network = make_network(study)
    planned = plan_run(study, network, options, resources, done={})
    try_study(study, network, options.precision, planned.block_size)

    engine = product_engine(torch.device(device))
    data = build_task(study).load(data_directory(options.data_dir), download=options.download)
    run, seeds = options.run, options.seed_range
    existed = seeds is not None or is_remote(run) or run.exists()
    described = describe(study, device, options.precision, engine, options.stopping)
    validate_run(run, described)
    with locked(run, seeds), removed_if_refused(run, existed):
        with manifest_locked(run):
            manifest = open_run(run, described)
            write_atomically(run / STUDY_FILE, study_text(manifest["study"]))
        for path, problem in remove_unusable(run, study.arms, seeds).items():
            line = f"Damaged, and will be run again: {path} ({problem})"
            console.print(line, soft_wrap=True)
        plan = plan_run(study, network, options, resources, finished(run, study.arms, seeds))
        if plan.done:
            console.print(f"{plan.done} of {plan.total} replicates are already done.")
        if plan.blocks:
            tell_changed_code(run, described, console)
            with manifest_locked(run):
                record_provenance(run, described)
        job = Job(study, run.absolute(), data, device, options.precision, options.path)
        executor.load(job, plan.worker_bytes)
        return train(Dispatcher(executor, job, plan.workers), plan, options, console)


def tell_changed_code(run: Path, described: Mapping[str, Any], console: Console) -> None:
    """Warn that some replicates of `run` are of other code than those to come."""
    for name in changed_code(run, described):
        console.print(
            f"The code of {name} has changed since {run} began. Existing replicates are kept; "
            "with --out ANOTHER all replicates are made with the current code.",
            soft_wrap=True,
        )


@contextlib.contextmanager
def removed_if_refused(run: Path, existed: bool) -> Iterator[None]:
    """Leave no new directory behind when a run is refused before it wrote a manifest."""
    try:
        yield
    finally:
        if not existed and run.is_dir() and not (run / "manifest.json").exists():
            with contextlib.suppress(OSError):  # the refusal says more than this would
                for path in run.iterdir():
                    path.unlink()
                run.rmdir()


def train(dispatcher: Dispatcher, plan: RunPlan, options: RunOptions, console: Console) -> Outcome:
    """Run the plan's blocks with progress, Ctrl-C and the mirror; record whether all are there.

    Of processes that share a study, the one that completes it mirrors all of it.
    """
    study = dispatcher.job.study
    mirror = BackgroundMirror(
        options.run,
        options.tracking_uri,
        options.mirror_replicates,
        study.seeds * len(study.arms),
    )
    shared = options.seed_range is not None
    replicates = sum(len(block.seeds) * len(block.arms) for block in plan.blocks)
    display = Display(console, plan.work.steps, replicates, build_task(study).outcome.name)
    with interruptible(dispatcher, console) as presses:
        with contextlib.nullcontext() if shared else mirror:
            with display.show(), contextlib.closing(dispatcher.run(plan.blocks)) as events:
                if plan.done:
                    mirror.update()
                for event in events:
                    if isinstance(event, Progress):
                        display.advance(event.steps)
                    elif isinstance(event, CurveUpdate):
                        mirror.show(event.block, event.arms)
                    elif isinstance(event, Finished):
                        validate_there(options.run)
                        display.add(event.replicates)
                        mirror.update(event.block.name)
                    elif isinstance(event, Notice):
                        console.print(event.text, soft_wrap=True)
                    else:
                        display.refresh()
            complete = not presses and note_end(options.run)
        if shared and complete:
            with mirror:
                mirror.update()
    return Outcome(bool(presses), complete, mirror.error, mirror.seconds)


def validate_there(run: Path) -> None:
    """Check that nobody has deleted or moved the directory `run` while it is written.

    Raises
    ------
    RunError
        If its manifest is gone; what is still written there belongs to no run.
    """
    if not (run / FILE).exists():
        raise RunError(
            f"{run}: deleted or moved while it ran\n"
            "remedy: if it was moved, the same command with its new --out resumes it; delete what "
            "is left here"
        )


def note_end(run: Path) -> bool:
    """Record in the manifest whether all replicates of the recorded study are there; return it."""
    with manifest_locked(run):
        complete = is_whole(run, Study.model_validate(read_manifest(run)["study"]))
        record_end(run, complete=complete)
    return complete


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
