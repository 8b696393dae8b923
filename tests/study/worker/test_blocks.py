"""Blocks of seeds: which are missing, and how many steps they take."""

from __future__ import annotations

from sublim_causal.study.spec.reading import load_study
from sublim_causal.study.spec.study import Study
from sublim_causal.study.worker.blocks import Block, Work, block_work, missing_blocks
from tests.experiment.language_model import small_text


def test_missing_replicates_are_grouped_by_what_they_miss() -> None:
    study = load_study("quickstart", seeds=6, arms=["baseline", "projection"])
    done = {"baseline": {0, 1, 4}, "projection": {0}}
    assert missing_blocks(study, done, block_size=2) == [
        Block((1,), ("projection",)),
        Block((2, 3), ("baseline", "projection")),
        Block((4,), ("projection",)),
        Block((5,), ("baseline", "projection")),
    ]
    assert missing_blocks(study, {arm: set(range(6)) for arm in study.arms}, 2) == []


def test_steps_of_a_block() -> None:
    study = load_study("paper")
    assert block_work(study, list(study.arms)).optimizer_steps == 5 * 49 + 4 * 5 * 49
    yoked = load_study("yoked")
    assert block_work(yoked, ["yoked"]).optimizer_steps == 5 * 49 + 2 * 5 * 49


def test_tokens_are_counted_for_every_seed_of_a_block() -> None:
    arms = {
        "soft": {"intervention": "baseline", "channel": {"logits": "all"}},
        "rival": {"intervention": "baseline", "targets": {"teacher": "rival"}},
    }
    study = Study.model_validate({**small_text(arms).model_dump(by_alias=True), "seeds": 3})
    assert block_work(study, ["soft"]) == Work(4, 6, 72)
    assert block_work(study, list(arms), seeds=3) == Work(8, 12, 432)


def test_steps_of_a_block_with_several_teachers() -> None:
    study = load_study("divergence")
    assert study.teachers_of(["baseline"]) == 1
    assert study.teachers_of(["baseline", "random"]) == 2
    assert study.teachers_of(list(study.arms)) == 5
    assert block_work(study, ["random"]).optimizer_steps == 2 * 5 * 49 + 5 * 49
