"""A worker's blocks: what does not fit a GPU is halved."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from sublim_causal.experiment import block as blocks
from sublim_causal.experiment.data.sources import load_images
from sublim_causal.store.blocks import committed
from sublim_causal.store.tables import read_table
from sublim_causal.study.spec.reading import load_study
from sublim_causal.study.worker.blocks import Block
from sublim_causal.study.worker.trainer import Job, prepare

TINY = ("distillation.examples=256", "distillation.epochs=1", "teacher.epochs=1", "probe.size=64")


def job(run: Path, *settings: str) -> Job:
    """Two arms of the quickstart, shrunk."""
    arms = ["baseline", "projection"]
    study = load_study("quickstart", settings=[*TINY, *settings], seeds=5, arms=arms)
    return Job(study, run, load_images(study.data, Path()), "cpu", "fp64", ())


def gpu_that_holds(seeds: int, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Let larger blocks fail as on a full GPU; return the list of those tried."""
    tried: list[tuple[int, ...]] = []
    whole = blocks.run_block

    def run_block(experiment: Any, block: Sequence[int], *rest: Any, **named: Any) -> Any:
        tried.append(tuple(block))
        if len(block) > seeds:
            raise torch.OutOfMemoryError
        return whole(experiment, block, *rest, **named)

    monkeypatch.setattr(blocks, "run_block", run_block)
    return tried


def test_a_block_that_does_not_fit_is_halved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    block = Block((0, 1, 2, 3, 4), ("baseline", "projection"))
    prepare(job(tmp_path / "whole"))(block, lambda: None)
    tried = gpu_that_holds(2, monkeypatch)
    rows = prepare(job(tmp_path / "halved"))(block, lambda: None)
    assert tried == [(0, 1, 2, 3, 4), (0, 1), (2, 3, 4), (2,), (3, 4)]
    assert sorted(zip(rows["arm"], rows["seed"], strict=True)) == [
        (arm, seed) for arm in block.arms for seed in block.seeds
    ]
    assert len(list(committed(tmp_path / "halved"))) == 6
    sums = [read_table(tmp_path / name, "steps")["gain"].sum() for name in ("whole", "halved")]
    assert sums[0] == pytest.approx(sums[1], rel=1e-9)


def test_a_seed_that_does_not_fit_alone_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu_that_holds(0, monkeypatch)
    with pytest.raises(torch.OutOfMemoryError):
        prepare(job(tmp_path))(Block((0, 1), ("baseline",)), lambda: None)
