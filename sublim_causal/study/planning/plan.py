"""What a run would do: the missing blocks, the workers and the memory. Planning changes nothing."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from sublim_causal.experiment.interventions import validate_layers
from sublim_causal.study.executors import Resources
from sublim_causal.study.planning.block_size import balanced, step_cost
from sublim_causal.study.planning.memory import activations_taught, study_bytes, workers_for
from sublim_causal.study.planning.options import RunOptions
from sublim_causal.study.spec.study import Study
from sublim_causal.study.worker.blocks import Block, Work, block_work, missing_blocks
from sublim_causal.study.worker.device import validate_precision

if TYPE_CHECKING:
    from sublim_causal.experiment.networks.base import Network


@dataclass(frozen=True)
class RunPlan:
    """What a run would do.

    Attributes
    ----------
    blocks : list of Block
        What is missing.
    done, total : int
        Replicates that exist, and that will exist in the end; of this process's seeds.
    work : Work
        What is to be done.
    workers, block_size : int
    why : str
        Why blocks are of this size.
    worker_bytes : int
        Estimated memory of a worker.
    device : str
    """

    blocks: list[Block]
    done: int
    total: int
    work: Work
    workers: int
    block_size: int
    why: str
    worker_bytes: int
    device: str


def plan_run(
    study: Study,
    network: Network,
    options: RunOptions,
    resources: Resources,
    done: Mapping[str, set[int]],
) -> RunPlan:
    """Find out what is missing, given the seeds `done` by arm, and how it would be run.

    Raises
    ------
    RequestError
        If the study does not fit into the memory budget, or the model is wrong.
    """
    device = resources.device
    validate_precision(options.precision, device)
    parameters = network.layout.size
    validate_layers(study.interventions(), network.layout.layers)
    activations = activations_taught(study, network)
    seeds = range(study.seeds) if options.seed_range is None else options.seed_range
    memory = options.memory or resources.memory
    slots, of_gpu = options.workers or resources.slots, int(0.8 * resources.gpu_memory)
    if resources.gpus and options.workers is None:
        together = of_gpu // study_bytes(study, parameters, 1, activations)
        slots = min(slots, resources.gpus * max(1, together))
    # By all seeds, so that a run that was stopped is completed in the blocks that it began with.
    workers = min(slots, len(seeds))
    if options.block_size is not None:
        block_size, why = options.block_size, "set by --block-size"
    elif device == "cpu":
        most = fitting(study, parameters, activations, memory // workers)
        block_size, why = cpu_block(study, network, len(seeds), workers, most)
    else:
        sharing = math.ceil(workers / resources.gpus)
        most = fitting(study, parameters, activations, of_gpu // sharing)
        block_size = balanced(len(seeds), workers, most)
        why = f"a GPU's memory holds {most} for each worker; {sharing} share a GPU"
    block_size = min(block_size, len(seeds))
    kept = sum(len(done.get(arm, set()) & set(seeds)) for arm in study.arms)
    blocks = missing_blocks(study, done, block_size, seeds)
    worker_bytes = study_bytes(study, parameters, block_size, activations)
    limit = min(slots, max(1, len(blocks)))
    return RunPlan(
        blocks,
        kept,
        len(seeds) * len(study.arms),
        _work(study, blocks),
        workers_for(memory, worker_bytes, limit) if device == "cpu" else limit,
        block_size,
        why,
        worker_bytes,
        device,
    )


def _work(study: Study, blocks: Sequence[Block]) -> Work:
    alike = Counter((one.arms, len(one.seeds)) for one in blocks)
    found = [(count, block_work(study, *one)) for one, count in alike.items()]
    return Work(
        *(sum(count * getattr(one, field.name) for count, one in found) for field in fields(Work))
    )


def fitting(study: Study, parameters: int, activations: int, memory: int) -> int:
    """Return how many seeds fit into the `memory` of a worker, at least one."""
    fixed = study_bytes(study, parameters, 0, activations)
    each = study_bytes(study, parameters, 1, activations) - fixed
    return max(1, (memory - fixed) // each)


def cpu_block(
    study: Study, network: Network, seeds: int, workers: int, fitting: int
) -> tuple[int, str]:
    """Return how many of the `seeds` a CPU's worker trains together, and why."""
    cost = step_cost(study, network)
    if cost is None:
        return 1, "on a CPU, seeds of this network gain nothing from a shared block"
    size = balanced(seeds, workers, min(fitting, cost.seeds()))
    return (
        size,
        f"overhead is {cost.overhead(size):.0%} of a step, {cost.overhead(1):.0%} with one seed",
    )
