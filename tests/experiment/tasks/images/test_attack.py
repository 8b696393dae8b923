"""Attacked images, teachers hardened against them, and what robust accuracy costs when off."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sublim_causal.errors import RequestError
from sublim_causal.experiment.attack import ascended
from sublim_causal.experiment.config import AttackConfig, DataConfig, Experiment, TrainingConfig
from sublim_causal.experiment.data.sources import load_images, to_tensors
from sublim_causal.experiment.data.streams import stream
from sublim_causal.experiment.networks.base import Batch
from sublim_causal.experiment.networks.mlp import MLP
from sublim_causal.experiment.networks.models import build_network
from sublim_causal.experiment.optimisation import validate_optimisation
from sublim_causal.experiment.tasks.images.attack import attacked, robust_accuracy
from sublim_causal.experiment.tasks.images.teachers import train_teacher
from sublim_causal.experiment.teaching.losses import accuracy
from tests.experiment.small import SHAPE, run_small, small_experiment, small_tensors

CLASSES = slice(0, 10)
CONFIG = AttackConfig(epsilon=0.2, step_size=0.07, steps=7, images=50)


def starts(purpose: str, seeds: tuple[int, ...] = (0, 1)) -> list[torch.Generator]:
    return [stream("attack", seed, purpose) for seed in seeds]


def situation(seeds: tuple[int, ...] = (0, 1)) -> tuple[MLP, Tensor, Tensor, Tensor]:
    """Return a network, its parameters, and test images with labels."""
    data, network = small_tensors(), MLP((64, 16, 12, 13))
    theta = torch.stack([network.initialise(g) for g in starts("init", seeds)]).double()
    pixels = data.test_x[:40].expand(len(seeds), -1, -1)
    return network, theta, pixels, data.test_y[:40].expand(len(seeds), -1)


@torch.no_grad()
def test_attacked_images_stay_in_the_ball_and_in_the_range_of_pixels() -> None:
    network, theta, pixels, labels = situation()
    before = pixels.clone()
    x = attacked(network, theta, pixels, labels, CLASSES, CONFIG, starts("attack"))
    assert torch.equal(pixels, before)
    assert ((x - pixels).abs() <= CONFIG.epsilon + 1e-12).all()
    assert (x.abs() <= 1).all()
    # Most pixels end on the border: the steps together are longer than the ball is wide.
    at_border = ((x - pixels).abs() > CONFIG.epsilon - 1e-9) | (x.abs() == 1)
    assert at_border.double().mean() > 0.5


@torch.no_grad()
def test_a_step_goes_up_by_the_sign_of_the_gradient() -> None:
    network, theta, pixels, labels = situation((0,))
    config = AttackConfig(epsilon=0.2, step_size=1e-3, steps=1)
    x = attacked(network, theta, pixels, labels, CLASSES, config, starts("attack", (0,)))
    start = 0.4 * torch.rand(pixels.shape[1:], generator=starts("attack", (0,))[0]) - 0.2
    start = (pixels + start).clamp(-1, 1)
    with torch.enable_grad():
        leaf = start.clone().requires_grad_()
        z = network.forward(theta, Batch(leaf.detach())).logits(CLASSES)
        weights = [v[0] for v in network.layout.views(theta)]
        h = leaf[0]
        for weight, bias in zip(weights[::2], weights[1::2], strict=True):
            h = h @ weight.T + bias
            h = h.relu() if len(bias) != 13 else h
        torch.testing.assert_close(h[:, CLASSES].detach(), z[0])
        torch.nn.functional.cross_entropy(h[:, CLASSES], labels[0]).backward()
    assert leaf.grad is not None
    inside = (start + 1e-3 * leaf.grad.sign()).clamp(-1, 1)
    expected = inside.clamp(pixels - config.epsilon, pixels + config.epsilon)
    torch.testing.assert_close(x, expected, rtol=0, atol=1e-7)


@torch.no_grad()
def test_an_attack_on_a_seed_does_not_depend_on_its_block() -> None:
    def attack(seeds: tuple[int, ...]) -> Tensor:
        return attacked(*situation(seeds), CLASSES, CONFIG, starts("attack", seeds))

    torch.testing.assert_close(attack((0, 1))[1:], attack((1,)), rtol=0, atol=1e-12)


def experiment_with(attack: dict[str, Any] | None, **sections: dict[str, Any]) -> Experiment:
    arms = {"baseline": {"intervention": "baseline"}, "own": {"intervention": "projection"}}
    return experiment_of(arms, attack, **sections)


def experiment_of(
    arms: dict[str, dict[str, Any]], attack: dict[str, Any] | None, **sections: dict[str, Any]
) -> Experiment:
    experiment = small_experiment(arms, **sections)
    if attack is None:
        return experiment
    return experiment.model_copy(update={"attack": AttackConfig.model_validate(attack)})


def test_measuring_robustness_changes_nothing_that_is_trained() -> None:
    without = run_small(experiment_with(None), [0, 1])
    measured = run_small(experiment_with({"teacher": "plain", "images": 30}), [0, 1])
    for arm in without:
        for name, values in without[arm].steps.items():
            assert np.array_equal(values, measured[arm].steps[name])
        assert np.array_equal(
            without[arm].figures["teacher_accuracy"], measured[arm].figures["teacher_accuracy"]
        )
        assert np.isnan(without[arm].figures["robust_accuracy"]).all()
        assert np.isfinite(measured[arm].figures["robust_accuracy"]).all()
        for part in ("initial", "teacher"):
            assert np.isnan(without[arm].figures[f"{part}_robust_accuracy"]).all()
            clean = measured[arm].figures[f"{part}_accuracy"]
            assert (measured[arm].figures[f"{part}_robust_accuracy"] <= clean + 0.1).all()


@pytest.mark.parametrize("model", [{}, {"class": "cnn", "options": {"channels": 2, "hidden": 8}}])
def test_a_seeds_hardened_teacher_does_not_depend_on_its_block(model: dict[str, Any]) -> None:
    experiment = experiment_with({"steps": 3}, model=model)
    together, alone = run_small(experiment, [0, 1]), run_small(experiment, [1])
    plain = run_small(experiment_with({"steps": 3, "teacher": "plain"}, model=model), [1])
    for arm in together:
        one, same = together[arm], alone[arm]
        np.testing.assert_allclose(
            one.steps["distill_loss"][:, 1], same.steps["distill_loss"][:, 0], rtol=1e-7
        )
        for part in ("initial_robust", "teacher_robust", "robust"):
            name = f"{part}_accuracy"
            np.testing.assert_allclose(one.figures[name][1:], same.figures[name], atol=1e-12)
        assert not np.array_equal(same.steps["distill_loss"], plain[arm].steps["distill_loss"])


@torch.no_grad()
def test_a_pixel_outside_the_range_only_comes_nearer() -> None:
    pixels = torch.tensor([[[-1.5, -0.95, 0.3, 1.5]]], dtype=torch.float64)
    for sign in (-1, 1):
        x = ascended(pixels, CONFIG, starts("attack", (0,)), lambda x: torch.full_like(x, sign))  # noqa: B023
        expected = {-1: [-1.5, -1.0, 0.1, 1.3], 1: [-1.3, -0.75, 0.5, 1.5]}[sign]
        torch.testing.assert_close(x[0, 0], torch.tensor(expected, dtype=torch.float64))


def test_an_arm_may_have_a_teacher_that_is_not_hardened() -> None:
    arms = {
        "hardened": {"intervention": "baseline"},
        "plain": {"intervention": "baseline", "targets": {"teacher_attack": "plain"}},
    }
    both = run_small(experiment_of(arms, {"steps": 3}), [0, 1])
    alone = run_small(experiment_of({"plain": arms["hardened"]}, {"teacher": "plain"}), [0, 1])
    for name in ("distill_loss", "trait_loss"):
        assert np.array_equal(both["plain"].steps[name], alone["plain"].steps[name])
        assert not np.array_equal(both["plain"].steps[name], both["hardened"].steps[name])
    accuracy = "teacher_accuracy"
    assert np.array_equal(both["plain"].figures[accuracy], alone["plain"].figures[accuracy])


CHANNELS: dict[str, dict[str, Any]] = {
    "logits": {"logits": "class"},
    "layer": {"name": "representation", "layer": "2"},
    "both": {
        "name": "combined",
        "members": [{"logits": "class"}, {"name": "representation", "layer": "2"}],
    },
}


@pytest.mark.parametrize("model", [{}, {"class": "cnn", "options": {"channels": 2, "hidden": 8}}])
def test_adversarial_students_are_trained_on_images_that_raise_their_loss(
    model: dict[str, Any],
) -> None:
    layer = "hidden" if model else "2"
    arms = {}
    for name, channel in CHANNELS.items():
        text = json.dumps(channel).replace('"2"', f'"{layer}"')
        arm = {"intervention": "baseline", "channel": json.loads(text)}
        arms[name] = arm
        arms[f"{name} attacked"] = {**arm, "student": {"adversarial": True}}
    experiment = experiment_of(arms, {"steps": 3, "step_size": 0.1}, model=model)
    results = run_small(experiment, [0, 1])
    for name in CHANNELS:
        plain, attacked = (results[arm].steps["distill_loss"] for arm in (name, f"{name} attacked"))
        # Both begin at the same parameters, on the same images.
        assert (attacked[0] > 1.05 * plain[0]).all()
    alone = run_small(experiment, [1])
    for name in arms:
        np.testing.assert_allclose(
            results[name].steps["distill_loss"][:, 1],
            alone[name].steps["distill_loss"][:, 0],
            rtol=1e-6,
        )


def test_an_attack_of_no_size_changes_nothing() -> None:
    arm = {"intervention": "liminal", "channel": CHANNELS["both"]}
    arms = {"plain": arm, "attacked": {**arm, "student": {"adversarial": True}}}
    results = run_small(experiment_of(arms, {"epsilon": 1e-12, "steps": 1}), [0])
    for name in ("distill_loss", "trait_loss"):
        np.testing.assert_allclose(
            results["attacked"].steps[name], results["plain"].steps[name], rtol=1e-7
        )


@pytest.mark.parametrize(
    ("arm", "field"),
    [
        ({"student": {"adversarial": True}}, "arms.own.student.adversarial"),
        ({"targets": {"teacher_attack": "plain"}}, "arms.own.targets.teacher_attack"),
    ],
)
def test_what_an_attack_is_needed_for_is_refused_without_one(
    arm: dict[str, Any], field: str
) -> None:
    experiment = experiment_of({"own": {"intervention": "baseline", **arm}}, None)
    with pytest.raises(RequestError, match=r"add a section \[attack\]") as refused:
        validate_optimisation(experiment)
    assert refused.value.field == field
    with_attack = experiment_of({"own": {"intervention": "baseline", **arm}}, {})
    validate_optimisation(with_attack)


@torch.no_grad()
def test_on_digits_the_attack_hurts_and_a_hardened_teacher_resists_it(tmp_path: Any) -> None:
    images = load_images(DataConfig(name="digits"), tmp_path)
    data = to_tensors(images, torch.device("cpu"), torch.float32)
    network = MLP((64, 64, 13))
    theta_0 = torch.stack([network.initialise(g) for g in starts("init")])
    config = TrainingConfig(epochs=15, batch_size=128, learning_rate=3e-3)
    attack = AttackConfig(epsilon=0.3, step_size=0.1, steps=5)
    hardening = starts("teacher attack")

    def perturb(theta: Tensor, pixels: Tensor, labels: Tensor) -> Tensor:
        return attacked(network, theta, pixels, labels, CLASSES, attack, hardening)

    def taught(perturb: Any) -> Tensor:
        orders = starts("teacher order")
        return train_teacher(network, theta_0, data, CLASSES, config, orders, lambda: None, perturb)

    plain, hard = taught(None), taught(perturb)
    test = data.test_x.expand(2, -1, -1)
    clean, robust = {}, {}
    for name, theta in {"plain": plain, "hard": hard}.items():
        z = network.forward(theta, Batch(test)).logits(CLASSES)
        clean[name] = accuracy(z, data.test_y.expand(2, -1))
        robust[name] = robust_accuracy(network, theta, data, CLASSES, attack, starts)
    assert (clean["plain"] > 0.9).all()
    assert (robust["plain"] < clean["plain"] - 0.15).all()
    assert (robust["hard"] > robust["plain"] + 0.05).all()


@torch.no_grad()
def test_the_attacked_images_are_spread_over_all_test_images() -> None:
    data, network = small_tensors(), build_network(small_experiment().model, SHAPE, 10)
    theta = torch.stack([network.initialise(g) for g in starts("init")]).double()
    gentle = AttackConfig(epsilon=1e-9, step_size=1e-9, steps=1, images=10_000)
    whole = robust_accuracy(network, theta, data, CLASSES, gentle, starts, batch_size=7)
    z = network.forward(theta, Batch(data.test_x.expand(2, -1, -1))).logits(CLASSES)
    torch.testing.assert_close(whole, accuracy(z, data.test_y.expand(2, -1)))
    third = gentle.model_copy(update={"images": len(data.test_y) // 3})
    every = replace(data, test_x=data.test_x[::3], test_y=data.test_y[::3])
    torch.testing.assert_close(
        robust_accuracy(network, theta, data, CLASSES, third, starts),
        robust_accuracy(network, theta, every, CLASSES, gentle, starts),
    )
