"""What a worker process does: hold data and network, train blocks, write their tables."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sublim_causal.experiment.contracts import ArmFailure
from sublim_causal.experiment.tasks import build_task
from sublim_causal.location import write_atomically
from sublim_causal.study.spec.identity import definition
from sublim_causal.study.spec.study import Study
from sublim_causal.study.worker.blocks import Block
from sublim_causal.study.worker.device import Precision, configure_torch
from sublim_causal.study.worker.kept import KeptNetworks

if TYPE_CHECKING:
    import pandas as pd

    from sublim_causal.experiment.alignment import Recorder
    from sublim_causal.experiment.interventions.base import Intervention
    from sublim_causal.experiment.networks.base import Network


Begun = Callable[[Mapping[str, "Recorder"]], None]
"""Takes the recorder of every arm of a block whose students begin."""


@dataclass(frozen=True)
class Job:
    """All that a worker needs, sent to it once.

    Attributes
    ----------
    study : Study
    run : Path
        Where tables are written.
    data : object
        What `Task.load` returned.
    device : str
        ``"cpu"`` or ``"cuda"``.
    precision : str
    path : tuple of str
        Folders of the study's own modules.
    """

    study: Study
    run: Path
    data: Any
    device: str
    precision: Precision
    path: tuple[str, ...]


def make_network(study: Study) -> Network:
    """Build the study's network; torch's own random numbers stay as they are.

    Raises
    ------
    RequestError
        If the model or its options are wrong.
    """
    import torch

    with torch.random.fork_rng(devices=[]):
        return build_task(study).build_network()


def prepare(job: Job) -> BlockTrainer:
    """Load data and network once, for all blocks that a worker trains."""
    import torch

    dtype = configure_torch(job.precision)
    trainer = BlockTrainer(
        job,
        make_network(job.study),
        build_task(job.study).on_device(job.data, torch.device(job.device), dtype),
        job.study.interventions(),
    )
    # What the libraries made stays: to look through it again and again took a tenth of small steps.
    gc.freeze()
    return trainer


@dataclass(frozen=True)
class BlockTrainer:
    """Trains blocks and writes their tables: called with a block, it returns its replicate rows."""

    job: Job
    network: Network
    data: Any
    interventions: Mapping[str, Sequence[Intervention]]

    def __call__(
        self, block: Block, after_step: Callable[[], None], begun: Begun | None = None
    ) -> pd.DataFrame:
        """Run `block`; one that does not fit a GPU's memory is halved.

        So are the seeds of an arm that failed, until only those that fail alone are left.
        `after_step` and `begun` are called as in `run_block`.
        """
        import pandas as pd
        import torch

        halves = block.halves()
        rows: list[pd.DataFrame] = []
        try:
            rows, arms = self._write(block, after_step, begun)
        except torch.OutOfMemoryError:
            if not halves:
                raise
            arms = block.arms
        # Outside of the handler, which holds on to the tensors of the failed attempt.
        if arms:
            torch.cuda.empty_cache()
            rows += [self(replace(half, arms=arms), after_step, begun) for half in halves]
        return pd.concat(rows, ignore_index=True)

    def _write(
        self, block: Block, after_step: Callable[[], None], begun: Begun | None
    ) -> tuple[list[pd.DataFrame], tuple[str, ...]]:
        """Return rows of replicates, and the arms of which each seed is to be tried alone."""
        from sublim_causal.experiment.block import run_block
        from sublim_causal.store.tables import write_block
        from sublim_causal.store.weights import encode_weights
        from sublim_causal.study.worker.records import failed_rows, tables

        study = self.job.study
        results = run_block(
            study,
            block.seeds,
            {arm: self.interventions[arm] for arm in study.with_followed(block.arms)},
            build_task(study),
            self.network,
            self.data,
            after_step=after_step,
            begun=begun,
            keep=KeptNetworks(
                self.job.run,
                block.seeds,
                definition(study, self.job.precision),
            ),
        )
        per_epoch = study.distillation.steps_per_epoch(study.distillation.examples)
        failures = {a: r for a in block.arms if isinstance(r := results[a], ArmFailure)}
        again = tuple(failures) if block.halves() else ()
        if not again:
            write_log(self.job.run, block, failures)
        rows = []
        for arm in block.arms:
            if arm in again:
                continue
            result, weights = results[arm], b""
            if isinstance(result, ArmFailure):
                frames = failed_rows(block.seeds, result.reason)
            else:
                frames = tables(result, block.seeds, per_epoch)
                weights = encode_weights(self.network.layout, result.weights, block.seeds)
            write_block(self.job.run, block.name, arm, frames, weights=weights or None)
            rows.append(frames["replicates"].assign(arm=arm))
        return rows, again


def write_log(run: Path, block: Block, failures: Mapping[str, ArmFailure]) -> None:
    """Write the tracebacks of the arms that failed to the folder ``errors`` of the run."""
    text = "\n".join(
        f"block {block.name}, arm {arm}\n{failure.traceback}" for arm, failure in failures.items()
    )
    if text:
        write_atomically(run / "errors" / f"{block.name}.log", text.encode())
