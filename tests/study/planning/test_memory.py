"""Memory of a study, and the workers that it allows."""

from __future__ import annotations

from typing import Any

import pytest

from sublim_causal.errors import RequestError
from sublim_causal.study.planning.memory import (
    activations_taught,
    parse_memory,
    study_bytes,
    workers_for,
)
from sublim_causal.study.spec.reading import load_study
from sublim_causal.study.spec.study import Study
from sublim_causal.study.worker.trainer import make_network
from tests.experiment.language_model import small_text


def test_memory_does_not_depend_on_the_number_of_seeds() -> None:
    few, many = load_study("paper", seeds=10), load_study("paper", seeds=1000)
    assert study_bytes(few, 270_093, 1) == study_bytes(many, 270_093, 1) < 1.5 * 2**30


def test_activations_that_are_taught_count_as_memory() -> None:
    study = load_study("representation")
    # Two layers of 256 units of two teachers, each taught to several arms, held once.
    assert activations_taught(study, make_network(study)) == 1024
    with_them, without = (study_bytes(study, 270_093, 1, count) for count in (512, 0))
    assert with_them - without == 4 * 50_000 * 512


def test_logits_of_the_reference_count_where_an_arm_asks_for_them() -> None:
    asking, other = (load_study("numbers", arms=[arm]) for arm in ("liminal", "baseline"))
    difference = study_bytes(asking, 100_272, 1) - study_bytes(other, 100_272, 1)
    assert difference == 4 * 3200 * 10 * 152


@pytest.mark.parametrize("name", ["numbers", "teachers", "paraphrase", "numbers_causal"])
def test_a_worker_of_a_study_on_texts_needs_less_than_a_gigabyte(name: str) -> None:
    assert study_bytes(load_study(name), 100_272, 1) < 0.7 * 10**9


def test_activations_of_a_language_model_count_by_batch_and_length() -> None:
    def size(**sections: Any) -> int:
        table = {**small_text(**sections).model_dump(by_alias=True), "seeds": 1}
        return study_bytes(Study.model_validate(table), 1000, 1)

    of_token = 2 * (10 * 16 + 4 * 32)
    batches = size(distillation={"batch_size": 8}) - size(distillation={"batch_size": 4})
    assert batches > 4 * 4 * of_token * 60
    lengths = size(task={"completion": 20}) - size(task={"completion": 6})
    assert lengths > 4 * (4 + 4) * 14 * of_token


def test_workers_follow_from_the_budget() -> None:
    assert workers_for(memory=10, worker_bytes=4, limit=8) == 2
    assert workers_for(memory=100, worker_bytes=4, limit=8) == 8
    with pytest.raises(RequestError, match="--memory"):
        workers_for(memory=3, worker_bytes=4, limit=8)


@pytest.mark.parametrize(
    ("text", "size"), [("6G", 6 * 2**30), ("800M", 800 * 2**20), ("1.5GiB", 1.5 * 2**30), ("9", 9)]
)
def test_sizes(text: str, size: float) -> None:
    assert parse_memory(text) == size


@pytest.mark.parametrize("text", ["", "G", "-1G", "0", "much", "nanG", "infG"])
def test_wrong_sizes(text: str) -> None:
    with pytest.raises(RequestError, match="6G or 800M"):
        parse_memory(text)
