"""References and teachers are trained once a seed: later starts take them from the run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import save

from sublim_causal.location import locate
from sublim_causal.store.tables import read_table
from sublim_causal.study.spec.study import Study
from sublim_causal.study.worker.blocks import Block
from sublim_causal.study.worker.kept import KeptNetworks, decode, encode
from sublim_causal.study.worker.trainer import Job, prepare
from tests.experiment.language_model import small_text
from tests.experiment.texts import small_texts

BASE_STEPS, TEACHER_STEPS, STUDENT_STEPS = 12, 6, 8
ARMS = {
    "baseline": {"intervention": "baseline"},
    "other": {"intervention": "baseline", "student": {"initialisation": "other"}},
}


def train(run: Path, seeds: tuple[int, ...], *arms: str) -> int:
    """Train a block; return the optimizer steps that it took."""
    table = small_texts(ARMS).model_dump(by_alias=True)
    study = Study.model_validate({**table, "seeds": 3})
    steps = 0

    def count() -> None:
        nonlocal steps
        steps += 1

    prepare(Job(study, run, None, "cpu", "fp64", ()))(Block(seeds, arms), count)
    return steps


def rows(run: Path, arm: str) -> pd.DataFrame:
    """The steps of an arm."""
    return read_table(run, "steps", arms=[arm])


def test_a_later_start_takes_reference_and_teachers_from_the_run(tmp_path: Path) -> None:
    once = BASE_STEPS + TEACHER_STEPS + STUDENT_STEPS
    assert train(tmp_path / "a", (0,), "baseline") == once
    assert train(tmp_path / "a", (0,), "other") == BASE_STEPS + STUDENT_STEPS  # the other reference
    assert train(tmp_path / "a", (0,), "baseline") == STUDENT_STEPS
    assert train(tmp_path / "b", (0,), *ARMS) == once + BASE_STEPS + STUDENT_STEPS
    for arm in ARMS:
        pd.testing.assert_frame_equal(rows(tmp_path / "a", arm), rows(tmp_path / "b", arm))
    kept = {folder.name: len([*folder.iterdir()]) for folder in (tmp_path / "a/networks").iterdir()}
    assert kept == {"reference": 2, "teacher-trait-0.95": 1}


@pytest.mark.parametrize("stopped", [4, 9], ids=["while texts are written", "while students learn"])
def test_a_language_models_run_that_was_stopped_ends_as_one_that_was_not(
    stopped: int, tmp_path: Path
) -> None:
    table = small_text(measure={"texts": True, "layers": True}).model_dump(by_alias=True)
    study = Study.model_validate({**table, "seeds": 1})

    def started(run: Path, steps: int) -> None:
        left = iter(range(steps))
        prepare(Job(study, run, None, "cpu", "fp64", ()))(
            Block((0,), ("baseline",)), lambda: next(left)
        )

    started(tmp_path / "whole", 10)
    with pytest.raises(StopIteration):
        started(tmp_path / "stopped", stopped)
    started(tmp_path / "stopped", 10 if stopped < 6 else 4)
    for name in ("steps", "texts", "traits", "layers"):
        found, expected = (read_table(tmp_path / run, name) for run in ("stopped", "whole"))
        assert len(found) > 0
        pd.testing.assert_frame_equal(found, expected)


def test_a_damaged_file_is_replaced(tmp_path: Path) -> None:
    train(tmp_path, (0, 1), "baseline")
    (path,) = (tmp_path / "networks" / "reference").glob("0000001-*")
    written, before = path.read_bytes(), rows(tmp_path, "baseline")
    path.write_bytes(written[:-100] + bytes([written[-100] ^ 1]) + written[-99:])
    assert train(tmp_path, (0, 1), "baseline") == BASE_STEPS + STUDENT_STEPS
    assert path.read_bytes() == written
    pd.testing.assert_frame_equal(rows(tmp_path, "baseline"), before)


def test_what_determines_a_network_tells_it_from_others(tmp_path: Path) -> None:
    trained = []

    def network(role: str, definition: int, stream: int) -> float:
        def train() -> torch.Tensor:
            trained.append((role, definition, stream))
            return torch.full((1, 3), float(len(trained)))

        kept = KeptNetworks(tmp_path, [0], {"base_steps": definition})
        return float(kept(role, [torch.Generator().manual_seed(stream)], train)[0, 0])

    asked = [("a", 1, 1), ("b", 1, 1), ("a", 2, 1), ("a", 1, 2)]
    assert [network(*one) for one in asked] == [network(*one) for one in asked]
    assert trained == asked


def test_they_are_kept_in_an_object_store() -> None:
    run = locate("memory://kept/run")
    for _ in range(2):
        kept = KeptNetworks(run, [0, 1], {})
        streams = [torch.Generator().manual_seed(seed) for seed in (0, 1)]
        theta = kept("reference", streams, lambda: torch.arange(6.0).view(2, 3))
        assert theta.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert len([*(run / "networks" / "reference").iterdir()]) == 2


def test_what_was_not_written_so_is_not_used() -> None:
    data = encode(np.arange(4.0))
    assert decode(data) is not None
    for bad in (data[:-1], b"", save({"parameters": np.ones(4)})):
        assert decode(bad) is None


def test_texts_are_kept_too(tmp_path: Path) -> None:
    streams = [torch.Generator().manual_seed(0)]
    tokens = torch.arange(6).view(1, 2, 3)
    for _ in range(2):
        found = KeptNetworks(tmp_path, [0], {})("texts", streams, lambda: tokens.clone())
        assert torch.equal(found, tokens)
        assert found.dtype == torch.int64
    assert len([*(tmp_path / "networks" / "texts").iterdir()]) == 1
