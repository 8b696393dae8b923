"""How parameters move: against torch's own optimizers, and against formulas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sublim_causal.errors import RequestError
from sublim_causal.experiment.networks.mlp import MLP
from sublim_causal.experiment.optimisation import Optimisation, of_arm, validate_optimisation
from sublim_causal.experiment.optimizers import BlockOptimizer, make_optimizer
from tests.experiment.small import run_small, small_experiment

NETWORK = MLP((3, 4, 2))
STEPS = 6


def gradients() -> Tensor:
    """Return gradients ``(T, 2, P)``; one parameter of the second replicate has none."""
    generator = torch.Generator().manual_seed(0)
    shape = (STEPS, 2, NETWORK.layout.size)
    drawn = torch.randn(shape, generator=generator, dtype=torch.float64)
    drawn[:, 1, 5] = 0
    return drawn


def path(optimizer: Callable[[Tensor], BlockOptimizer | torch.optim.Optimizer]) -> Tensor:
    """Return the parameters ``(T, 2, P)`` after each step."""
    theta = torch.ones(2, NETWORK.layout.size, dtype=torch.float64)
    built, visited = optimizer(theta), []
    for gradient in gradients():
        theta.grad = gradient.clone()
        built.step()
        visited.append(theta.clone())
    return torch.stack(visited)


def ours(**fields: Any) -> Tensor:
    """Return the path of an optimisation of a study."""
    spec = Optimisation(**{"learning_rate": 0.1, "optimizer": "adam", **fields})
    return path(lambda theta: make_optimizer(theta, spec, NETWORK.layout))


@pytest.mark.parametrize(
    ("fields", "theirs"),
    [
        ({"decay": "coupled"}, lambda t: torch.optim.Adam([t], lr=0.1, weight_decay=0.3)),
        ({"decay": "decoupled"}, lambda t: torch.optim.AdamW([t], lr=0.1, weight_decay=0.3)),
        ({"optimizer": "sgd"}, lambda t: torch.optim.SGD([t], lr=0.1, weight_decay=0.3)),
        (
            {"optimizer": "momentum"},
            lambda t: torch.optim.SGD([t], lr=0.1, momentum=0.9, weight_decay=0.3),
        ),
    ],
    ids=["coupled", "decoupled", "sgd", "momentum"],
)
def test_weights_decay_as_in_torch(
    fields: dict[str, Any], theirs: Callable[[Tensor], torch.optim.Optimizer]
) -> None:
    torch.testing.assert_close(ours(weight_decay=0.3, **fields), path(theirs))


def test_decay_does_not_change_the_recorded_gradient() -> None:
    theta = torch.ones(2, NETWORK.layout.size)
    spec = Optimisation("adam", 0.1, weight_decay=0.3)
    gradient = theta.grad = torch.ones_like(theta)
    make_optimizer(theta, spec, NETWORK.layout).step()
    assert torch.equal(gradient, torch.ones_like(gradient))


def test_frozen_adam_is_adam_at_first_and_then_a_fixed_scale_of_its_momentum() -> None:
    adam = path(lambda theta: torch.optim.Adam([theta], lr=0.1))
    frozen, given = ours(frozen_after=3), gradients()
    torch.testing.assert_close(frozen[:3], adam[:3])
    scale = (
        sum(0.001 * 0.999 ** (2 - t) * given[t] ** 2 for t in range(3)) / (1 - 0.999**3)
    ).sqrt()
    for step in range(3, STEPS):
        momentum = sum(0.1 * 0.9 ** (step - t) * given[t] for t in range(step + 1))
        moved = 0.1 * momentum / (1 - 0.9 ** (step + 1)) / (scale + 1e-8)
        torch.testing.assert_close(frozen[step - 1] - frozen[step], moved)
    torch.testing.assert_close(ours(frozen_after=STEPS), adam)


def test_a_parameter_without_gradient_before_the_freeze_stays() -> None:
    theta = torch.ones(1, NETWORK.layout.size)
    optimizer = make_optimizer(theta, Optimisation("adam", 0.1, frozen_after=1), NETWORK.layout)
    for step in range(3):
        theta.grad = torch.ones_like(theta)
        theta.grad[:, 0] = float(step > 0)
        optimizer.step()
    assert theta[0, 0] == 1
    assert (theta[0, 1:] < 0.8).all()


def test_sign_descent_moves_every_parameter_equally_far() -> None:
    expected = 1 - 0.1 * gradients().sign().cumsum(dim=0)
    torch.testing.assert_close(ours(optimizer="signsgd"), expected)


def test_an_arm_has_its_own_optimisation_or_that_of_distillation() -> None:
    arms = {
        "plain": {"intervention": "baseline"},
        "none": {"intervention": "baseline", "student": {"weight_decay": 0}},
        "own": {
            "intervention": "baseline",
            "student": {"weight_decay": 0.2, "decay": "coupled", "optimizer": "sgd"},
        },
    }
    shared = {"weight_decay": 0.1, "decay": "decoupled"}
    experiment = small_experiment(arms, distillation=shared)
    validate_optimisation(experiment)
    found = {arm: of_arm(experiment, arm) for arm in arms}
    assert (found["plain"].weight_decay, found["plain"].decay) == (0.1, "decoupled")
    assert found["none"].weight_decay == 0
    assert found["own"] == Optimisation("sgd", 1e-2, 0.2, "coupled")
    steps = {arm: one.steps["trait_loss"] for arm, one in run_small(experiment, [0]).items()}
    assert not np.array_equal(steps["plain"], steps["none"])
    plain = run_small(small_experiment({"a": {"intervention": "baseline"}}), [0])["a"]
    assert np.array_equal(steps["none"], plain.steps["trait_loss"])


def test_teachers_decay_too() -> None:
    arms = {
        "plain": {"intervention": "baseline"},
        "own": {"intervention": "baseline", "targets": {"teacher_weight_decay": 50.0}},
    }
    both = run_small(small_experiment(arms), [0, 1])
    study = run_small(
        small_experiment({"plain": arms["plain"]}, teacher={"weight_decay": 50.0}), [0, 1]
    )
    plain, own, of_study = (
        one.figures["teacher_accuracy"] for one in (both["plain"], both["own"], study["plain"])
    )
    assert (own < plain).all()
    assert np.array_equal(own, of_study)


@pytest.mark.parametrize(
    ("student", "distillation", "field"),
    [
        ({"optimizer": "adamw", "weight_decay": 0.1}, {}, "arms.a.student.weight_decay"),
        ({"optimizer": "adamw"}, {"weight_decay": 0.1}, "arms.a.student.weight_decay"),
        ({}, {"optimizer": "adamw", "weight_decay": 0.1}, "distillation.weight_decay"),
        ({"decay": "coupled"}, {}, "arms.a.student.decay"),
        ({}, {"decay": "decoupled"}, "distillation.decay"),
        ({"frozen_after": 3, "optimizer": "sgd"}, {}, "arms.a.student.frozen_after"),
        ({"frozen_after": 3}, {"optimizer": "muon"}, "arms.a.student.frozen_after"),
        ({"frozen_after": 8}, {}, "arms.a.student.frozen_after"),
        ({"weight_decay": 100.0, "decay": "decoupled"}, {}, "arms.a.student.weight_decay"),
        ({}, {"weight_decay": 100.0, "decay": "decoupled"}, "distillation.weight_decay"),
        ({"batch_size": 33}, {}, "arms.a.student.batch_size"),
    ],
)
def test_fields_that_contradict_each_other_are_refused(
    student: dict[str, Any], distillation: dict[str, Any], field: str
) -> None:
    arms = {"a": {"intervention": "baseline", "student": student}}
    with pytest.raises(RequestError) as refused:
        validate_optimisation(small_experiment(arms, distillation=distillation))
    assert refused.value.field == field
