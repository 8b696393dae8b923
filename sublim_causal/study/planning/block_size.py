"""How many seeds a CPU trains together, from a model of what a step costs.

The model is of sizes alone, without a measurement, so that a study is cut into the same blocks on
every CPU with as many workers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sublim_causal.study.spec.study import Study

if TYPE_CHECKING:
    from sublim_causal.experiment.networks.base import Network

OPERATION_SECONDS = 7e-6
"""What an operation costs however small its tensors are; several seeds share it."""
FLOP_A_SECOND, BYTES_A_SECOND = 6e10, 1e10
"""Matrix products of the sizes at hand, and vectors that do not fit the cache, on one core."""
OPERATIONS, VECTORS = 60, 45
"""Of a step besides the passes: operations, and how often it reads or writes P numbers."""
NEGLIGIBLE = 0.1
"""Share of a step that operations may cost beside the arithmetic."""
MOST = 8
"""Larger blocks save little, and a run that is stopped loses the blocks it has begun."""


@dataclass(frozen=True)
class StepCost:
    """What a student's step costs on one core.

    Attributes
    ----------
    shared : float
        Seconds a block, whatever the number of its seeds.
    each : float
        Seconds a seed.
    """

    shared: float
    each: float

    def seeds(self) -> int:
        """Return how many seeds together make the shared part small, at most `MOST`."""
        return min(MOST, max(1, math.ceil(self.shared / (NEGLIGIBLE * self.each))))

    def overhead(self, seeds: int) -> float:
        """Return the share of operations in a step of a block."""
        return self.shared / (self.shared + seeds * self.each)


def step_cost(study: Study, network: Network) -> StepCost | None:
    """Return what a student's step costs; None where seeds side by side share nothing."""
    if (cost := network.cost) is None:
        return None
    probe = study.probe.size if study.measure.alignment else 0
    of_probe = 1 if network.batches_replicates else 2  # its halves, together or in turn
    passes = 1 + (of_probe if probe else 0)
    examples = study.distillation.batch_size + probe
    vectors = 4 * VECTORS * network.layout.size
    return StepCost(
        OPERATION_SECONDS * (OPERATIONS + passes * cost.operations),
        cost.flop * examples / FLOP_A_SECOND + vectors / BYTES_A_SECOND,
    )


def balanced(seeds: int, workers: int, most: int) -> int:
    """Return the size of blocks, at most `most`, of which all workers get equally many."""
    return math.ceil(seeds / (workers * math.ceil(seeds / (workers * most))))
