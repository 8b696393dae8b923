"""Runs of one's own: what is written, by whom, and what becomes of a replicate that fails."""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from sublim_causal.errors import DataError, RequestError, RunError, SublimError
from sublim_causal.location import locate
from sublim_causal.own.run import open_run
from sublim_causal.store.blocks import committed
from sublim_causal.store.compact import compact
from sublim_causal.store.damage import damaged
from sublim_causal.store.lock import locked
from sublim_causal.store.manifest import read_manifest
from sublim_causal.store.tables import read_table
from tests.own.conftest import opened, write


def test_columns_keep_type_and_unit(paired_run: Path) -> None:
    rows = read_table(paired_run, "replicates")
    assert len(rows) == 16
    assert rows["temperature"].eq(300).all()
    (file, *_) = (paired_run / "replicates" / "arm=baseline").glob("*.parquet")
    schema = pq.read_schema(file)
    assert schema.field("temperature").metadata[b"unit"] == b"K"
    assert schema.field("owl_rate").metadata[b"unit"] == b"fraction"
    assert schema.field("mean_cos_update").metadata[b"unit"] == b"1"
    steps = read_table(paired_run, "steps", columns=["seed", "step", "loss", "cos_update"])
    assert len(steps) == 16 * 6
    assert steps["loss"].max() == 1


def test_the_manifest_holds_the_arms_and_seeds_that_are_there(paired_run: Path) -> None:
    study = read_manifest(paired_run)["study"]
    assert list(study["arms"]) == ["baseline", "guarded"]
    assert (study["seeds"], study["reference"]) == (8, "baseline")


def test_what_replicates_say_of_steps(tmp_path: Path) -> None:
    with opened(tmp_path / "run") as run:
        with run.replicate(seed=0, arm="a") as r:
            for step, cosine in enumerate((0.5, -0.1, 0.2)):
                r.log(step, cos_update=cosine, drive=1.0, distill_loss=3.0 - step)
            r.finish(owl_rate=0.5)
        with run.replicate(seed=1, arm="a") as r:
            r.log(7, drive=1.0)
            r.finish(owl_rate=0.5)
    whole, part = read_table(tmp_path / "run", "replicates").to_dict("records")
    assert whole["mean_cos_update"] == pytest.approx(0.2)
    assert whole["share_positive_update"] == pytest.approx(2 / 3)
    assert (whole["sum_drive"], whole["final_distill_loss"]) == (3, 1)
    assert math.isnan(part["sum_drive"])  # one step of eight


def test_an_exception_makes_a_failed_replicate_that_may_be_repeated(tmp_path: Path) -> None:
    run = opened(tmp_path / "run")
    with pytest.raises(ZeroDivisionError), run.replicate(seed=0, arm="a") as r:
        r.log(0, loss=1 / 0)
    (row,) = read_table(tmp_path / "run", "replicates").to_dict("records")
    assert (row["status"], row["reason"]) == ("failed", "ZeroDivisionError: division by zero")
    assert not list((tmp_path / "run" / "steps").rglob("*.parquet"))
    with pytest.raises(SublimError, match="without finish"), run.replicate(seed=0, arm="a"):
        pass
    with run.replicate(seed=0, arm="a") as r:
        r.finish(owl_rate=math.nan)
    (row,) = read_table(tmp_path / "run", "replicates").to_dict("records")
    assert (row["status"], row["reason"]) == ("diverged", "owl_rate is nan")
    with (
        pytest.raises(RunError, match=r"exists already \(diverged\)"),
        run.replicate(seed=0, arm="a"),
    ):
        pass


def _hang(path: Path, started: object) -> None:
    with opened(path).replicate(seed=3, arm="a") as r:
        r.log(0, loss=1.0)
        started.set()  # type: ignore[attr-defined]
        signal.pause()


def _write_some(path: Path, seeds: range) -> None:
    write(path, {"baseline": seeds, "guarded": seeds}, steps=1)


