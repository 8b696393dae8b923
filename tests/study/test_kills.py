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
MORE = 10
"""Seeds that are added whenever the study was finished before its killer came."""
OPTIONS = ("--no-report", "--set", "distillation.epochs=3")
LATEST = 10
"""Seconds until a kill: about five go by before the first step is trained."""


@pytest.mark.slow
def test_kills_at_random_moments_lose_and_repeat_nothing(tmp_path: Path) -> None:
    moments = random.Random(0)
    run = tmp_path / "runs" / "quickstart"
    done, seeds = [0], SEEDS
    for _ in range(KILLS):
        while not killed(moments.uniform(4, LATEST), seeds, tmp_path):
            seeds += MORE
        done.append(sum(1 for _ in committed(run)))
    print(f"{KILLS} kills, {seeds} seeds; blocks after each: {done[1:]}")
    assert done == sorted(done)
    options = (*OPTIONS, "--seeds", str(seeds))
    last = sublim("run", *options, cwd=tmp_path)
    assert last.returncode == 0, last.stderr
    undisturbed = sublim(
        "run", *options, "--out", "undisturbed", "--tracking-uri", "none", cwd=tmp_path
    )
    assert undisturbed.returncode == 0, undisturbed.stderr
    same_tables(run, tmp_path / "undisturbed")
    rows = Counter(map(tuple, read_table(run, "replicates", columns=["arm", "seed"]).to_numpy()))
    assert len(rows) == 4 * seeds
    assert set(rows.values()) == {1}
    mirrored = sublim("sync", run, cwd=tmp_path)
    assert f"0 replicates written, {4 * seeds} were there" in mirrored.stdout, mirrored.stderr


def killed(seconds: float, seeds: int, cwd: Path) -> bool:
    """Start the study and kill it after `seconds`; return False if it had ended by itself."""
    process = subprocess.Popen(
        command("run", *OPTIONS, "--seeds", str(seeds)),
        cwd=cwd,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert process.wait(timeout=seconds) == 0
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return True
    return False
