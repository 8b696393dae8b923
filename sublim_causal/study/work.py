"""What a worker process does: hold data and network, train blocks, write their tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from sublim_causal.errors import RequestError
from sublim_causal.experiment.contracts import ArmFailure
from sublim_causal.experiment.imports import named_classes
from sublim_causal.experiment.tasks import build_task
from sublim_causal.location import write_atomically
from sublim_causal.store.tables import write_block
from sublim_causal.study.kept import KeptNetworks
from sublim_causal.study.records import failed_rows, tables
from sublim_causal.study.seed_blocks import Block
from sublim_causal.study.spec import Study, definition

if TYPE_CHECKING:
    import torch

    from sublim_causal.experiment.alignment import Recorder
    from sublim_causal.experiment.interventions.base import Intervention
    from sublim_causal.experiment.networks.base import Network

EXAMPLES = 8
"""Made-up examples on which a model is tried."""
Begun = Callable[[Mapping[str, "Recorder"]], None]
"""Takes the recorder of every arm of a block whose students begin."""
Precision = Literal["fp64", "fp32", "tf32", "bf16"]
DEVICES = ("auto", "cpu", "cuda")
MATMUL_PRECISION = {"fp64": "highest", "fp32": "highest", "tf32": "high", "bf16": "medium"}
"""Matrix products inside; parameters, gradients and optimizer stay float32 (float64 for fp64)."""


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
        Where the study's own modules are looked for.
    """

    study: Study
    run: Path
    data: Any
    device: str
    precision: Precision
    path: tuple[str, ...]


def choose_device(name: str) -> str:
    """Return ``"cuda"`` or ``"cpu"``; ``"auto"`` takes a GPU where there is one.

    Raises
    ------
    RequestError
        If the device is unknown or not there.
    """
    import torch

    available = torch.cuda.is_available()
    if name == "auto":
        return "cuda" if available else "cpu"
    if name not in DEVICES:
        raise RequestError("--device", name, "auto, cpu or cuda")
    if name == "cuda" and not available:
        raise RequestError("--device", name, "cpu or auto", "torch finds no CUDA device here")
    return name


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


def validate_precision(precision: Precision, device: str) -> None:
    """Check that the processor of `device` multiplies in `precision`.

    Raises
    ------
    RequestError
        If it does not.
    """
    from sublim_causal.experiment.networks.products import multiplies_bfloat16

    if device == "cpu" and precision == "bf16" and not multiplies_bfloat16():
        raise RequestError("--precision", precision, "fp32: this processor has no bf16 products")
    if device == "cpu" and precision == "tf32":
        raise RequestError("--precision", precision, "fp32 or bf16 on a CPU; tf32 is for GPUs")


def configure_torch(precision: Precision) -> torch.dtype:
    """Set one thread and the precision of matrix products; return the dtype of everything."""
    import torch

    # One thread a process: threads that share one small product mostly wait for each other.
    torch.set_num_threads(1)
    torch.set_float32_matmul_precision(MATMUL_PRECISION[precision])
    # Convolutions on a GPU have a separate setting, and round to TF32 by default.
    torch.backends.cudnn.allow_tf32 = precision in ("tf32", "bf16")
    return torch.float64 if precision == "fp64" else torch.float32


@contextmanager
def configured(precision: Precision) -> Iterator[torch.dtype]:
    """Configure torch as a worker does, and restore its settings at the end."""
    import torch

    threads, products = torch.get_num_threads(), torch.get_float32_matmul_precision()
    convolutions = torch.backends.cudnn.allow_tf32
    try:
        yield configure_torch(precision)
    finally:
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision(products)
        torch.backends.cudnn.allow_tf32 = convolutions


def try_study(study: Study, precision: Precision, block_size: int) -> None:
    """Call the study's model a few times, and let every arm take two steps; nothing is written.

    Raises
    ------
    RequestError
        If a class of the study's own, or one with these options, breaks its contract.
    """
    import torch

    from sublim_causal.experiment.dry_step import Arm, try_arms
    from sublim_causal.experiment.networks.module import ModuleNetwork
    from sublim_causal.experiment.networks.trial import try_module

    task, network = build_task(study), make_network(study)
    interventions, channels = study.interventions(), study.channels()
    own_model = ":" in study.model.class_
    named = [
        arm for arm, one in study.arms.items() if own_model or any(named_classes(one.model_dump()))
    ]
    with configured(precision) as dtype:
        if isinstance(network, ModuleNetwork) and own_model:
            examples = task.sample(EXAMPLES, torch.Generator().manual_seed(1), dtype)
            try_module(network, study.model.class_, examples, dtype, block_size)
        try_arms(
            study,
            {
                arm: Arm(interventions[arm], channels[arm])
                for arm in study.with_followed(study.arms)
            },
            network,
            task,
            dtype=dtype,
            own=study.with_followed(named),
        )


def prepare(job: Job) -> BlockTrainer:
    """Load data and network once, for all blocks that a worker trains."""
    import torch

    dtype = configure_torch(job.precision)
    return BlockTrainer(
        job,
        make_network(job.study),
        build_task(job.study).on_device(job.data, torch.device(job.device), dtype),
        job.study.interventions(),
    )


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

        `after_step` and `begun` are called as `run_block` says.
        """
        import torch

        halves = block.halves()
        try:
            return self._write(block, after_step, begun)
        except torch.OutOfMemoryError:
            if not halves:
                raise
        # Outside of the handler, which holds on to the tensors of the failed attempt.
        torch.cuda.empty_cache()
        rows = [self(half, after_step, begun) for half in halves]
        return pd.concat(rows, ignore_index=True)

    def _write(
        self, block: Block, after_step: Callable[[], None], begun: Begun | None
    ) -> pd.DataFrame:
        from sublim_causal.experiment.block import run_block
        from sublim_causal.store.weights import encode_weights

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
                self.network.layout.size,
                definition(study, self.job.precision),
            ),
        )
        per_epoch = study.distillation.steps_per_epoch(study.distillation.examples)
        write_log(self.job.run, block, results)
        rows = []
        for arm in block.arms:
            result, weights = results[arm], b""
            if isinstance(result, ArmFailure):
                frames = failed_rows(block.seeds, result.reason)
            else:
                frames = tables(result, block.seeds, per_epoch)
                weights = encode_weights(self.network.layout, result.weights, block.seeds)
            write_block(self.job.run, block.name, arm, frames, weights=weights or None)
            rows.append(frames["replicates"].assign(arm=arm))
        return pd.concat(rows, ignore_index=True)


def write_log(run: Path, block: Block, results: Mapping[str, object]) -> None:
    """Write the tracebacks of the arms that failed to the folder ``errors`` of the run."""
    text = "\n".join(
        f"block {block.name}, arm {arm}\n{result.traceback}"
        for arm, result in results.items()
        if isinstance(result, ArmFailure)
    )
    if text:
        write_atomically(run / "errors" / f"{block.name}.log", text.encode())
