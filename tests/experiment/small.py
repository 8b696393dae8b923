"""A small experiment on made-up images, for tests that train."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from sublim_causal.experiment.block import run_block
from sublim_causal.experiment.config import Experiment
from sublim_causal.experiment.contracts import ArmFailure
from sublim_causal.experiment.data.sources import ImageData, ImageTensors, to_tensors
from sublim_causal.experiment.interventions import build_interventions
from sublim_causal.experiment.networks.models import build_network
from sublim_causal.experiment.outcome import ArmResult
from sublim_causal.experiment.tasks import build_task

SHAPE = (1, 8, 8)
CLASSES = 10
CPU = torch.device("cpu")


def small_experiment(
    arms: dict[str, dict[str, Any]] | None = None, **sections: dict[str, Any]
) -> Experiment:
    """Two epochs of four steps for the student, three steps for the teacher."""
    table = {
        "name": "small",
        "model": {"auxiliary": 3, "options": {"hidden": [16, 12]}},
        "teacher": {"epochs": 1, "batch_size": 64, "learning_rate": 1e-2},
        "distillation": {"examples": 100, "epochs": 2, "batch_size": 32, "learning_rate": 1e-2},
        "probe": {"size": 40},
        "arms": arms or {"baseline": {"intervention": "baseline"}},
    }
    for name, section in sections.items():
        table[name] = {**table.get(name, {}), **section}
    return Experiment.model_validate(table)


def small_images() -> ImageData:
    """Blurred class prototypes with noise: learnable in a few steps."""
    rng = np.random.default_rng(0)
    prototypes = rng.integers(0, 256, (CLASSES, *SHAPE))

    def part(count: int) -> tuple[np.ndarray, np.ndarray]:
        labels = rng.integers(0, CLASSES, count)
        pixels = 0.7 * prototypes[labels] + 0.3 * rng.integers(0, 256, (count, *SHAPE))
        return pixels.astype(np.uint8), labels

    return ImageData(part(150), part(80), part(60), 255.0)


def small_tensors(dtype: torch.dtype = torch.float64, device: torch.device = CPU) -> ImageTensors:
    """`small_images` as tensors."""
    return to_tensors(small_images(), device, dtype)


def run_small(
    experiment: Experiment,
    seeds: list[int],
    dtype: torch.dtype = torch.float64,
    device: torch.device = CPU,
) -> dict[str, ArmResult]:
    """Run all arms of `seeds` as one block."""
    arms = {
        name: build_interventions(f"arms.{name}", arm.procedure)
        for name, arm in experiment.arms.items()
    }
    results = run_block(
        experiment,
        seeds,
        arms,
        build_task(experiment),
        build_network(experiment.model, SHAPE, CLASSES),
        small_tensors(dtype, device),
        after_step=lambda: None,
    )
    failed = [one.traceback for one in results.values() if isinstance(one, ArmFailure)]
    assert not failed, failed
    return {arm: one for arm, one in results.items() if isinstance(one, ArmResult)}
