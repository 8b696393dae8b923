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
OPTIONS = ("--seeds", "30", "--no-report", "--set", "distillation.epochs=3")


@pytest.mark.slow
def test_kills_at_random_moments_lose_and_repeat_nothing(tmp_path: Path) -> None:
    moments = random.Random(0)
    run = tmp_path / "runs" / "quickstart"
    done = []
    for _ in range(KILLS):
        process = subprocess.Popen(
            command("run", *OPTIONS),
            cwd=tmp_path,
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            assert process.wait(timeout=moments.uniform(5, 20)) == 0
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        done.append(sum(1 for _ in committed(run)))
    print(f"blocks after each kill: {done}")
    assert done == sorted(done)
    last = sublim("run", *OPTIONS, cwd=tmp_path)
    assert last.returncode == 0, last.stderr
    undisturbed = sublim(
        "run", *OPTIONS, "--out", "undisturbed", "--tracking-uri", "none", cwd=tmp_path
    )
    assert undisturbed.returncode == 0, undisturbed.stderr
    same_tables(run, tmp_path / "undisturbed")
    rows = Counter(map(tuple, read_table(run, "replicates", columns=["arm", "seed"]).to_numpy()))
    assert len(rows) == 120
    assert set(rows.values()) == {1}
    mirrored = sublim("sync", run, cwd=tmp_path)
    assert "0 replicates written, 120 were there" in mirrored.stdout, mirrored.stderr
