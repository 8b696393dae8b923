"""Students that stop at a distillation loss, each at a step of its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from sublim_causal.errors import RequestError
from sublim_causal.experiment.outcome import ArmResult
from sublim_causal.study.spec.reading import load_study
from sublim_causal.study.worker.records import (
    evaluation_rows,
    layer_rows,
    replicate_rows,
    step_rows,
)
from tests.experiment.small import run_small, small_experiment

ARMS: dict[str, dict[str, Any]] = {
    "adam": {"intervention": "baseline"},
    "away": {"intervention": "baseline", "student": {"learning_rate": 1.0}},
    "clamped": {"intervention": "set_cosine", "cosine": 0.1},
}
SEEDS = [0, 1]
MEASURE = {"layers": True}


@pytest.fixture(scope="module")
def whole() -> dict[str, ArmResult]:
    """All arms for all of their steps."""
    return run_small(small_experiment(ARMS, measure=MEASURE), SEEDS)


@pytest.fixture(scope="module")
def limit(whole: dict[str, ArmResult]) -> float:
    """A loss that one replicate of an arm reaches earlier than the other."""
    losses = whole["adam"].steps["distill_loss"]
    return float(np.sort(losses.min(axis=0))[1] * 1.001)


@pytest.fixture(scope="module")
def stopped(limit: float) -> dict[str, ArmResult]:
    """The same students, which stop at the limit."""
    distillation = {"until_loss": limit}
    return run_small(small_experiment(ARMS, measure=MEASURE, distillation=distillation), SEEDS)


def test_students_stop_before_the_first_step_with_a_loss_that_small(
    whole: dict[str, ArmResult], stopped: dict[str, ArmResult], limit: float
) -> None:
    lengths = stopped["adam"].lengths
    assert len(set(lengths)) == 2
    for arm in ("adam", "clamped"):
        for row, length in enumerate(stopped[arm].lengths):
            losses = whole[arm].steps["distill_loss"][:, row]
            assert (losses[:length] > limit).all()
            if length < len(losses):
                assert losses[length] <= limit
                assert stopped[arm].final_distill_loss[row] == losses[length]
                assert (
                    stopped[arm].final_trait_loss[row]
                    == whole[arm].steps["trait_loss"][length, row]
                )


def test_what_is_recorded_is_the_path_until_there(
    whole: dict[str, ArmResult], stopped: dict[str, ArmResult]
) -> None:
    for rows in (lambda one: step_rows(one, SEEDS, 4), lambda one: layer_rows(one, SEEDS)):
        for arm in ARMS:
            every, some = rows(whole[arm]), rows(stopped[arm])
            lengths = dict(zip(SEEDS, stopped[arm].lengths, strict=True))
            before = every[every["step"] < every["seed"].map(lengths)]
            assert _sorted(some).equals(_sorted(before))
    adam = replicate_rows(stopped["adam"], SEEDS)
    of_steps = step_rows(stopped["adam"], SEEDS, 4).groupby("seed")
    np.testing.assert_allclose(adam["mean_cos_update"], of_steps["cos_update"].mean(), rtol=1e-12)
    np.testing.assert_allclose(adam["sum_gain"], of_steps["gain"].sum(), rtol=1e-12)
    assert (adam["status"] == "complete").all()


def test_what_does_not_reach_it_says_so(stopped: dict[str, ArmResult], limit: float) -> None:
    away = replicate_rows(stopped["away"], SEEDS)
    assert (away["status"] == "unreached").all()
    assert (away["final_distill_loss"] > limit).all()
    assert away["reason"][0].endswith("in the last of 8 steps, above until_loss")
    assert away["final_accuracy"].notna().all()


def test_a_replicate_does_not_depend_on_its_block(
    stopped: dict[str, ArmResult], limit: float
) -> None:
    experiment = small_experiment(ARMS, distillation={"until_loss": limit})
    alone = run_small(experiment, [1])
    for arm in ARMS:
        assert alone[arm].lengths[0] == stopped[arm].lengths[1]
        assert alone[arm].figures["final_accuracy"][0] == stopped[arm].figures["final_accuracy"][1]


@pytest.mark.parametrize("evaluations", ["epoch", "final"])
def test_evaluations_end_where_a_replicate_stops_whatever_others_do(
    limit: float, evaluations: str
) -> None:
    def rows(arms: dict[str, dict[str, Any]], seeds: list[int]) -> pd.DataFrame:
        experiment = small_experiment(
            arms, measure={"evaluations": evaluations}, distillation={"until_loss": limit}
        )
        result = run_small(experiment, seeds)["adam"]
        frame = evaluation_rows(result, seeds)
        assert frame.groupby("seed")["step"].max().tolist() == result.lengths.tolist()
        assert not frame.duplicated(["seed", "step"]).any()
        return frame[frame["seed"] == 1].reset_index(drop=True)

    alone = rows({"adam": ARMS["adam"]}, [1])
    pd.testing.assert_frame_equal(rows(ARMS, SEEDS), alone)


def test_nothing_is_trained_where_the_first_loss_is_small_enough() -> None:
    result = run_small(small_experiment(distillation={"until_loss": 100.0}), SEEDS)["baseline"]
    rows = replicate_rows(result, SEEDS)
    assert (rows["status"] == "complete").all()
    assert (rows["final_accuracy"] == rows["initial_accuracy"]).all()
    assert rows["mean_cos_update"].isna().all()
    assert step_rows(result, SEEDS, 4).empty


def test_an_arm_that_follows_another_is_refused() -> None:
    settings = ["distillation.until_loss=0.1"]
    with pytest.raises(RequestError, match="stops at its own step") as refused:
        load_study("yoked", settings=settings)
    assert refused.value.field == "arms.yoked"


def _sorted(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.sort_values(["seed", "step"], kind="stable", ignore_index=True)
