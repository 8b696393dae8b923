"""The main job, as a user runs it: tables, resuming, refusals, interruption."""

from __future__ import annotations

import json
import os
import shutil
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from sublim_causal.errors import RunError
from sublim_causal.store.blocks import committed, file_of
from sublim_causal.store.lock import locked
from sublim_causal.store.manifest import read_manifest, write_manifest
from sublim_causal.store.schema import SCHEMA_VERSION, TABLES, VERSION
from sublim_causal.store.tables import read_table
from sublim_causal.study.console.display import Display
from sublim_causal.study.running.manifest import describe, record_provenance
from sublim_causal.study.running.runner import removed_if_refused
from sublim_causal.study.spec.reading import load_study
from tests.study.commands import TINY, begin, same_tables, sublim, wait_for_block

pytestmark = pytest.mark.end_to_end

SEEDS = 3


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the quickstart study, shrunk."""
    cwd = tmp_path_factory.mktemp("runs")
    done = sublim("run", *TINY, "--seeds", str(SEEDS), "--set", "measure.layers=true", cwd=cwd)
    assert done.returncode == 0, done.stderr
    assert "minus baseline" in done.stdout
    assert "sublim-causal ui runs/quickstart" in done.stdout
    return cwd / "runs" / "quickstart"


def test_every_table_has_its_columns_and_rows(finished: Path) -> None:
    steps_each, arms = 8, 4
    rows = {
        "steps": SEEDS * arms * steps_each,
        "evaluations": SEEDS * arms * 3,
        "replicates": SEEDS * arms,
        "layers": SEEDS * arms * steps_each * 3,
    }
    assert not {"texts", "traits"} & {path.name for path in finished.iterdir()}
    for table in rows:
        columns, frame = TABLES[table], read_table(finished, table)
        assert list(frame.columns) == [c.name for c in columns if c.name != "arm"] + ["arm"] or (
            set(frame.columns) == {c.name for c in columns}
        )
        assert len(frame) == rows[table]
        sequences = {column.name for column in columns if column.since in (4, 7)}
        sequences |= {"divergent_share"}
        empty = {name for name in frame if name.endswith("robust_accuracy")} | sequences
        assert set(frame.columns[frame.isna().any()]) == empty & set(frame.columns), table


def test_the_figures_agree_across_tables(finished: Path) -> None:
    steps = read_table(finished, "steps").set_index(["arm", "seed"]).sort_index()
    replicates = read_table(finished, "replicates").set_index(["arm", "seed"]).sort_index()
    by_run = steps.groupby(["arm", "seed"])
    for name in ("drive", "gain", "remainder"):
        np.testing.assert_allclose(replicates[f"sum_{name}"], by_run[name].sum(), rtol=1e-12)
    np.testing.assert_allclose(
        replicates["sum_gain"],
        by_run["trait_loss"].first() - replicates["final_trait_loss"],
        atol=1e-12,
    )
    share = by_run["cos_gradient"].agg(lambda c: (c > 0).mean())
    np.testing.assert_allclose(replicates["share_positive"], share)
    layers = read_table(finished, "layers")
    drive = layers.groupby(["arm", "seed", "step"])["drive"].sum()
    np.testing.assert_allclose(
        drive.to_numpy(), steps.set_index("step", append=True).sort_index()["drive"], atol=1e-7
    )
    evaluations = read_table(finished, "evaluations").sort_values("step")
    last = evaluations.groupby(["arm", "seed"])["test_accuracy"].last()
    assert np.array_equal(last, replicates["final_accuracy"])
    assert set(steps["epoch"]) == {0, 1}


def test_units_stand_in_the_files(finished: Path) -> None:
    file = next((finished / "steps").glob("arm=baseline/*.parquet"))
    schema = pq.read_schema(file)
    assert schema.field("drive").metadata[b"unit"] == b"nats"
    assert schema.metadata[VERSION] == str(SCHEMA_VERSION).encode()


def test_the_manifest_says_what_ran(finished: Path) -> None:
    manifest = json.loads((finished / "manifest.json").read_text())
    assert manifest["study"]["seeds"] == SEEDS
    assert manifest["precision"] == "fp32"
    assert manifest["finished"] is not None
    assert {"torch", "numpy", "sublim-causal"} <= set(manifest["packages"])


def test_the_recorded_study_file_reproduces_the_run(finished: Path, tmp_path: Path) -> None:
    options = ("--block-size", "1", "--tracking-uri", "none", "--no-report")
    done = sublim("run", finished / "study.toml", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    same_tables(finished, tmp_path / "runs" / "quickstart")


def test_the_recorded_study_file_has_every_option_and_completes_the_run(finished: Path) -> None:
    arms = tomllib.loads((finished / "study.toml").read_text())["arms"]
    assert (arms["projection"]["strength"], arms["projection"]["when"]) == (1.0, "positive")
    assert arms["shuffled"]["draw"] == "step"
    options = ("--tracking-uri", "none", "--no-report", "--out", finished)
    again = sublim("run", finished / "study.toml", *options, cwd=finished)
    assert again.returncode == 0, again.stderr
    assert "are already done" in again.stderr


def test_a_rerun_does_nothing_and_says_so(finished: Path) -> None:
    cwd = finished.parent.parent
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*.parquet")}
    options = (*TINY, "--seeds", str(SEEDS), "--set", "measure.layers=true")
    done = sublim("run", *options, cwd=cwd)
    assert done.returncode == 0, done.stderr
    assert "12 of 12 replicates are already done" in done.stderr
    assert before == {path: path.stat().st_mtime_ns for path in finished.rglob("*.parquet")}


def test_a_changed_study_is_refused_with_the_difference(finished: Path) -> None:
    cwd = finished.parent.parent
    before = (finished / "manifest.json").read_bytes()
    refused = sublim("run", *TINY, "--set", "distillation.learning_rate=0.5", cwd=cwd)
    assert refused.returncode == 2
    assert "distillation.learning_rate: 0.001 -> 0.5" in refused.stderr
    assert "measure.layers: True -> False" in refused.stderr
    assert "--out" in refused.stderr
    planned = sublim("run", *TINY, "--set", "distillation.learning_rate=0.5", "--dry-run", cwd=cwd)
    assert planned.returncode == 2
    assert planned.stderr == refused.stderr
    refused = sublim("run", *TINY, "--precision", "fp64", cwd=cwd)
    assert "precision: 'fp32' -> 'fp64'" in refused.stderr
    assert (finished / "manifest.json").read_bytes() == before


def test_a_study_without_alignment_is_run_and_shown(tmp_path: Path) -> None:
    options = (*TINY, "--seeds", "2", "--tracking-uri", "none")
    arms = ("--arms", "baseline,liminal", "--set", "measure.alignment=false")
    done = sublim("run", *options, *arms, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("not measured") == 2
    assert "nan" not in done.stdout


def test_seeds_and_arms_can_be_added(tmp_path: Path) -> None:
    options = (*TINY, "--tracking-uri", "none")
    small = ("--seeds", "1", "--arms", "baseline")
    assert sublim("run", *options, *small, cwd=tmp_path).returncode == 0
    done = sublim("run", *options, "--seeds", "2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "1 of 8 replicates are already done" in done.stderr
    whole = sublim("run", *options, "--seeds", "2", "--out", "whole", cwd=tmp_path)
    assert whole.returncode == 0
    same_tables(tmp_path / "runs" / "quickstart", tmp_path / "whole")
    status = sublim("status", "runs/quickstart", cwd=tmp_path)
    assert "2 seeds" in status.stdout


def test_what_was_not_asked_for_is_neither_removed_nor_called_finished(tmp_path: Path) -> None:
    options = (*TINY, "--tracking-uri", "none")
    run = tmp_path / "runs" / "quickstart"
    assert sublim("run", *options, "--seeds", "2", cwd=tmp_path).returncode == 0
    (victim,) = run.glob("steps/arm=shuffled/0000001*.parquet")
    victim.write_bytes(b"")
    kept = sublim("run", *options, "--seeds", "2", "--arms", "baseline", cwd=tmp_path)
    assert kept.returncode == 0, kept.stderr
    assert "Damaged" not in kept.stderr
    assert ("shuffled", "0000001-0000001") in committed(run)
    (run / "replicates" / "arm=shuffled" / "0000001-0000001.parquet").unlink()
    assert sublim("run", *options, "--seeds", "1", cwd=tmp_path).returncode == 0
    assert read_manifest(run)["finished"] is None
    assert sublim("run", *options, "--seeds", "2", cwd=tmp_path).returncode == 0
    assert read_manifest(run)["finished"] is not None


def test_a_foreign_directory_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "x").touch()
    refused = sublim("run", *TINY, "--out", "foreign", cwd=tmp_path)
    assert refused.returncode == 2
    assert [path.name for path in (tmp_path / "foreign").iterdir()] == ["x"]


def test_a_refused_second_runner_does_not_take_the_lock(tmp_path: Path) -> None:
    run = tmp_path / "new"
    with locked(run):
        with pytest.raises(RunError, match="in use"), locked(run), removed_if_refused(run, False):
            raise AssertionError
        assert (run / ".lock").exists()
    with locked(run), removed_if_refused(run, False):
        assert (run / ".lock").exists()
    assert not run.exists()


def test_a_run_records_the_provenance_of_all_its_numbers(tmp_path: Path) -> None:
    here = describe(load_study("quickstart"), "cpu", "fp32", "mkl")
    elsewhere = {"device": "cuda", "git_revision": "", "packages": {"torch": "2.9.0"}}
    write_manifest(tmp_path, {**here, **elsewhere})
    for _ in range(2):
        record_provenance(tmp_path, here)
    found = read_manifest(tmp_path)
    assert found["device"] == "cuda, cpu"
    assert found["product_engine"] == "mkl"
    assert found["git_revision"] == here["git_revision"]
    assert found["packages"] == {**here["packages"], "torch": f"2.9.0, {here['packages']['torch']}"}


def test_a_killed_run_resumes_to_the_same_tables(tmp_path: Path, six_seeds: Path) -> None:
    run, options = tmp_path / "runs" / "quickstart", (*TINY, "--seeds", "6")
    options = (*options, "--tracking-uri", "none")
    process = begin("run", *options, "--workers", "1", cwd=tmp_path, output=tmp_path / "output")
    wait_for_block(run, process)
    process.kill()
    process.join()
    orphan = run / "steps" / "arm=baseline" / "0000099-0000099.parquet"
    orphan.write_bytes(b"half a file")
    again = sublim("run", *options, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert not orphan.exists()
    same_tables(run, six_seeds)


def test_a_second_runner_is_refused(finished: Path) -> None:
    with locked(finished):
        second = sublim("run", *TINY, "--set", "measure.layers=true", cwd=finished.parent.parent)
    assert second.returncode == 2
    assert f"in use by process {os.getpid()} on host" in second.stderr


def test_real_mnist_trains(mnist: Path, tmp_path: Path) -> None:
    small = ("--set", "distillation.examples=4096", "--set", "data.train=8192", "--seeds", "1",
             "--set", "distillation.epochs=1", "--set", "teacher.epochs=1")  # fmt: skip
    done = sublim("run", "paper", *small, "--data-dir", mnist, "--tracking-uri", "none",
                  "--no-report", cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr
    replicates = read_table(tmp_path / "runs" / "paper", "replicates")
    assert len(replicates) == 4
    assert (replicates["teacher_accuracy"] > 0.5).all()


def test_a_run_that_is_deleted_while_it_is_written_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, add = tmp_path / "runs" / "quickstart", Display.add

    def delete(display: Display, replicates: Any) -> None:
        add(display, replicates)
        (run / "manifest.json").unlink(missing_ok=True)

    monkeypatch.setattr(Display, "add", delete)
    options = (*TINY, "--seeds", "3", "--arms", "baseline,liminal", "--block-size", "1")
    ended = sublim("run", *options, "--workers", "1", "--tracking-uri", "none", cwd=tmp_path)
    assert ended.returncode == 2, ended.stdout
    assert "deleted or moved while it ran" in ended.stderr
    assert len({*committed(run)}) < 6


def test_a_half_done_block_is_completed_in_blocks_of_another_size(tmp_path: Path) -> None:
    options = (*TINY, "--seeds", str(SEEDS), "--set", "measure.layers=true", "--workers", "1")
    # Float32 would round otherwise in another size, and so change single answers.
    options = (*options, "--tracking-uri", "none", "--precision", "fp64")
    assert sublim("run", *options, "--block-size", "3", cwd=tmp_path).returncode == 0
    run, whole = tmp_path / "runs" / "quickstart", tmp_path / "whole"
    shutil.copytree(run, whole)
    file_of(run, "replicates", "projection", "0000000-0000002").unlink()
    again = sublim("run", *options, "--block-size", "2", cwd=tmp_path)
    assert "9 of 12 replicates are already done" in again.stderr
    blocks = [block for arm, block in committed(run) if arm == "projection"]
    assert blocks == ["0000000-0000001", "0000002-0000002"]
    same_tables(run, whole, rounding=1e-9)
