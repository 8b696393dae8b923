"""What every worker does with a block, wherever it runs."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sublim_causal.errors import StorageError
from sublim_causal.location import write_atomically
from sublim_causal.study.executors import Finished, Idle, Progress
from sublim_causal.study.worker.blocks import Block
from sublim_causal.study.worker.trainer import Begun, Job

if TYPE_CHECKING:
    import pandas as pd

    from sublim_causal.experiment.alignment import Recorder
    from sublim_causal.study.worker.curves import BlockCurves

REPORT_SECONDS = 0.2
CURVE_SECONDS = 3.0
"""Pause between the curves so far that a worker sends while it trains a block."""
RunBlock = Callable[[Block, Callable[[], None], Begun], "pd.DataFrame"]


class Stopped(Exception):  # noqa: N818 - control flow inside a worker
    """Raised inside a worker's training to leave it."""


@dataclass
class StepCounter:
    """Counts optimizer steps, and reports them a few times a second, now and then with curves."""

    report: Callable[[Progress], None]
    stop: threading.Event
    waiting: int = 0
    reported: float = 0.0
    curves: BlockCurves | None = None

    def begin(self, recorders: Mapping[str, Recorder]) -> None:
        """Report the curves of `recorders` from now on."""
        from sublim_causal.study.worker.curves import BlockCurves

        self.curves = BlockCurves(recorders)

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
        if time.monotonic() - self.reported > REPORT_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Report what was counted."""
        now, so_far = time.monotonic(), None
        if self.curves is not None and now - self.curves.read > CURVE_SECONDS:
            so_far = self.curves.update(now)
        self.report(Progress(self.waiting, so_far))
        self.waiting, self.reported = 0, now


def train(
    job: Job, run: RunBlock, block: Block, counter: StepCounter
) -> Finished | Idle | StorageError:
    """Train `block` and write its tables; a block that raises an error is recorded as failed.

    Where nothing can be written, the error itself is returned.
    """
    try:
        return _trained(job, run, block, counter)
    except Stopped:
        return Idle()
    except StorageError as error:
        return error


def _trained(job: Job, run: RunBlock, block: Block, counter: StepCounter) -> Finished:
    try:
        finished = Finished(block, run(block, counter.add, counter.begin))
    except (Stopped, StorageError):
        raise
    except Exception as error:
        log_error(job.run, block)
        finished = failed(job, block, f"{type(error).__name__}: {error}")
    counter.flush()
    return finished


def failed(job: Job, block: Block, reason: str) -> Finished:
    """Record `block` as failed, and return it as finished."""
    import pandas as pd

    from sublim_causal.store.tables import write_block
    from sublim_causal.study.worker.records import failed_rows

    frames = failed_rows(block.seeds, reason)
    for arm in block.arms:
        write_block(job.run, block.name, arm, frames)
    replicates = pd.concat([frames["replicates"].assign(arm=arm) for arm in block.arms])
    return Finished(block, replicates)


def log_error(run: Path, block: Block) -> None:
    """Write the current exception's traceback to the folder ``errors`` of the run."""
    text = f"block {block.name}, arms {', '.join(block.arms)}\n{traceback.format_exc()}"
    write_atomically(run / "errors" / f"{block.name}.log", text.encode())
