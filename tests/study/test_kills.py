"""A study killed again and again ends with the tables of an undisturbed one."""

from __future__ import annotations

import random
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest

from sublim_causal.store.blocks import committed
from sublim_causal.store.tables import read_table
from tests.study.commands import command, environment, same_tables, sublim

KILLS = 25
EARLY = 5
"""Every so many kills one comes while the study is still starting."""
SEEDS = 60
MORE = 12
"""Seeds, whole blocks, that are added whenever the study ended before its killer came."""
OPTIONS = ("--no-report", "--set", "distillation.epochs=3")
LATEST = 5
"""Seconds until a kill, from the start or from the first block that this start has finished."""


@pytest.mark.slow
def test_kills_at_random_moments_lose_and_repeat_nothing(tmp_path: Path) -> None:
    moments = random.Random(0)
    run = tmp_path / "runs" / "quickstart"
    done, seeds = [0], SEEDS
    for kill in range(KILLS):
        early, wait = kill % EARLY == 0, moments.uniform(0, LATEST)
        while not killed(run, seeds, wait=wait, early=early):
            seeds += MORE
        done.append(blocks(run))
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


def blocks(run: Path) -> int:
    """Number of committed blocks of all arms."""
    return sum(1 for _ in committed(run))


def killed(run: Path, seeds: int, *, wait: float, early: bool) -> bool:
    """Start the study and kill it; return False if it had ended by itself."""
    before = blocks(run)
    said = run.parent.parent / "said.txt"
    with said.open("w") as file:
        process = subprocess.Popen(
            command("run", *OPTIONS, "--seeds", str(seeds)),
            cwd=run.parent.parent,
            env=environment(),
            stdout=file,
            stderr=file,
        )
    while not early and process.poll() is None and blocks(run) == before:
        time.sleep(0.05)
    try:
        assert process.wait(timeout=wait) == 0, said.read_text()
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return True
    return False
