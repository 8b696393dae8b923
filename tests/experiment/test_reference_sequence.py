"""The batched experiment on texts against a plain loop of one seed."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import pytest

from sublim_causal.errors import RequestError
from sublim_causal.experiment.outcome import ArmResult
from sublim_causal.experiment.reference.texts import run_arm
from tests.experiment.texts import run_texts, small_texts

ARMS: dict[str, dict[str, Any]] = {
    "baseline": {"intervention": "baseline"},
    "hard": {"intervention": "baseline", "channel": {"name": "sampled"}},
    "projection": {"intervention": "projection"},
    "projected step": {"intervention": "projection", "space": "update"},
    "null": {"intervention": "set_cosine", "cosine": 0.0},
    "hard null": {"intervention": "set_cosine", "cosine": 0.0, "channel": {"name": "sampled"}},
    "covered": {"intervention": "set_coverage", "coverage": 0.3},
    "shuffled": {"intervention": "shuffled"},
    "liminal": {"intervention": "liminal"},
}
TASK = {"temperature": 0.8, "unique": 24}
SEEDS = [0, 3]


@lru_cache
def results() -> dict[str, ArmResult]:
    """All arms of both seeds as one block."""
    return run_texts(small_texts(ARMS, task=TASK), SEEDS)


@pytest.mark.parametrize("arm", ARMS)
def test_a_block_of_seeds_equals_the_plain_loop_of_one_seed(arm: str) -> None:
    result = results()[arm]
    for i, seed in enumerate(SEEDS):
        rows = run_arm(small_texts(ARMS, task=TASK), seed, arm)
        for name in ("trait_probability", "trait_log_odds"):
            assert result.figures[name][i] == pytest.approx(rows.pop(name)[0], rel=1e-7, abs=1e-12)
        for name, expected in rows.items():
            # float64: only the order of additions differs, and Adam divides small by small.
            np.testing.assert_allclose(
                result.steps[name][:, i], expected, rtol=1e-7, atol=1e-10, err_msg=name
            )


def test_coverage_is_recorded_as_it_was_set() -> None:
    np.testing.assert_allclose(results()["covered"].coverage, 0.3, rtol=1e-7)


@pytest.mark.parametrize(
    ("arm", "sections", "field"),
    [
        ({"channel": {"name": "hard"}}, {}, "arms.own.channel"),
        ({"student": {"optimizer": "sgd"}}, {}, "arms.own.student"),
        ({"targets": {"positions": "random"}}, {}, "arms.own.targets"),
        ({}, {"task": {"name": "images"}}, "task.name"),
    ],
)
def test_the_plain_loop_refuses_what_it_does_not_cover(
    arm: dict[str, Any], sections: dict[str, Any], field: str
) -> None:
    asked = small_texts({"own": {"intervention": "baseline", **arm}}, **sections)
    with pytest.raises(RequestError) as refused:
        run_arm(asked, 0, "own")
    assert refused.value.field == field
