"""A compacted run is used like any other: resumed, extended, mirrored, reported, repaired."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sublim_causal.store.blocks import committed
from sublim_causal.store.lock import locked
from tests.study.commands import PLAN, TINY, same_tables, sublim

pytestmark = pytest.mark.end_to_end


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of three seeds."""
    cwd = tmp_path_factory.mktemp("sound")
    done = sublim("run", *TINY, "--seeds", "3", "--tracking-uri", "none", cwd=cwd)
    assert done.returncode == 0, done.stderr
    return cwd / "runs" / "quickstart"


def test_a_compacted_run_is_extended_mirrored_and_reported(sound: Path, tmp_path: Path) -> None:
    shutil.copytree(sound.parent, tmp_path / "runs")
    run = tmp_path / "runs" / "quickstart"
    assert sublim("sync", run, cwd=tmp_path).returncode == 0
    compacted = sublim("compact", run, cwd=tmp_path)
    assert compacted.returncode == 0, compacted.stderr
    assert ": 36 files, " in compacted.stdout
    assert "-> 12 files, " in compacted.stdout
    assert len(list(committed(run))) == 4
    same_tables(run, sound)
    again = sublim("run", *TINY, "--seeds", "3", cwd=tmp_path)
    assert "12 of 12 replicates are already done" in again.stderr
    mirrored = sublim("sync", run, cwd=tmp_path)
    assert "0 replicates written, 12 were there" in mirrored.stdout
    more = sublim("run", *TINY, "--seeds", "4", "--tracking-uri", "none", cwd=tmp_path)
    assert more.returncode == 0, more.stderr
    assert "12 of 16 replicates are already done" in more.stderr
    assert sublim("compact", run, cwd=tmp_path).returncode == 0
    status = sublim("status", run, cwd=tmp_path)
    assert status.returncode == 0
    assert "4 seeds" in status.stdout
    assert len(list(run.rglob("*.parquet"))) == 12
    (tmp_path / "plan.toml").write_text(PLAN)
    analysed = sublim("analyse", run, "--plan", "plan.toml", cwd=tmp_path)
    assert analysed.returncode == 0, analysed.stderr


def test_a_damaged_compacted_block_is_run_again(sound: Path, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "quickstart"
    shutil.copytree(sound, run)
    assert sublim("compact", run, cwd=tmp_path).returncode == 0
    (victim,) = run.glob("steps/arm=liminal/*.parquet")
    victim.write_bytes(victim.read_bytes()[:-20])
    refused = sublim("compact", run, cwd=tmp_path)
    assert refused.returncode == 1
    assert str(victim) in refused.stderr
    repaired = sublim("run", *TINY, "--seeds", "3", "--tracking-uri", "none", cwd=tmp_path)
    assert repaired.returncode == 0, repaired.stderr
    assert "9 of 12 replicates are already done" in repaired.stderr
    same_tables(run, sound)


def test_a_running_study_is_not_compacted(sound: Path) -> None:
    with locked(sound):
        refused = sublim("compact", sound, cwd=sound)
    assert refused.returncode == 2
    assert "in use by process" in refused.stderr
    assert len(list(sound.rglob("*.parquet"))) == 36


def test_only_a_run_is_compacted(tmp_path: Path) -> None:
    refused = sublim("compact", tmp_path / "nothing", cwd=tmp_path)
    assert refused.returncode == 2
    assert "not a run directory" in refused.stderr
    assert not any(tmp_path.iterdir())
