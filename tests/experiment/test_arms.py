"""What an arm's students may have of their own: how they begin, move, and what they are taught."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from sublim_causal.experiment.config import StudentConfig
from sublim_causal.experiment.data.streams import stream
from sublim_causal.experiment.networks.initialisation import initial_student, initialise
from sublim_causal.experiment.networks.mlp import MLP
from sublim_causal.experiment.optimizers import OPTIMIZERS
from sublim_causal.experiment.optimizers.muon import orthogonalised
from sublim_causal.experiment.teaching.targets import LogitTargets
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
        together["own"].steps["trait_loss"][:, 1], alone["own"].steps["trait_loss"][:, 0], rtol=1e-9
    )


def test_muon_makes_singular_values_equal() -> None:
    x = torch.randn(2, 12, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x[:, 3:] *= 0.1
    values = torch.linalg.svdvals(orthogonalised(x))
    # The polynomial's fixed band, by its authors: 0.68 to 1.13.
    assert float(values.min()) > 0.6
    assert float(values.max()) < 1.2
    tall = orthogonalised(x.transpose(1, 2))
    torch.testing.assert_close(tall.transpose(1, 2), orthogonalised(x))
    assert not orthogonalised(torch.zeros(1, 3, 4)).any()


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
    assert not np.array_equal(
        teacher.figures["teacher_accuracy"], of_arm.figures["teacher_accuracy"]
    )


@pytest.mark.parametrize(
    "student",
    [{"initialisation": "other"}, {"initialisation": "perturbed", "noise": 0.5}],
    ids=["other", "perturbed"],
)
def test_another_initialisation_is_the_seeds_own(student: dict[str, Any]) -> None:
    experiment = small_experiment({"own": baseline(student=student), "shared": baseline()})
    together, alone = run_small(experiment, [0, 1]), run_small(experiment, [1])
    np.testing.assert_allclose(
        together["own"].steps["trait_loss"][:, 1], alone["own"].steps["trait_loss"][:, 0], rtol=1e-9
    )
    assert together["own"].steps["trait_loss"][0, 0] != together["shared"].steps["trait_loss"][0, 0]
    assert np.array_equal(
        together["own"].figures["teacher_accuracy"], together["shared"].figures["teacher_accuracy"]
    )
    assert np.array_equal(
        together["own"].figures["initial_accuracy"], together["shared"].figures["initial_accuracy"]
    )


def test_noise_keeps_the_spread_of_weights_and_sets_their_correlation() -> None:
    network = MLP((40, 300, 13))

    def streams(purpose: str) -> list[torch.Generator]:
        return [stream("spread", 0, purpose)]

    theta_0 = torch.stack([network.initialise(g) for g in streams("init")]).double()
    weights = network.layout.layers["0"].start, 40 * 300
    for noise in (0.3, 2.0):
        own = StudentConfig(initialisation="perturbed", noise=noise)
        draw = partial(initialise, network, like=theta_0)
        theta = initial_student(own, theta_0, draw, streams, {})
        pair = torch.stack([t[0, weights[0] : weights[1]] for t in (theta_0, theta)])
        # 12,000 weights: a standard deviation is known to 0.7 %, a correlation to 0.009.
        assert float(pair[1].std() / pair[0].std()) == pytest.approx(1, abs=0.03)
        correlation = float(torch.corrcoef(pair)[0, 1])
        assert correlation == pytest.approx(1 / math.sqrt(1 + noise**2), abs=0.04)


@pytest.mark.parametrize("student", [{"initialisation": "perturbed"}, {"noise": 0.1}])
def test_noise_belongs_to_a_perturbed_initialisation(student: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="noise above 0"):
        StudentConfig.model_validate(student)


def test_an_injected_alignment_is_the_updates_from_any_initialisation() -> None:
    arms = {
        "injected": {
            "intervention": "set_cosine",
            "cosine": 0.2,
            "student": {"initialisation": "other"},
        }
    }
    steps = run_small(small_experiment(arms), [0, 1])["injected"].steps
    np.testing.assert_allclose(steps["cos_update"], 0.2, rtol=1e-9)
    assert (steps["drive"] > 0).all()


def test_frozen_layers_do_not_move() -> None:
    project = {"intervention": "projection", "space": "update"}
    members = [project, {"intervention": "train_only", "layers": ["0"]}]
    arms = {"chain": {"intervention": "chain", "members": members}}
    result = run_small(small_experiment(arms, measure={"layers": True}), [0, 1])["chain"]
    assert (result.layers["0"]["cos_update"] != 0).any()
    for layer in ("2", "4"):
        assert not result.layers[layer]["drive"].any()


def test_placebo_gradients_are_taken_where_the_step_begins() -> None:
    placebo = {"intervention": "shuffled", "shuffle": "probe", "when": "always", "draw": "run"}
    arms = {space: {**placebo, "space": space} for space in ("gradient", "update")}
    for arm in arms.values():
        arm["student"] = {"optimizer": "sgd", "learning_rate": 0.5}
    # Plain SGD's step is a multiple of the gradient, so both spaces are one procedure.
    results = run_small(small_experiment(arms), [0, 1])
    np.testing.assert_allclose(
        results["gradient"].steps["trait_loss"], results["update"].steps["trait_loss"], rtol=1e-9
    )


def test_the_last_layer_carries_no_drive() -> None:
    # Its trait gradient lies in the class logits' rows, its distillation gradient in the others.
    result = run_small(small_experiment({"a": baseline()}, measure={"layers": True}), [0])["a"]
    assert not result.layers["4"]["drive"].any()
    assert result.layers["0"]["drive"].any()


def test_channels_are_taught_side_by_side_and_do_not_touch_each_other() -> None:
    channels: dict[str, dict[str, Any]] = {
        "soft": {},
        "hot": {"temperature": 4.0},
        "all": {"logits": "all"},
        "hard": {"name": "hard"},
        "sampled": {"name": "sampled"},
    }
    arms = {name: baseline(channel=channel) for name, channel in channels.items()}
    results = run_small(small_experiment(arms), [0, 1])
    for name in arms:
        alone = run_small(small_experiment({name: arms[name]}), [1])[name]
        for column in ("distill_loss", "trait_loss"):
            np.testing.assert_allclose(
                results[name].steps[column][:, 1], alone.steps[column][:, 0], rtol=1e-9
            )
    losses = {result.steps["distill_loss"][0, 0] for result in results.values()}
    assert len(losses) == len(arms)


def test_targets_have_the_loss_of_their_formula_and_the_derivative_of_their_loss() -> None:
    z = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    target = torch.tensor([0.5, 0.5, 0, 0], dtype=torch.float64).expand(2, 6, -1)
    targets = LogitTargets(slice(0, 4), 3.0, target)
    loss = targets.loss(z)
    log_s = (z / 3).log_softmax(dim=2)
    expected = (0.5 * (math.log(0.5) - log_s[:, :, :2])).sum(dim=2).mean(dim=1)
    torch.testing.assert_close(loss.value, 9 * expected)
    variable = z.clone().requires_grad_()
    log_s = (variable / 3).log_softmax(dim=2)
    (9 * -(target * log_s).sum(dim=2).mean(dim=1)).sum().backward()
    torch.testing.assert_close(loss.derivative, variable.grad)
