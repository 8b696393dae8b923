"""Damaged run directories: named by `status`, repaired by `run`, and no command crashes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from sublim_causal.store.blocks import block_of
from sublim_causal.store.tables import read_table
from tests.study.commands import TINY, same_tables, sublim

pytestmark = pytest.mark.end_to_end

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
    assert f"Damaged, and will be run again: {victim.relative_to(tmp_path)}" in repaired.stderr
    assert "7 of 8 replicates are already done" in repaired.stderr
    same_tables(run, sound)
    touched = {p for p, time in others.items() if p.stat().st_mtime_ns != time}
    assert {block_of(path) for path in touched} == {block_of(victim)}


@pytest.mark.parametrize("verb", ["analyse", "report", "sync"])
def test_no_other_command_has_a_traceback(verb: str, sound: Path, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "quickstart"
    shutil.copytree(sound, run)
    truncate(sorted(run.glob("steps/arm=liminal/*.parquet"))[1])
    done = sublim(verb, run, cwd=tmp_path)
    assert done.returncode == 2, done.stdout
    assert "damaged" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_foreign_file_is_ignored(sound: Path, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "quickstart"
    shutil.copytree(sound, run)
    for place in ("notes.txt", "steps/notes.txt", "steps/arm=baseline/notes.txt"):
        (run / place).write_text("mine")
    done = sublim("run", *OPTIONS, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(list(run.rglob("notes.txt"))) == 3
    assert len(read_table(run, "replicates")) == 8


def test_a_deleted_block_of_a_complete_run_is_named(sound: Path, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "quickstart"
    shutil.copytree(sound, run)
    (run / "replicates" / "arm=liminal" / "0000001-0000001.parquet").unlink()
    status = sublim("status", run, cwd=tmp_path)
    assert status.returncode == 1
    assert "arm=liminal (it lacks 1 of 2 seeds, although it was complete)" in status.stderr
    refused = sublim("analyse", run, cwd=tmp_path)
    assert refused.returncode == 2
    assert "it lacks 1 of 2 seeds" in refused.stderr
    assert sublim("run", *OPTIONS, cwd=tmp_path).returncode == 0
    same_tables(run, sound)


def test_a_changed_study_file_is_named_and_written_again(sound: Path, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "quickstart"
    shutil.copytree(sound, run)
    copy = run / "study.toml"
    content = copy.read_bytes()
    copy.write_bytes(content.replace(b"epochs = 2", b"epochs = 3"))
    status = sublim("status", run, cwd=tmp_path)
    assert status.returncode == 1
    assert f"Damaged: {copy} (its content differs from what was written)" in status.stderr
    assert sublim("run", *OPTIONS, cwd=tmp_path).returncode == 0
    assert copy.read_bytes() == content


@pytest.mark.parametrize("content", ["{", '{"schema_version": 999}'])
def test_a_damaged_manifest_is_reported(content: str, sound: Path, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "quickstart"
    shutil.copytree(sound, run)
    (run / "manifest.json").write_text(content)
    for command in (["status", run], ["run", *OPTIONS]):
        refused = sublim(*command, cwd=tmp_path)
        assert refused.returncode == 2, refused.stderr
        assert "manifest.json" in refused.stderr
        assert "Traceback" not in refused.stderr
    assert len(read_table(run, "replicates")) == 8


def copied_arm(run: Path) -> None:
    for table in ("replicates", "steps"):
        shutil.copytree(run / table / "arm=baseline", run / table / "arm=baseline (copy)")


def other_spelling(run: Path) -> None:
    shutil.copytree(run / "replicates" / "arm=baseline", run / "replicates" / "arm=%2e%2e%2fx")


def folders(run: Path) -> None:
    for name in ("foo.parquet", ".foo.tmp", "0000001-0000001.parquet.old"):
        (run / "steps" / "arm=baseline" / name).mkdir()
        (run / "steps" / "arm=baseline" / name / "mine").touch()


def copied_block(run: Path) -> None:
    for path in [*run.glob("*/arm=baseline/0000001-0000001.*")]:
        shutil.copy(path, path.with_stem(f"{path.stem} copy"))


@pytest.mark.parametrize("add", [copied_arm, other_spelling, folders, copied_block])
def test_what_no_run_has_written_is_neither_read_nor_touched(
    add: Callable[[Path], None], sound: Path, tmp_path: Path
) -> None:
    run = tmp_path / "runs" / "quickstart"
    shutil.copytree(sound, run)
    before = {*run.rglob("*")}
    add(run)
    foreign = {*run.rglob("*")} - before
    assert foreign
    for verb in (["status", run], ["run", *OPTIONS], ["analyse", run], ["compact", run]):
        done = sublim(*verb, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "amaged" not in done.stderr
    same_tables(run, sound)
    assert foreign <= {*run.rglob("*")}


@pytest.mark.parametrize("table", ["replicates", "steps"])
def test_a_directory_in_place_of_a_file_is_named_and_never_deleted(
    table: str, sound: Path, tmp_path: Path
) -> None:
    run = tmp_path / "runs" / "quickstart"
    shutil.copytree(sound, run)
    victim = run / table / "arm=baseline" / "0000001-0000001.parquet"
    victim.unlink()
    victim.mkdir()
    status = sublim("status", run, cwd=tmp_path)
    assert status.returncode == 1, status.stderr
    assert f"Damaged: {victim} (" in status.stderr
    for verb in (["analyse", run], ["run", *OPTIONS]):
        refused = sublim(*verb, cwd=tmp_path)
        assert refused.returncode == 2, refused.stdout
        assert str(victim.relative_to(tmp_path)) in refused.stderr
        assert "Traceback" not in refused.stderr
    assert "is a directory\nremedy: move it out of the run directory" in refused.stderr
    assert victim.is_dir()
    victim.rmdir()
    assert sublim("run", *OPTIONS, cwd=tmp_path).returncode == 0
    same_tables(run, sound)


def test_a_file_in_place_of_a_table_is_named(sound: Path, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "quickstart"
    shutil.copytree(sound, run)
    shutil.rmtree(run / "steps")
    (run / "steps").touch()
    status = sublim("status", run, cwd=tmp_path)
    assert status.returncode == 1, status.stderr
    assert "steps/arm=liminal/0000000-0000000.parquet (it is missing)" in status.stderr
    refused = sublim("run", *OPTIONS, cwd=tmp_path)
    assert refused.returncode == 2
    assert "runs/quickstart/steps is a file\nremedy: move it" in refused.stderr