def test_a_killed_process_leaves_nothing_and_blocks_nobody_else(tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    started = fork.Event()
    path = tmp_path / "run"
    child = fork.Process(target=_hang, args=(path, started))
    child.start()
    assert started.wait(30)
    run = opened(path)
    with pytest.raises(RunError, match="in use"), run.replicate(seed=3, arm="a"):
        pass
    with run.replicate(seed=3, arm="b") as r:
        r.finish(owl_rate=0.2)
    with pytest.raises(RunError, match="in use"), locked(path):  # so that compact waits
        pass
    os.kill(child.pid or 0, signal.SIGKILL)
    child.join(30)
    assert list(committed(path)) == [("b", "0000003-0000003")]
    with locked(path):
        pass


def test_many_processes_open_and_write_one_run(tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    path = tmp_path / "run"
    children = [
        fork.Process(target=_write_some, args=(path, range(3 * i, 3 * i + 3))) for i in range(4)
    ]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    assert [child.exitcode for child in children] == [0] * 4
    assert len(read_table(path, "replicates")) == 24
    assert not damaged(path)


def test_compact_keeps_own_columns(tmp_path: Path) -> None:
    path = write(tmp_path / "run", {"baseline": range(4)}, steps=2)
    before = {table: read_table(path, table) for table in ("steps", "replicates")}
    assert compact(path).after.files == 2
    for table, rows in before.items():
        assert read_table(path, table).equals(rows)
    with (
        pytest.raises(RunError, match="exists already"),
        opened(path).replicate(seed=2, arm="baseline"),
    ):
        pass


def test_an_object_store_holds_own_runs() -> None:
    path = locate("memory://own-runs/run")
    write(path, {"baseline": range(2), "guarded": range(2)}, steps=1)
    assert len(read_table(path, "replicates")) == 4
    assert read_manifest(path)["study"]["seeds"] == 2
    with (
        pytest.raises(RunError, match="exists already"),
        opened(path).replicate(seed=1, arm="baseline"),
    ):
        pass


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"outcome": "owl rate"}, "outcome"),
        ({"chance": math.inf}, "chance"),
        ({"margin": 0.0}, "margin"),
        ({"unit": ""}, "unit"),
        ({"reference": "each"}, "arm"),
        ({"columns": {"a b": "K"}}, "columns"),
    ],
)
def test_wrong_declarations_are_refused(
    tmp_path: Path, fields: dict[str, object], named: str
) -> None:
    with pytest.raises(RequestError) as error:
        opened(tmp_path / "run", **fields)
    assert error.value.field == named
    assert not (tmp_path / "run" / "manifest.json").exists()


def test_other_declarations_of_a_run_are_refused(tmp_path: Path) -> None:
    opened(tmp_path / "run")
    with pytest.raises(RunError, match=r"chance: 0\.1 -> 0\.2"):
        opened(tmp_path / "run", chance=0.2)
    assert open_run(tmp_path / "run").outcome.name == "owl_rate"
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").touch()
    with pytest.raises(RunError, match="not empty"):
        opened(tmp_path / "other")


def test_wrong_values_are_refused(tmp_path: Path) -> None:
    run = opened(tmp_path / "run")
    with pytest.raises(RequestError, match="owl_rate"), run.replicate(seed=0, arm="a") as r:
        r.finish(loss=1.0)
    for step, columns in ((-1, {}), (0.5, {}), (0, {"loss": None}), (0, {"arm": "b"})):
        with pytest.raises(RequestError), run.replicate(seed=1, arm="a") as r:
            r.log(step, **columns)  # type: ignore[arg-type]
    for seed in (-1, 2.0, 10**9):
        with pytest.raises(RequestError, match="seed"), run.replicate(seed=seed, arm="a"):  # type: ignore[arg-type]
            pass


def test_a_column_has_one_unit_and_one_type(tmp_path: Path) -> None:
    with opened(tmp_path / "run", columns={"speed": "m/s"}).replicate(seed=0, arm="a") as r:
        r.finish(owl_rate=0.1, speed=3.0, note="good")
    with pytest.raises(RequestError, match=r"the unit it has: 'm/s'"):
        opened(tmp_path / "run", columns={"speed": "km/h"})
    run = opened(tmp_path / "run")
    with run.replicate(seed=1, arm="a") as r:
        r.finish(owl_rate=0.1, speed=4.0)
    with pytest.raises(DataError, match="holds text"), run.replicate(seed=2, arm="a") as r:
        r.finish(owl_rate=0.1, note=2.0)
    rows = read_table(tmp_path / "run", "replicates")
    assert rows["status"].tolist() == ["complete", "complete", "failed"]
    assert "holds text" in rows["reason"].iloc[2]
