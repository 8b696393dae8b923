"""Runs of one's own, with known numbers."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from sublim_causal.own.run import OwnRun, open_run

Write = Callable[..., Path]


def opened(path: Path, **more: object) -> OwnRun:
    asked = {"outcome": "owl_rate", "unit": "fraction", "chance": 0.1, "title": "Owls", **more}
    return open_run(path, **asked)  # type: ignore[arg-type]


def write(
    path: Path, arms: dict[str, Sequence[int]], *, steps: int = 6, every: int = 1, **more: object
) -> Path:
    """Write a run whose arm ``guarded`` has about 0.2 less of the outcome than ``baseline``."""
    with opened(path, **more) as run:
        for arm, seeds in arms.items():
            for seed in seeds:
                rng, noise = random.Random(seed), random.Random(f"{seed} {arm}")
                with run.replicate(seed=seed, arm=arm) as r:
                    for step in range(steps):
                        r.log(step, loss=1 / (step + 1), epoch=step // 3)
                        if step % every == 0:
                            r.log(step, cos_update=rng.random() - 0.3, cos_gradient=rng.random())
                    rate = 0.3 + 0.1 * rng.random() + 0.02 * noise.random()
                    r.finish(owl_rate=rate + 0.2 * (arm == "baseline"), temperature=300.0)
    return path


@pytest.fixture(scope="session")
def paired_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own") / "paired"
    return write(folder, {"baseline": range(8), "guarded": range(8)}, columns={"temperature": "K"})


@pytest.fixture(scope="session")
def unpaired_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own") / "unpaired"
    return write(folder, {"baseline": range(8), "guarded": range(20, 30)}, steps=0)
