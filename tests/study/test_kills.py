"""A study killed again and again ends with the tables of an undisturbed one."""

from __future__ import annotations

import random
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from sublim_causal.store.tables import committed, read_table
from tests.study.commands import command, environment, same_tables, sublim

KILLS = 25
SEEDS = 60
OPTIONS = ("--seeds", str(SEEDS), "--no-report", "--set", "distillation.epochs=3")
LATEST = 10
"""Seconds until a kill: about five go by before the first step is trained."""


@pytest.mark.slow
def test_kills_at_random_moments_lose_and_repeat_nothing(tmp_path: Path) -> None:
    moments = random.Random(0)
    run = tmp_path / "runs" / "quickstart"
    done, killed = [], 0
    for _ in range(KILLS):
        process = subprocess.Popen(
            command("run", *OPTIONS),
            cwd=tmp_path,
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            assert process.wait(timeout=moments.uniform(4, LATEST)) == 0
        except subprocess.TimeoutExpired:
            process.kill()
            killed += 1
            process.wait()
        done.append(sum(1 for _ in committed(run)))
    print(f"{killed} kills; blocks after each: {done}")
    assert done == sorted(done)
    last = sublim("run", *OPTIONS, cwd=tmp_path)
    assert last.returncode == 0, last.stderr
    undisturbed = sublim(
        "run", *OPTIONS, "--out", "undisturbed", "--tracking-uri", "none", cwd=tmp_path
    )
    assert undisturbed.returncode == 0, undisturbed.stderr
    same_tables(run, tmp_path / "undisturbed")
    rows = Counter(map(tuple, read_table(run, "replicates", columns=["arm", "seed"]).to_numpy()))
    assert len(rows) == 4 * SEEDS
    assert set(rows.values()) == {1}
    mirrored = sublim("sync", run, cwd=tmp_path)
    assert f"0 replicates written, {4 * SEEDS} were there" in mirrored.stdout, mirrored.stderr
