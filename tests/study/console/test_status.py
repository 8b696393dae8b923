"""Following a run: on a terminal, and in lines elsewhere."""

from __future__ import annotations

import io
import os
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from sublim_causal.analysis.simulation.tables import Truth, simulate, write_run
from sublim_causal.store.lock import locked
from sublim_causal.store.manifest import read_manifest, write_manifest
from sublim_causal.study.console import status
from sublim_causal.study.console.pipes import Pipe, is_read


def test_students_that_did_not_reach_the_loss_have_a_column_only_where_there_are_some() -> None:
    counts = {"a": Counter({"complete": 2}), "b": Counter({"complete": 1})}

    def headings() -> list[object]:
        found = status.Status("run", "0", None, 2, counts, {}, running=False)
        return [column.header for column in status.status_table(found).columns]

    assert headings() == ["arm", "complete", "diverged", "failed", "missing"]
    counts["b"]["unreached"] = 1
    assert headings() == ["arm", "complete", "unreached", "diverged", "failed", "missing"]


def follow(run: Path, console: Console, until: Callable[[str], bool]) -> str:
    """Watch `run`, which finishes as soon as what was printed says so; return what was printed."""
    stream = console.file
    assert isinstance(stream, io.StringIO)
    write_manifest(run, {**read_manifest(run), "finished": None})

    def finish() -> None:
        while not until(stream.getvalue()):
            ended.wait(0.02)
        write_manifest(run, {**read_manifest(run), "finished": "2030-01-01T00:00:00+00:00"})

    ended = threading.Event()
    runner = threading.Thread(target=finish, daemon=True)
    runner.start()
    found = status.watch(run, console)
    runner.join()
    assert found.finished == "2030-01-01T00:00:00+00:00"
    return stream.getvalue()


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of three seeds, watched impatiently."""
    monkeypatch.setattr(status, "REFRESH_SECONDS", 0.01)
    monkeypatch.setattr(status, "LINE_SECONDS", 0.01)
    truth = Truth(n_seeds=3, n_steps=3)
    return write_run(tmp_path / "run", simulate(truth, rng=0))


def test_without_a_terminal_lines_are_printed_and_the_table_at_the_end(run: Path) -> None:
    line = "of 3 seeds: baseline 3, projection 3, liminal 3, shuffled 3. No process is running it"
    said = follow(run, Console(file=io.StringIO(), width=110), lambda text: text.count(line) > 1)
    assert said.count("complete") == 1
    assert said.index(line) < said.index("complete")
    assert "\x1b" not in said


def test_on_a_terminal_the_table_is_kept_up_to_date(run: Path) -> None:
    console = Console(file=io.StringIO(), width=110, force_terminal=True)
    said = follow(run, console, lambda text: "baseline" in text)
    assert "complete" in said
    assert "of 3 seeds" not in said
    assert "No process is running it" in said


def test_a_running_process_is_seen(run: Path) -> None:
    write_manifest(run, {**read_manifest(run), "finished": None})
    assert "no process" in status.ending(status.read_status(run))
    with locked(run):
        assert status.ending(status.read_status(run)) == "Finished: not yet; the study is running"
        console = Console(file=io.StringIO(), width=110)
        said = follow(run, console, lambda text: text.count("of 3 seeds") > 1)
    assert "No process" not in said


def test_a_watch_ends_when_its_reader_is_gone(run: Path) -> None:
    write_manifest(run, {**read_manifest(run), "finished": None})
    reader, writer = os.pipe()
    os.close(reader)
    with io.TextIOWrapper(io.BufferedWriter(Pipe(writer, "w"))) as stream:
        assert is_read(stream)
        assert status.watch(run, Console(file=stream, width=110)).finished is None
        assert not is_read(stream)
