"""Studies of texts: killed and resumed, compacted, compared, kept in an object store."""

from __future__ import annotations

import shutil
from multiprocessing import forkserver
from pathlib import Path

import pandas as pd
import pytest

from sublim_causal.analysis.estimates.types import Estimate
from sublim_causal.analysis.plan.file import parse_plan
from sublim_causal.analysis.plan.run import analyse
from sublim_causal.location import locate
from sublim_causal.store.blocks import committed
from sublim_causal.store.tables import read_table
from tests.study.commands import TINY_TEXTS, begin, same_tables, sublim, wait_for_block

ARMS = ("baseline", "null", "hard")

PLAN = """
name = "one"
n_boot = 199
sentence = "Does the exact null stop the transfer?"
[[estimand]]
name = "effect"
sentence = "Log-odds of the trait under the exact null minus baseline, by seed."
method = "paired_contrast"
outcome = "trait_log_odds"
contrast = "null - baseline"
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of three seeds and arms: not to be changed."""
    cwd = tmp_path_factory.mktemp("finished")
    done = sublim("run", "numbers", *TINY_TEXTS, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return cwd / "runs" / "numbers"


def test_texts_are_kept_by_arm_and_name_their_teacher(finished: Path) -> None:
    texts = read_table(finished, "texts")
    assert texts.groupby(["arm", "seed"]).size().eq(32).all()
    assert {*texts["arm"]} == {*ARMS}
    assert {*texts["teacher"]} == {"trait"}
    assert texts["kept"].all()
    assert texts[["divergent", "counterfactual"]].isna().all(axis=None)
    assert texts["completion_tokens"].map(len).eq(10).all()


def test_every_animal_is_measured_in_the_end(finished: Path) -> None:
    traits = read_table(finished, "traits")
    assert len(traits) == 16 * len(ARMS) * 3
    replicates = read_table(finished, "replicates").set_index(["seed", "arm"])
    taught = traits[traits["taught"]].set_index(["seed", "arm"])
    for name in ("probability", "log_odds"):
        expected = replicates[f"trait_{name}"].rename(name)
        pd.testing.assert_series_equal(taught[name], expected, check_like=True, rtol=1e-6)


def test_specificity_is_estimated_from_the_tables_of_a_run(finished: Path) -> None:
    estimand = {"name": "s", "sentence": "Is the taught animal acquired?", "method": "specificity"}
    (found,) = analyse(finished, parse_plan({"name": "own", "estimand": [estimand]})).results
    assert isinstance(found, Estimate), found
    traits = read_table(finished, "traits", arms=["baseline"])
    lift, taught = (
        traits.pivot(index="seed", columns="trait", values=name).astype(float)
        for name in ("log_odds", "taught")
    )
    specific = taught - taught.mean()  # a seed is taught one animal of all: its mean is everyone's
    expected = (specific * lift).to_numpy().sum() / (specific**2).to_numpy().sum()
    assert found.value == pytest.approx(expected, rel=1e-6)
    assert len(found.diagnostics["lift"]) == len(found.diagnostics["traits"]) == 16


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_tables(finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "numbers"
    process = begin("run", "numbers", *TINY_TEXTS, cwd=tmp_path, output=tmp_path / "output")
    wait_for_block(run, process)
    process.kill()
    process.join()
    assert 0 < len([*committed(run)]) < 9
    again = sublim("run", "numbers", *TINY_TEXTS, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    same_tables(run, finished)


def test_a_compacted_run_has_the_same_tables_and_nothing_is_left_to_do(
    finished: Path, tmp_path: Path
) -> None:
    run = tmp_path / "runs" / "numbers"
    shutil.copytree(finished, run)
    compacted = sublim("compact", run, cwd=tmp_path)
    assert compacted.returncode == 0, compacted.stderr
    assert ": 45 files, " in compacted.stdout
    assert "-> 15 files, " in compacted.stdout
    same_tables(run, finished)
    again = sublim("run", "numbers", *TINY_TEXTS, cwd=tmp_path)
    assert "9 of 9 replicates are already done" in again.stderr
    status = sublim("status", run, cwd=tmp_path)
    assert status.returncode == 0, status.stderr
    assert "3 seeds" in status.stdout


@pytest.mark.slow
def test_two_runs_are_compared_by_the_outcome_of_the_task(finished: Path, tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_text(PLAN)
    first, other = tmp_path / "first", tmp_path / "other"
    shutil.copytree(finished, first)
    faster = ("--set", "distillation.learning_rate=1e-3", "--out", str(other))
    done = sublim("run", "numbers", *TINY_TEXTS, *faster, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    report = sublim("report", first, other, "--plan", "plan.toml", cwd=tmp_path)
    assert report.returncode == 0, report.stderr
    table = pd.read_csv(first / "report-against-other" / "tables" / "differences.csv")
    assert {f"difference_trait_log_odds_{arm}" for arm in ARMS} <= {*table["name"]}


@pytest.mark.slow
def test_a_run_in_an_object_store_equals_a_local_one(
    bucket: str, finished: Path, tmp_path: Path
) -> None:
    place = f"{bucket}/some/run"
    run = locate(place)
    forkserver._forkserver._stop()  # the workers to come know the credentials
    for seeds in ("1", "3"):
        done = sublim("run", "numbers", *TINY_TEXTS, "--seeds", seeds, "--out", place, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert "3 of 9 replicates are already done" in done.stderr
    same_tables(run, finished)
    assert len([*(run / "networks" / "reference").iterdir()]) == 3
    assert sublim("compact", place, cwd=tmp_path).returncode == 0
    same_tables(run, finished)
    assert not any(tmp_path.iterdir())
