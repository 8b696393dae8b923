"""Independent processes that run the seeds of one study into one directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from sublim_causal import report
from sublim_causal.analysis.plan.file import load_plan
from sublim_causal.errors import RequestError, RunError
from sublim_causal.store.blocks import file_of
from sublim_causal.store.lock import locked
from sublim_causal.store.manifest import read_manifest
from sublim_causal.study.planning.options import seeds_of
from sublim_causal.study.spec.reading import load_study
from tests.study.commands import TINY, begin, same_tables, sublim

pytestmark = pytest.mark.end_to_end

OPTIONS = (*TINY, "--seeds", "6", "--tracking-uri", "none")


def test_three_processes_at_once_make_the_tables_of_one(six_seeds: Path, tmp_path: Path) -> None:
    outputs = {part: tmp_path / f"output-{part}" for part in (1, 2, 3)}
    processes = {
        part: begin(
            *("run", *OPTIONS, "--shard", f"{part}/3", "--workers", "1"),
            cwd=tmp_path,
            output=output,
        )
        for part, output in outputs.items()
    }
    for part, process in processes.items():
        process.join(timeout=200)
        assert process.exitcode == 0, outputs[part].read_text()
    run = tmp_path / "runs" / "quickstart"
    same_tables(run, six_seeds)
    assert read_manifest(run)["finished"] is not None
    assert read_manifest(run)["study"]["seeds"] == 6


def test_the_process_that_completes_the_run_mirrors_and_reports_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = load_plan("primary").model_copy(update={"n_boot": 199})
    write_report = report.write_report

    def write_quickly(run: Path, plan: str, **options: object) -> object:
        return write_report(run, quick, **options)

    monkeypatch.setattr(report, "write_report", write_quickly)
    options = [*TINY, "--seeds", "4", "--arms", "baseline,projection"]
    options.remove("--no-report")
    run = tmp_path / "runs" / "quickstart"
    first = sublim("run", *options, "--seed-range", "0-1", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert "Replicates of other processes are missing" in first.stderr
    assert read_manifest(run)["finished"] is None
    assert not (run / "report").exists()
    assert not (run.parent / "mlflow.db").exists()
    last = sublim("run", *options, "--seed-range", "2-3", cwd=tmp_path)
    assert last.returncode == 0, last.stderr
    assert read_manifest(run)["finished"] is not None
    assert (run / "report" / "index.html").exists()
    synced = sublim("sync", run, cwd=tmp_path)
    assert "0 replicates written, 8 were there" in synced.stdout


def test_a_process_touches_the_seeds_of_no_other(six_seeds: Path, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "quickstart"
    first = sublim("run", *OPTIONS, "--seed-range", "0-2", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    damaged = file_of(run, "steps", "baseline", "0000001-0000001")
    damaged.write_bytes(b"")
    training = file_of(run, "steps", "baseline", "0000002-0000002").with_name(
        ".0000002-0000002.parquet.1.ab.tmp"
    )
    training.write_bytes(b"half")
    second = sublim("run", *OPTIONS, "--seed-range", "3-5", cwd=tmp_path)
    assert second.returncode == 0, second.stderr
    assert damaged.read_bytes() == b""
    assert training.exists()
    again = sublim("run", *OPTIONS, cwd=tmp_path)
    assert "Damaged, and will be run again" in again.stderr
    assert not training.exists()
    same_tables(run, six_seeds)


def test_locks_exclude_only_what_overlaps(tmp_path: Path) -> None:
    with locked(tmp_path, range(0, 4)), locked(tmp_path, range(4, 8)):
        for seeds in (range(3, 5), None):
            with pytest.raises(RunError, match="in use by process"), locked(tmp_path, seeds):
                pass
    with (
        locked(tmp_path),
        pytest.raises(RunError, match="in use by process"),
        locked(tmp_path, range(9, 10)),
    ):
        pass
    with locked(tmp_path, range(3, 5)):
        pass


@pytest.mark.parametrize(
    ("seed_range", "shard", "seeds"),
    [
        ("0-15", None, range(0, 16)),
        ("29-29", None, range(29, 30)),
        (None, "1/1", range(0, 30)),
        (None, "3/8", range(7, 11)),
        (None, None, None),
    ],
)
def test_seeds_of_a_process(seed_range: str | None, shard: str | None, seeds: range | None) -> None:
    assert seeds_of(load_study("paper"), seed_range, shard) == seeds


def test_shards_cover_every_seed_once() -> None:
    study = load_study("paper")
    parts = [seeds_of(study, None, f"{part}/8") for part in range(1, 9)]
    assert [seed for part in parts for seed in part or ()] == [*range(30)]


@pytest.mark.parametrize(
    ("seed_range", "shard"),
    [
        ("5-4", None), ("0-30", None), ("x", None), ("-3", None), (None, "0/8"), (None, "9/8"),
        (None, "1/31"), (None, "1"), (None, "a/b"), ("0-1", "1/2"), (None, f"1/{'9' * 5000}"),
    ],
)  # fmt: skip
def test_wrong_parts_are_refused(seed_range: str | None, shard: str | None) -> None:
    with pytest.raises(RequestError):
        seeds_of(load_study("paper"), seed_range, shard)
