"""Output whose reader is gone."""

from __future__ import annotations

import os
import select
import shlex
import subprocess
from pathlib import Path

import pytest

from sublim_causal.analysis.simulation.tables import Truth, simulate, write_run
from tests.study.commands import PLAN, TINY, begin, command, environment, sublim

pytestmark = pytest.mark.end_to_end


def piped(line: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run `line` in bash; the exit code is that of the first command of the pipe."""
    return subprocess.run(
        ["bash", "-c", f"{line}; exit ${{PIPESTATUS[0]}}"],
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize("verb", ["--help", "studies", "interventions", "studies show paper"])
def test_a_pipe_closed_early_is_no_error(verb: str, tmp_path: Path) -> None:
    done = piped(f"{shlex.join(command(*verb.split()))} | true", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("ending", "code", "said"),
    [
        (">&-", 0, ""),
        ("<&- >&- 2>&-", 0, ""),
        ("> /dev/full", 2, "error: standard output: cannot be written: No space left on device"),
        ("| grep -q 'title = \"\\\\xe4\"'", 0, ""),
    ],
)
def test_any_output_is_tolerated(ending: str, code: int, said: str, tmp_path: Path) -> None:
    text = 'name = "mine"\ntitle = "ä"\n[arms.baseline]\nintervention = "baseline"\n'
    (tmp_path / "mine.toml").write_text(text, encoding="utf-8")
    show = shlex.join(command("studies", "show", "mine.toml"))
    done = piped(f"PYTHONIOENCODING=ascii {show} {ending}", tmp_path)
    assert (done.returncode, done.stderr.strip()) == (code, said)


def test_output_is_written_although_its_reader_is_gone(tmp_path: Path) -> None:
    write_run(tmp_path / "run", simulate(Truth(n_seeds=4, n_steps=8), rng=0))
    (tmp_path / "plan.toml").write_text(PLAN)
    analyse = command("analyse", "run", "--plan", "plan.toml", "--out", "mine.json")
    done = piped(f"{shlex.join(analyse)} | true", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "mine.json").stat().st_size > 1000
    assert not (tmp_path / "run" / "report").exists()


def test_a_run_continues_without_a_reader(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    options = (*TINY, "--seeds", "1", "--tracking-uri", "none", "--out", "run")
    process = begin("run", *options, cwd=tmp_path, output=pipe)
    assert select.select([reader], [], [], 120)[0]
    os.close(reader)
    process.join(timeout=120)
    assert process.exitcode == 0
    assert len(list((tmp_path / "run" / "replicates").rglob("*.parquet"))) == 4


def test_results_replace_no_folder_and_no_device(tmp_path: Path) -> None:
    write_run(tmp_path / "run", simulate(Truth(n_seeds=4, n_steps=8), rng=0))
    os.mkfifo(tmp_path / "pipe")
    for place in ("run", "pipe"):
        refused = sublim("analyse", "run", "--out", place, cwd=tmp_path)
        assert refused.returncode == 2
        assert "--out" in refused.stderr
        assert refused.stdout == ""
    assert (tmp_path / "pipe").is_fifo()
