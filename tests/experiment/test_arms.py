"""What an arm's students may have of their own: how they begin, move, and what they are taught."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sublim_causal.experiment.training import OPTIMIZERS
from tests.experiment.small import run_small, small_experiment


def baseline(**own: Any) -> dict[str, Any]:
    """A baseline arm with fields of its own."""
    return {"intervention": "baseline", **own}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_no_optimizer_mixes_replicates(optimizer: str) -> None:
    student = {"optimizer": optimizer, "learning_rate": 1e-2}
    experiment = small_experiment({"own": baseline(student=student)})
    together, alone = run_small(experiment, [0, 1]), run_small(experiment, [1])
    np.testing.assert_allclose(
        together["own"].steps["trait_loss"][:, 1],
        alone["own"].steps["trait_loss"][:, 0],
        rtol=1e-9,
    )


def test_plain_sgd_leaves_the_alignment_as_it_is_and_scales_it() -> None:
    arms = {"sgd": {"intervention": "projection", "strength": 0.5}}
    arms["sgd"]["student"] = {"optimizer": "sgd", "learning_rate": 0.1}
    steps = run_small(small_experiment(arms), [0, 1])["sgd"].steps
    # float64 parameters near 1, updates near 1e-3: 13 digits of the difference are left.
    np.testing.assert_allclose(steps["cos_update"], steps["cos_applied"], rtol=1e-7, atol=1e-10)
    np.testing.assert_allclose(steps["norm_update"], 0.1 * steps["norm_applied"], rtol=1e-9)


def test_momentum_begins_as_sgd_and_goes_further() -> None:
    arms = {
        name: baseline(student={"optimizer": name, "learning_rate": 0.01})
        for name in ("sgd", "momentum")
    }
    norms = {
        arm: result.steps["norm_update"][:, 0]
        for arm, result in run_small(small_experiment(arms), [0]).items()
    }
    np.testing.assert_allclose(norms["momentum"][0], norms["sgd"][0], rtol=1e-9)
    assert norms["momentum"][-1] > 2 * norms["sgd"][-1]


def test_the_study_sets_the_optimizer_and_an_arm_its_own() -> None:
    own = {"optimizer": "sgd", "learning_rate": 0.1}
    of_arm = run_small(small_experiment({"a": baseline(student=own)}), [0])["a"]
    of_study = run_small(small_experiment({"a": baseline()}, distillation=own), [0])["a"]
    assert np.array_equal(of_arm.steps["trait_loss"], of_study.steps["trait_loss"])
    teacher = run_small(small_experiment({"a": baseline()}, teacher={"optimizer": "sgd"}), [0])["a"]
    assert not np.array_equal(teacher.teacher_accuracy, of_arm.teacher_accuracy)
