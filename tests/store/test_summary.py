"""A summary of a run: one row per replicate, from which plans without steps give the same."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pandas as pd
import pytest

from sublim_causal import analyse, read_table
from sublim_causal.analysis.simulation.tables import Truth, simulate, write_run
from sublim_causal.errors import RequestError, RunError
from sublim_causal.store.compact import summarise
from sublim_causal.store.damage import damaged
from sublim_causal.store.manifest import read_manifest

TABLES = Path(__file__).parents[2] / "docs" / "data" / "tables.py"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of eight seeds in three blocks an arm."""
    truth = Truth(n_seeds=8, n_steps=20, steps_per_epoch=10, diverged_runs=0.1)
    place = tmp_path_factory.mktemp("runs") / "small"
    return write_run(place, simulate(truth, rng=1), block_seeds=3)


@pytest.fixture(scope="module")
def summary(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("data") / "paper"
    summarise(run, place)
    return place


def test_it_holds_every_replicate_in_a_file_an_arm_and_nothing_else(
    run: Path, summary: Path
) -> None:
    pd.testing.assert_frame_equal(read_table(summary, "replicates"), read_table(run, "replicates"))
    arms = read_manifest(run)["study"]["arms"]
    assert len(list(summary.rglob("*.parquet"))) == len(arms)
    assert read_manifest(summary) == read_manifest(run)
    assert not damaged(summary)
    with pytest.raises(RunError, match="steps"):
        read_table(summary, "steps")


def test_a_plan_without_steps_gives_the_same_results(run: Path, summary: Path) -> None:
    pd.testing.assert_frame_equal(analyse(summary, "paper").frame, analyse(run, "paper").frame)


def test_the_tables_of_the_readme_are_those_of_the_plan(summary: Path) -> None:
    lines = runpy.run_path(str(TABLES))["main"](summary).splitlines()
    results = analyse(summary, "paper")
    accuracy, difference = results["accuracy_liminal"], results["final_accuracy_liminal"]
    (row,) = (line for line in lines if line.startswith("| liminal"))
    assert f"| {100 * accuracy.value:.1f} % [{100 * accuracy.low:.1f}, " in row
    assert f"| {100 * difference.value:+.1f} [{100 * difference.low:+.1f}, " in row
    assert lines[0].count("|") == row.count("|") == 5
    (cosine,) = (line for line in lines if line.startswith("| mean cosine of dist"))
    mean = results["mean_cosine_mean"]
    assert cosine.endswith(f"| {mean.value:.4f} [{mean.low:.4f}, {mean.high:.4f}] |")


def test_what_is_no_run_of_the_paper_ends_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [str(TABLES), str(tmp_path)])
    with pytest.raises(SystemExit, match=r"error: .* not a run directory"):
        runpy.run_path(str(TABLES), run_name="__main__")


def test_a_summary_replaces_nothing(run: Path, summary: Path) -> None:
    with pytest.raises(RequestError, match="--summary"):
        summarise(run, summary)
