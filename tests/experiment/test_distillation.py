"""The batched experiment against a plain loop, and the identities it must keep."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from sublim_causal.errors import RequestError
from sublim_causal.experiment.config import Experiment
from sublim_causal.experiment.interventions import INTERVENTIONS
from sublim_causal.experiment.reference.images import run_arm
from tests.contract.test_interventions import EXAMPLES
from tests.experiment.small import run_small, small_experiment, small_tensors

ARMS = {name: {"intervention": name} for name in ("baseline", "projection", "liminal", "shuffled")}


CASES = [
    pytest.param({"intervention": name, **options}, id=f"{name}-{i}")
    for name in INTERVENTIONS
    for i, options in enumerate(EXAMPLES[name])
    if options.get("target") != "other"
] + [
    pytest.param({"intervention": "projection", "space": "update", "layers": ["2"]}, id="layer"),
    pytest.param({"intervention": "liminal", "weight": 0.5, "schedule": "anneal"}, id="anneal"),
    pytest.param({"intervention": "shuffled", "shuffle": "probe", "draw": "run"}, id="kept"),
    pytest.param({"intervention": "yoked", "procedure": {"intervention": "liminal"}}, id="yoked"),
]


@pytest.mark.parametrize("table", CASES)
def test_a_block_of_seeds_equals_the_plain_loop_of_one_seed(table: dict[str, Any]) -> None:
    experiment = small_experiment({"baseline": ARMS["baseline"], "own": table})
    seeds = [0, 8]  # no class logits tie on a test image, as where all hidden units are off
    result = run_small(experiment, seeds)["own"]
    for i, seed in enumerate(seeds):
        rows = run_arm(experiment, seed, small_tensors(), "own")
        for name in ("test_accuracy", "teacher_agreement"):
            assert result.evaluations[name][-1, i] == rows.pop(name)[0]
        for name, expected in rows.items():
            # float64: only the order of additions differs, and Adam divides small by small.
            np.testing.assert_allclose(
                result.steps[name][:, i], expected, rtol=1e-7, atol=1e-10, err_msg=name
            )


@pytest.mark.parametrize(
    ("arm", "sections", "field"),
    [
        ({"channel": {"name": "hard"}}, {}, "arms.own.channel"),
        ({"student": {"optimizer": "sgd"}}, {}, "arms.own.student"),
        ({"student": {"weight_noise": 0.1}}, {}, "arms.own.student"),
        ({}, {"attack": {"steps": 2}}, "attack"),
        ({}, {"teacher": {"weight_decay": 0.1}}, "teacher.weight_decay"),
        ({}, {"distillation": {"weight_decay": 0.1}}, "distillation.weight_decay"),
        ({}, {"distillation": {"until_loss": 0.1}}, "distillation.until_loss"),
    ],
)
def test_the_plain_loop_refuses_what_it_does_not_cover(
    arm: dict[str, Any], sections: dict[str, Any], field: str
) -> None:
    experiment = small_experiment({"own": {"intervention": "baseline", **arm}}, **sections)
    with pytest.raises(RequestError) as refused:
        run_arm(experiment, 0, small_tensors(), "own")
    assert refused.value.field == field


def test_gain_is_drive_plus_remainder_and_telescopes() -> None:
    for result in run_small(small_experiment(ARMS), [0, 1]).values():
        steps = result.steps
        assert np.array_equal(steps["gain"], steps["drive"] + steps["remainder"]) or np.allclose(
            steps["gain"], steps["drive"] + steps["remainder"], rtol=0, atol=1e-15
        )
        total = steps["trait_loss"][0] - result.final_trait_loss
        np.testing.assert_allclose(steps["gain"].sum(axis=0), total, rtol=0, atol=1e-13)


def test_measuring_changes_nothing() -> None:
    arms = {name: ARMS[name] for name in ("baseline", "liminal")}
    on = run_small(small_experiment(arms, measure={"layers": True}), [3], torch.float32)
    off = run_small(
        small_experiment(arms, measure={"alignment": False, "evaluations": "final"}),
        [3],
        torch.float32,
    )
    for arm in arms:
        assert np.array_equal(on[arm].steps["distill_loss"], off[arm].steps["distill_loss"])
        assert on[arm].evaluations["test_accuracy"][-1] == off[arm].evaluations["test_accuracy"][-1]
        assert np.isnan(off[arm].steps["cos_gradient"]).all()
        assert list(off[arm].evaluation_steps) == [0, 8]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 2e-4)])
def test_a_seed_does_not_depend_on_its_block(dtype: torch.dtype, tolerance: float) -> None:
    experiment = small_experiment(ARMS)
    together = run_small(experiment, [0, 1, 2], dtype)
    alone = run_small(experiment, [1], dtype)
    for arm in ARMS:
        for name, values in alone[arm].steps.items():
            np.testing.assert_allclose(
                together[arm].steps[name][:, 1],
                values[:, 0],
                rtol=tolerance,
                atol=tolerance,
                err_msg=f"{arm} {name}",
            )


def test_arms_share_what_happens_before_the_first_intervention() -> None:
    results = run_small(small_experiment(ARMS), [4])
    first = {arm: result.steps["cos_gradient"][0, 0] for arm, result in results.items()}
    assert len(set(first.values())) == 1
    assert len({result.figures["teacher_accuracy"][0] for result in results.values()}) == 1


def test_an_arm_does_not_depend_on_the_other_arms() -> None:
    with_others = run_small(small_experiment(ARMS), [0])["shuffled"]
    alone = run_small(small_experiment({"shuffled": ARMS["shuffled"]}), [0])["shuffled"]
    assert np.array_equal(with_others.steps["trait_loss"], alone.steps["trait_loss"])


def test_a_repetition_gives_the_same_bits() -> None:
    experiment = small_experiment(ARMS)
    first, second = (run_small(experiment, [7], torch.float32) for _ in range(2))
    for arm in ARMS:
        assert np.array_equal(first[arm].steps["trait_loss"], second[arm].steps["trait_loss"])


def test_a_diverging_seed_is_reported_and_changes_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    from sublim_causal.experiment import distillation

    experiment = small_experiment(ARMS)
    healthy = run_small(experiment, [0, 1])
    original = distillation.take_step

    def poison(student, g_distill, context, *rest):  # type: ignore[no-untyped-def]
        if context.step == 4:
            g_distill = g_distill.clone()
            g_distill[1] = torch.nan
        original(student, g_distill, context, *rest)

    monkeypatch.setattr(distillation, "take_step", poison)
    poisoned = run_small(experiment, [0, 1])
    for arm in ARMS:
        assert list(poisoned[arm].diverged_at) == [-1, 5]
        for name, values in healthy[arm].steps.items():
            assert np.array_equal(poisoned[arm].steps[name][:, 0], values[:, 0]), name
            assert np.isfinite(poisoned[arm].steps[name][:4, 1]).all()
            assert np.isnan(poisoned[arm].steps[name][4:, 1]).all()
        assert np.isnan(poisoned[arm].final_trait_loss[1])
        assert np.isnan(poisoned[arm].evaluations["test_accuracy"][-1, 1])


def test_layers_add_up_to_the_whole() -> None:
    result = run_small(small_experiment(ARMS, measure={"layers": True}), [0, 1])["projection"]
    assert list(result.layers) == ["0", "2", "4"]
    total = sum(columns["drive"] for columns in result.layers.values())
    np.testing.assert_allclose(total, result.steps["drive"], rtol=1e-10, atol=1e-14)


def test_projection_in_update_space_nulls_the_drive() -> None:
    arms = {
        "positive": {"intervention": "projection", "space": "update"},
        "always": {"intervention": "projection", "space": "update", "when": "always"},
        "reversed": {
            "intervention": "projection",
            "space": "update",
            "when": "always",
            "strength": 2,
        },
        "baseline": {"intervention": "baseline"},
    }
    results = run_small(small_experiment(arms), [0, 1], torch.float32)
    assert np.abs(results["always"].steps["cos_update"]).max() < 1e-6
    assert results["positive"].steps["cos_update"].max() < 1e-6
    first = {arm: result.steps["cos_update"][0] for arm, result in results.items()}
    np.testing.assert_allclose(first["reversed"], -first["baseline"], rtol=1e-4)


@pytest.mark.parametrize("model", ["mlp", "cnn"])
def test_every_model_trains_in_blocks(model: str) -> None:
    options = {"hidden": [16, 12]} if model == "mlp" else {"channels": 4, "hidden": 16}
    experiment = Experiment.model_validate(
        {
            **small_experiment(ARMS).model_dump(by_alias=True),
            "model": {"class": model, "auxiliary": 3, "options": options},
        }
    )
    together, alone = run_small(experiment, [0, 1]), run_small(experiment, [1])
    for arm in ARMS:
        np.testing.assert_allclose(
            together[arm].steps["trait_loss"][:, 1], alone[arm].steps["trait_loss"][:, 0], rtol=1e-9
        )
        assert np.isfinite(alone[arm].steps["cos_update"]).all()


def test_a_yoked_arm_follows_the_alignment_of_its_target() -> None:
    arms = {
        "baseline": {"intervention": "baseline"},
        "projection": {"intervention": "projection"},
        "yoked": {"intervention": "yoked"},
        "reverse": {
            "intervention": "yoked",
            "target": "projection",
            "procedure": {"intervention": "baseline"},
        },
    }
    results = run_small(small_experiment(arms), [0, 1], torch.float32)
    cosines = {arm: result.steps["cos_update"] for arm, result in results.items()}
    assert np.abs(cosines["yoked"] - cosines["baseline"]).max() < 1e-6
    assert np.abs(cosines["reverse"] - cosines["projection"]).max() < 1e-6
    assert np.abs(cosines["projection"] - cosines["baseline"]).min() > 1e-3


def test_an_arm_that_is_followed_is_measured_even_if_nothing_else_is() -> None:
    arms = {"baseline": {"intervention": "baseline"}, "yoked": {"intervention": "yoked"}}
    on = run_small(small_experiment(arms), [0])
    off = run_small(small_experiment(arms, measure={"alignment": False}), [0])
    assert np.array_equal(on["yoked"].steps["distill_loss"], off["yoked"].steps["distill_loss"])


def test_coverage_is_the_cosine_of_the_update_and_what_teaching_changed() -> None:
    one_step = {"examples": 32, "epochs": 1, "batch_size": 32}
    result = run_small(small_experiment(distillation=one_step, measure={"weights": True}), [4, 7])[
        "baseline"
    ]
    student, teacher, reference = (
        result.weights[role].T for role in ("student", "teacher", "reference")
    )
    update, way = student - reference, teacher - reference
    norms = np.linalg.norm(update, axis=1) * np.linalg.norm(way, axis=1)
    assert result.coverage[0] == pytest.approx((update * way).sum(axis=1) / norms)
    assert len(result.coverage) == 1


@pytest.mark.parametrize("coverage", [0.3, -0.1, 0.0])
@pytest.mark.parametrize("initialisation", ["shared", "other"])
def test_coverage_is_recorded_as_it_was_set(coverage: float, initialisation: str) -> None:
    own = {"intervention": "set_coverage", "coverage": coverage}
    student = {"initialisation": initialisation}
    # Plain SGD's step is a multiple of the gradient, so that it has the gradient's coverage.
    arms = {
        "update": {**own, "student": student},
        "gradient": {**own, "space": "gradient", "student": {**student, "optimizer": "sgd"}},
        "several": {**own, "targets": {"teachers": 2}},
    }
    for result in run_small(small_experiment(arms), [0, 1]).values():
        np.testing.assert_allclose(result.coverage, coverage, rtol=1e-7, atol=1e-12)


def test_coverage_can_be_set_where_nothing_is_measured() -> None:
    arms = {"own": {"intervention": "set_coverage", "coverage": 0.3}}
    on = run_small(small_experiment(arms), [0])["own"]
    off = run_small(small_experiment(arms, measure={"alignment": False}), [0])["own"]
    assert np.array_equal(on.steps["distill_loss"], off.steps["distill_loss"])


def test_coverage_is_recorded_where_the_trait_is_not() -> None:
    on = run_small(small_experiment(), [4, 7])["baseline"]
    off = run_small(small_experiment(measure={"alignment": False}), [4, 7])["baseline"]
    np.testing.assert_allclose(off.coverage, on.coverage, rtol=1e-6)
    assert np.isnan(off.steps["cos_update"]).all()
