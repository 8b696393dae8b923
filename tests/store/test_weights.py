"""Weights are kept when asked for, load into a module, and change nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from sublim_causal.errors import DataError, RunError
from sublim_causal.experiment.data.sources import load_images, to_tensors
from sublim_causal.store.blocks import committed
from sublim_causal.store.removal import remove_uncommitted
from sublim_causal.store.tables import read_table
from sublim_causal.store.weights import read_weights
from sublim_causal.study.spec.reading import load_study
from tests.study.commands import TINY, same_tables, sublim
from tests.test_docs import guide

OPTIONS = (*TINY, "--arms", "baseline,projection", "--tracking-uri", "none")
KEPT = (*OPTIONS, "--set", "measure.weights=true")


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seeds with their weights, in blocks of two and one."""
    cwd = tmp_path_factory.mktemp("kept")
    done = sublim("run", *KEPT, "--seeds", "3", "--block-size", "2", cwd=cwd)
    assert done.returncode == 0, done.stderr
    return cwd / "runs" / "quickstart"


def accuracy(model: torch.nn.Module) -> float:
    """Test accuracy on the digits."""
    images = load_images(load_study("quickstart").data, Path())
    data = to_tensors(images, torch.device("cpu"), torch.float32)
    with torch.no_grad():
        answers = model(data.test_x)[:, :10].argmax(dim=1)
    return (answers == data.test_y).double().mean().item()


def test_the_example_of_the_guide_has_the_recorded_accuracies(
    kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(kept.parents[1])
    (example,) = guide("weights", "python")
    names: dict[str, object] = {}
    exec(example, names)
    model = names["model"]
    assert isinstance(model, torch.nn.Module)
    replicates = read_table(kept, "replicates").set_index(["arm", "seed"])
    columns = {
        "student": "final_accuracy",
        "teacher": "teacher_accuracy",
        "reference": "initial_accuracy",
    }
    for arm, seed in replicates.index:
        weights = read_weights(kept, arm, seed)
        for role, column in columns.items():
            model.load_state_dict(weights[role])
            recorded = replicates.loc[(arm, seed), column]
            assert accuracy(model) == pytest.approx(recorded, abs=1 / 400), (arm, seed, role)


def test_keeping_weights_changes_no_number(kept: Path, tmp_path: Path) -> None:
    done = sublim("run", *OPTIONS, "--seeds", "3", "--block-size", "2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    run = tmp_path / "runs" / "quickstart"
    same_tables(run, kept)
    assert not (run / "weights").exists()
    with pytest.raises(RunError, match=r"weights = true"):
        read_weights(run, "baseline", 0)
    more = sublim("run", *KEPT, "--seeds", "4", cwd=tmp_path)
    assert more.returncode == 0, more.stderr
    assert "6 of 8 replicates are already done" in more.stderr
    assert set(read_weights(run, "baseline", 3)) == {"student", "teacher", "reference"}


def test_compacting_leaves_weights_where_they_are(kept: Path, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "quickstart"
    shutil.copytree(kept, run)
    before = read_weights(run, "projection", 2)
    assert sublim("compact", run, cwd=tmp_path).returncode == 0
    assert len(list(committed(run))) == 2
    assert remove_uncommitted(run) == 0
    after = read_weights(run, "projection", 2)
    assert all(torch.equal(before["student"][n], after["student"][n]) for n in before["student"])
    (path,) = run.glob("weights/arm=projection/*-0000002.safetensors")
    with safe_open(path, framework="numpy") as file:
        assert len(list(file.keys())) == 3 * len(before["student"])
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(DataError, match="running the study again"):
        read_weights(run, "projection", 2)
    status = sublim("status", run, cwd=tmp_path)
    assert status.returncode == 1
    assert str(path) in status.stderr
    repaired = sublim("run", *KEPT, "--seeds", "3", cwd=tmp_path)
    assert repaired.returncode == 0, repaired.stderr
    assert "3 of 6 replicates are already done" in repaired.stderr
    again = read_weights(run, "projection", 2)
    torch.testing.assert_close(again["student"], before["student"], rtol=0, atol=1e-4)
    assert len(list((run / "weights" / "arm=projection").iterdir())) == 3
