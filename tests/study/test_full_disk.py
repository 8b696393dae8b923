"""A full disk: reported once, nothing that is finished is lost, and a rerun completes."""

from __future__ import annotations

import resource
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sublim_causal.store.blocks import committed
from sublim_causal.store.damage import damaged
from sublim_causal.store.tables import read_table
from sublim_causal.study import cli
from tests.study.commands import TINY, command, environment, same_tables, sublim

OPTIONS = (*TINY, "--seeds", "4", "--tracking-uri", "none")
RUN = "runs/quickstart"
NAMES = ("--seed", "seed", "--arm", "arm", "--outcome", "acc")


@contextmanager
def mounted(folder: Path, size: str) -> Iterator[Path]:
    """Mount a file system of some size in a new folder, or skip the test."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting a file system is not permitted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 512 KB."""
    with mounted(tmp_path / "disk", "512k") as folder:
        yield folder


@pytest.fixture(scope="module")
def read_only(tmp_path_factory: pytest.TempPathFactory, six_seeds: Path) -> Iterator[Path]:
    """A read-only file system with a run and a table."""
    with mounted(tmp_path_factory.mktemp("read_only") / "disk", "64m") as folder:
        shutil.copytree(six_seeds, folder / RUN)
        (folder / "table.csv").write_text("seed,arm,acc\n0,a,0.1\n1,a,0.2\n0,b,0.2\n1,b,0.3\n")
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        yield folder


def run_limited(cwd: Path, largest: int | None = None) -> subprocess.CompletedProcess[str]:
    """Run the study in a process that may write files of at most `largest` bytes."""

    def limit() -> None:
        if largest is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))

    return subprocess.run(
        command("run", *OPTIONS),
        cwd=cwd,
        env=environment(),
        preexec_fn=limit,
        capture_output=True,
        text=True,
    )


def assert_reported_once(stopped: subprocess.CompletedProcess[str], run: Path, why: str) -> None:
    assert stopped.returncode == 2, stopped.stderr
    assert f"error: {run}/" in stopped.stderr
    assert f"cannot be written: {why} (" in stopped.stderr
    assert "MB free in" in stopped.stderr
    assert "remedy: free some space" in stopped.stderr
    assert stopped.stderr.count("error: ") == 1
    assert "Traceback" not in stopped.stderr
    assert damaged(run) == {}
    assert (read_table(run, "replicates")["status"] == "complete").all()


@pytest.mark.slow
def test_a_full_disk(small_disk: Path, six_seeds: Path) -> None:
    run = small_disk / "runs" / "quickstart"
    stopped = run_limited(small_disk)
    assert_reported_once(stopped, run, "No space left on device")
    done = set(committed(run))
    assert 0 < len(done) < 16
    grow = ["mount", "-o", "remount,size=16m", str(small_disk)]
    subprocess.run(grow, check=True)
    again = run_limited(small_disk)
    assert again.returncode == 0, again.stderr
    assert f"{len(done)} of 16 replicates are already done" in again.stderr
    same_tables(run, six_seeds, seeds=4)


@pytest.mark.slow
def test_a_file_beyond_the_size_allowed(tmp_path: Path, six_seeds: Path) -> None:
    first = sublim("run", *OPTIONS, "--seeds", "1", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    run = tmp_path / "runs" / "quickstart"
    stopped = run_limited(tmp_path, min(p.stat().st_size for p in run.glob("steps/*/*")) - 1)
    assert_reported_once(stopped, run, "File too large")
    assert len(set(committed(run))) == 4
    again = sublim("run", *OPTIONS, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "4 of 16 replicates are already done" in again.stderr
    same_tables(run, six_seeds, seeds=4)


@pytest.mark.parametrize(
    ("words", "place"),
    [
        (["compact", RUN], ".lock"),
        (["sync", RUN], ".mirror"),
        (["report", RUN], "report"),
        (["run", *OPTIONS], ".lock"),
        (["run", *OPTIONS, "--out", "new"], "new"),
        (["import", "new", "--from", "table.csv", *NAMES], "new"),
        (["init", "new.toml"], "new.toml"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_read_only_file_system(words: list[str], place: str, read_only: Path) -> None:
    refused = sublim(*words, cwd=read_only)
    assert refused.returncode == 2, refused.stdout
    first, *_, remedy = refused.stderr.strip().splitlines()
    assert first.startswith("error: ")
    assert place in first
    assert remedy.startswith("remedy: ")
    assert "Errno" not in refused.stderr
    assert "MB free" not in refused.stderr


def test_any_other_file_on_a_full_disk_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    def fill() -> None:
        raise OSError(28, "No space left on device", "report/figure.svg")

    assert cli.guarded(fill) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: report/figure.svg: cannot be written: No space left on device (")


def test_a_full_disk_without_the_name_of_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    def fill() -> None:
        raise OSError(28, "No space left on device")

    assert cli.guarded(fill) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: a file cannot be written: No space left on device (")
    assert f"MB free in {Path.cwd()}, " in told


def test_a_file_of_somebody_else_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    def read() -> None:
        raise PermissionError(13, "Permission denied", "table.csv")

    assert cli.guarded(read) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: table.csv: cannot be used: Permission denied\nremedy: ")
