from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sublim_causal.store import tables
from sublim_causal.store.connection import ENVIRONMENT
from sublim_causal.store.manifest import write_manifest
from sublim_causal.store.schema import arrow_schema

MakeRun = Callable[..., Path]

STUDY = {
    "name": "demo",
    "seeds": 2,
    "distillation": {"epochs": 5, "lr": 3e-4, "logits": ["auxiliary"]},
    "arms": {
        "baseline": {"intervention": "baseline"},
        "projection": {"intervention": "projection", "strength": 1.0},
    },
}


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo the defaults that the mirror sets for MLflow."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


def numbers(table: str, rows: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {field.name: rng.normal(size=rows) for field in arrow_schema(table)}


def block(seeds: Iterable[int], rng: np.random.Generator, steps: int) -> dict[str, pd.DataFrame]:
    """Return the tables of complete replicates with random figures."""
    frames: dict[str, list[pd.DataFrame]] = {"steps": [], "evaluations": [], "replicates": []}
    for seed in seeds:
        per_step = numbers("steps", steps, rng) | {"step": np.arange(steps), "epoch": 0}
        evaluated = numbers("evaluations", 6, rng) | {"step": np.linspace(0, steps, 6).astype(int)}
        final = numbers("replicates", 1, rng) | {"status": "complete", "reason": "", "seconds": 2.5}
        for table, columns in zip(frames, (per_step, evaluated, final), strict=True):
            frames[table].append(pd.DataFrame(columns | {"seed": seed}))
    return {table: pd.concat(parts, ignore_index=True) for table, parts in frames.items()}


def write_run(
    runs: Path,
    seeds: Iterable[int] = (0, 1),
    arms: Iterable[str] = ("baseline", "projection"),
    *,
    name: str = "demo",
    steps: int = 120,
    finished: str | None = "2030-01-02T03:05:00+00:00",
) -> Path:
    """Write (or extend) the run directory `name` in `runs` with random figures."""
    run = runs / name
    manifest = {
        "schema_version": 1,
        "run_id": name.encode().hex(),
        "name": name,
        "title": "A demonstration",
        "digest": "0" * 16,
        "study": STUDY,
        "device": "cpu",
        "precision": "float32",
        "git_revision": "0123abc",
        "created": "2030-01-02T03:04:05+00:00",
        "finished": finished,
    }
    write_manifest(run, manifest)
    for arm in arms:
        for seed in seeds:
            rng = np.random.default_rng([seed, *arm.encode()])
            tables.write_block(run, f"{seed:07d}-{seed:07d}", arm, block([seed], rng, steps))
    return run


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Return `write_run` for the directory ``runs`` of the test."""
    return partial(write_run, tmp_path / "runs")


@pytest.fixture(scope="module")
def shared_runs(tmp_path_factory: pytest.TempPathFactory) -> MakeRun:
    """Return `write_run` for a directory ``runs`` that the tests of a module share."""
    return partial(write_run, tmp_path_factory.mktemp("shared") / "runs")
