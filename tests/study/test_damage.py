"""Damaged run directories: named by `status`, repaired by `run`, and no command crashes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sublim_causal.store.tables import block_of, read_table
from tests.study.commands import TINY, same_tables, sublim

OPTIONS = (*TINY, "--seeds", "2", "--tracking-uri", "none")


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two seeds."""
    cwd = tmp_path_factory.mktemp("sound")
    done = sublim("run", *OPTIONS, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return cwd / "runs" / "quickstart"


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 4] ^= 4  # a data page, well before the footer
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def other_content(path: Path) -> None:
    shutil.copy(path.parents[2] / "replicates" / path.parent.name / path.name, path)


@pytest.mark.parametrize("harm", [truncate, flip_a_bit, empty, other_content])
def test_status_names_the_file_and_run_redoes_its_block(
    harm: object, sound: Path, tmp_path: Path
) -> None:
    run = tmp_path / "runs" / "quickstart"
    shutil.copytree(sound, run)
    victim = sorted(run.glob("steps/arm=liminal/*.parquet"))[1]
    others = {p: p.stat().st_mtime_ns for p in run.rglob("*.parquet") if p != victim}
    harm(victim)  # type: ignore[operator]
    status = sublim("status", run, cwd=tmp_path)
    assert status.returncode == 1
    assert str(victim) in status.stderr
    assert "Traceback" not in status.stderr
    repaired = sublim("run", *OPTIONS, cwd=tmp_path)
    assert repaired.returncode == 0, repaired.stderr
    assert f"Damaged, and run again: {victim.relative_to(tmp_path)}" in repaired.stderr
    assert "7 of 8 replicates are there already" in repaired.stderr
    same_tables(run, sound)
    touched = {p for p, time in others.items() if p.stat().st_mtime_ns != time}
    assert {block_of(path) for path in touched} == {block_of(victim)}


@pytest.mark.parametrize("verb", ["analyse", "report", "sync"])
def test_no_other_command_crashes(verb: str, sound: Path, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "quickstart"
    shutil.copytree(sound, run)
    truncate(sorted(run.glob("steps/arm=liminal/*.parquet"))[1])
    done = sublim(verb, run, cwd=tmp_path)
    assert done.returncode == 2, done.stdout
    assert "damaged" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_foreign_file_is_left_alone(sound: Path, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "quickstart"
    shutil.copytree(sound, run)
    for place in ("notes.txt", "steps/notes.txt", "steps/arm=baseline/notes.txt"):
        (run / place).write_text("mine")
    done = sublim("run", *OPTIONS, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(list(run.rglob("notes.txt"))) == 3
    assert len(read_table(run, "replicates")) == 8


@pytest.mark.parametrize("content", ["{", '{"schema_version": 999}'])
def test_a_damaged_manifest_is_told(content: str, sound: Path, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "quickstart"
    shutil.copytree(sound, run)
    (run / "manifest.json").write_text(content)
    for command in (["status", run], ["run", *OPTIONS]):
        refused = sublim(*command, cwd=tmp_path)
        assert refused.returncode == 2, refused.stderr
        assert "manifest.json" in refused.stderr
        assert "Traceback" not in refused.stderr
    assert len(read_table(run, "replicates")) == 8
