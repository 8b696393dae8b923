"""Blocks of seeds: which are missing, and how many steps they take."""

from __future__ import annotations

from sublim_causal.study.spec.reading import load_study
from sublim_causal.study.worker.blocks import Block, block_steps, missing_blocks


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
    assert block_steps(study, list(study.arms)) == 5 * 49 + 4 * 5 * 49
    yoked = load_study("yoked")
    assert block_steps(yoked, ["yoked"]) == 5 * 49 + 2 * 5 * 49


def test_steps_of_a_block_with_several_teachers() -> None:
    study = load_study("divergence")
    assert study.teachers_of(["baseline"]) == 1
    assert study.teachers_of(["baseline", "random"]) == 2
    assert study.teachers_of(list(study.arms)) == 5
    assert block_steps(study, ["random"]) == 2 * 5 * 49 + 5 * 49
