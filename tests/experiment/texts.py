"""A small experiment on texts, for tests that train."""

from __future__ import annotations

from typing import Any

import torch

from sublim_causal.experiment.block import run_block
from sublim_causal.experiment.config import Experiment
from sublim_causal.experiment.contracts import ArmFailure
from sublim_causal.experiment.data.streams import SeedStreams
from sublim_causal.experiment.interventions import build_interventions
from sublim_causal.experiment.outcome import ArmResult
from sublim_causal.experiment.shared import Shared
from sublim_causal.experiment.tasks import build_task
from sublim_causal.experiment.tasks.base import train_anew

CPU = torch.device("cpu")
ARMS: dict[str, dict[str, Any]] = {
    "baseline": {"intervention": "baseline"},
    "null": {"intervention": "projection", "space": "update", "when": "always"},
    "hard": {"intervention": "baseline", "channel": {"name": "sampled"}},
    "other_base": {"intervention": "baseline", "student": {"initialisation": "other"}},
    "no_trait": {"intervention": "baseline", "targets": {"teacher": "no_trait"}},
    "divergent": {"intervention": "baseline", "targets": {"positions": "divergent"}},
    "agreeing": {"intervention": "baseline", "targets": {"positions": "agreeing"}},
    "random": {"intervention": "baseline", "targets": {"positions": "random"}},
}


class Bigrams(torch.nn.Sequential):
    """Logits that depend on the last token only: a module that is no transformer."""

    def __init__(self, tokens: int, context: int) -> None:
        super().__init__(torch.nn.Embedding(tokens, 8), torch.nn.Linear(8, tokens))


def small_texts(arms: dict[str, Any] | None = None, **sections: Any) -> Experiment:
    """A reference of 12 steps, a teacher of 6, and students of 8."""
    table: dict[str, Any] = {
        "name": "small",
        "task": {"name": "preference", "base_steps": 12, "base_batch_size": 8},
        "model": {"class": "transformer", "options": {"blocks": 1, "width": 16, "heads": 2}},
        "teacher": {"epochs": 1, "batch_size": 32, "learning_rate": 3e-3},
        "distillation": {"examples": 32, "epochs": 2, "batch_size": 8, "learning_rate": 3e-3},
        "probe": {"size": 8},
        "arms": arms or ARMS,
    }
    for name, section in sections.items():
        table[name] = {**table.get(name, {}), **section}
    return Experiment.model_validate(table)


def run_texts(
    asked: Experiment, seeds: list[int], device: torch.device = CPU
) -> dict[str, ArmResult]:
    """Run all arms of `seeds` as one block, in float64."""
    arms = {
        name: build_interventions(f"arms.{name}", arm.procedure) for name, arm in asked.arms.items()
    }
    task = build_task(asked)
    like = task.on_device(None, device, torch.float64)
    results = run_block(
        asked, seeds, arms, task, task.build_network(), like, after_step=lambda: None
    )
    failed = [one.traceback for one in results.values() if isinstance(one, ArmFailure)]
    assert not failed, failed
    return {arm: one for arm, one in results.items() if isinstance(one, ArmResult)}


@torch.no_grad()
def share_texts(asked: Experiment, seeds: list[int]) -> Shared:
    """Return what the arms share."""
    task = build_task(asked)
    like = task.on_device(None, CPU, torch.float64)
    streams = SeedStreams(asked.name, seeds)
    return task.share(
        list(asked.arms), streams, task.build_network(), like, lambda: None, train_anew
    )
