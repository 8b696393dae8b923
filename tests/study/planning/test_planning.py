"""Planning finds out what a run would do, and changes nothing."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from sublim_causal.study.executors import Resources
from sublim_causal.study.planning.block_size import balanced
from sublim_causal.study.planning.options import RunOptions
from sublim_causal.study.planning.plan import RunPlan, plan_run
from sublim_causal.study.spec.reading import load_study
from sublim_causal.study.spec.study import Study
from sublim_causal.study.worker.trainer import make_network
from tests.study.commands import TINY, sublim

OPTIONS: dict[str, Any] = {
    "run": Path("runs"),
    "device": "cpu",
    "precision": "fp32",
    "executor": "local",
    "address": None,
    "workers": None,
    "block_size": None,
    "memory": None,
    "data_dir": None,
    "download": False,
    "tracking_uri": None,
    "mirror_replicates": None,
}


@pytest.fixture
def two_threads() -> None:
    """Settings of torch that no worker would choose."""
    torch.set_num_threads(2)


def settings() -> tuple[object, ...]:
    return (
        torch.get_num_threads(),
        torch.get_float32_matmul_precision(),
        torch.backends.cudnn.allow_tf32,
        torch.get_rng_state().tolist(),
    )


@pytest.mark.parametrize("model", ["mlp", "cnn"])
@pytest.mark.usefixtures("two_threads")
def test_a_dry_run_changes_no_setting_of_torch(model: str, tmp_path: Path) -> None:
    before = settings()
    planned = sublim("run", "--dry-run", "--set", f"model.class={model}", cwd=tmp_path)
    assert planned.returncode == 0, planned.stderr
    assert settings() == before


def test_the_time_of_training_until_a_loss_is_a_limit(tmp_path: Path) -> None:
    until = ("--set", "distillation.until_loss=0.1")
    planned = sublim("run", *TINY, *until, "--dry-run", cwd=tmp_path)
    assert planned.returncode == 0, planned.stderr
    for row in ("optimizer steps +at most", "time +at most about"):
        assert re.search(row, planned.stdout), row


def test_a_dry_run_deletes_no_file(tmp_path: Path) -> None:
    options = (*TINY, "--seeds", "2", "--tracking-uri", "none")
    assert sublim("run", *options, "--seeds", "1", cwd=tmp_path).returncode == 0
    run = tmp_path / "runs" / "quickstart"
    (run / "steps" / "arm=baseline" / "0000009-0000009.parquet").write_bytes(b"not committed")
    (run / "steps" / "arm=baseline" / "0000000-0000000.parquet").write_bytes(b"damaged")
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    planned = sublim("run", *options, "--dry-run", cwd=tmp_path)
    assert planned.returncode == 0, planned.stderr
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


@pytest.mark.parametrize(
    ("seeds", "workers", "most", "size"),
    [(12, 2, 3, 3), (6, 2, 4, 3), (6, 2, 8, 3), (7, 2, 3, 2), (30, 2, 4, 4), (1, 2, 8, 1)],
)
def test_all_workers_get_equally_many_seeds(seeds: int, workers: int, most: int, size: int) -> None:
    assert balanced(seeds, workers, most) == size
    blocks = math.ceil(seeds / size)
    rounds = math.ceil(blocks / workers)
    assert rounds * size <= math.ceil(seeds / workers) + rounds - 1


TWO_CORES = Resources("cpu", 2, 8 * 2**30)
Done = Mapping[str, set[int]]
NOTHING: Done = {}


def planned(
    study: Study, resources: Resources = TWO_CORES, done: Done = NOTHING, **asked: object
) -> RunPlan:
    """Plan a run, on two cores with 8 GB."""
    options = RunOptions(**OPTIONS | asked)
    return plan_run(study, make_network(study), options, resources, done)


def test_seeds_of_small_networks_are_trained_together_on_a_cpu() -> None:
    study = load_study("quickstart")
    together = planned(study)
    assert 1 < together.block_size <= 6
    assert len({len(block.seeds) for block in together.blocks}) == 1
    assert len(together.blocks) % 2 == 0
    assert planned(load_study("paper")).block_size == 1
    assert planned(load_study("quickstart", settings=["model.class=cnn"])).block_size == 1
    assert planned(study, block_size=5).block_size == 5
    assert planned(study, workers=6).block_size <= 2


def test_workers_that_share_a_gpu_divide_seeds_and_memory() -> None:
    study = load_study("paper", settings=["seeds=1000"])
    four = planned(study, Resources("cuda", 4, 2**35, 1, 80 * 2**30))
    alone = planned(study, Resources("cuda", 1, 2**35, 1, 80 * 2**30))
    one_each = planned(study, Resources("cuda", 4, 2**35, 4, 80 * 2**30))
    assert (four.workers, alone.workers) == (4, 1)
    assert four.block_size * 4 <= 0.8 * 80 * 2**30 / (four.worker_bytes / four.block_size)
    assert len(four.blocks) % 4 == 0
    assert alone.block_size > 3 * four.block_size
    assert four.block_size < one_each.block_size <= alone.block_size
    small = planned(study, Resources("cuda", 4, 2**35, 1, 2**30))
    assert small.workers * small.worker_bytes <= 0.8 * 2**30
    few = planned(load_study("paper", settings=["seeds=6"]), Resources("cuda", 4, 2**35, 1, 2**36))
    assert (few.workers, few.block_size) == (3, 2)


@pytest.mark.parametrize("stopped_after", range(1, 5))
def test_a_run_that_was_stopped_is_completed_in_the_blocks_that_it_began_with(
    stopped_after: int,
) -> None:
    study = load_study("quickstart", settings=["seeds=14"])
    whole = [block.seeds for block in planned(study).blocks]
    assert [*map(len, whole)] == [3, 3, 3, 3, 2]
    seeds = {seed for block in whole[:stopped_after] for seed in block}
    done = dict.fromkeys(study.arms, seeds)
    assert [block.seeds for block in planned(study, done=done).blocks] == whole[stopped_after:]


def test_blocks_fit_into_the_memory() -> None:
    study = load_study("quickstart")
    one = planned(study, block_size=1).worker_bytes
    tight = planned(study, memory=2 * one)
    assert (tight.block_size, tight.workers) == (1, 2)
