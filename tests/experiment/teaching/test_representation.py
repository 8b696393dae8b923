"""Students that are taught a hidden layer: under every intervention, and against autograd."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from sublim_causal.errors import RequestError
from sublim_causal.experiment.interventions import INTERVENTIONS
from sublim_causal.experiment.logits import of_classes
from sublim_causal.experiment.networks.models import ConvNet, build_network
from sublim_causal.experiment.teaching.channels import build_channel
from sublim_causal.experiment.teaching.losses import squared_distance
from sublim_causal.experiment.teaching.representation import layer_widths
from tests.contract.test_interventions import EXAMPLES
from tests.experiment.small import run_small, small_experiment

CHANNEL = {"name": "representation", "layer": "2"}
PARTS = ("features", "hidden")


def arm(intervention: str = "baseline", /, **fields: Any) -> dict[str, Any]:
    return {"intervention": intervention, "channel": CHANNEL, **fields}


def test_the_loss_has_the_derivative_of_its_formula() -> None:
    draw = torch.Generator().manual_seed(0)
    h, target = (torch.randn(2, 6, 4, generator=draw, dtype=torch.float64) for _ in range(2))
    weight = torch.tensor([1.0, 0, 1, 0, 0, 1], dtype=torch.float64).expand(2, -1)
    size = torch.tensor([2.0, 5.0], dtype=torch.float64)
    h.requires_grad_()
    for counted in (None, weight):
        loss = squared_distance(h.detach(), target, size, counted)
        of_image = (h - target).square().sum(dim=2) * (1 if counted is None else counted)
        value = of_image.mean(dim=1) / size
        torch.testing.assert_close(loss.value, value.detach())
        (derivative,) = torch.autograd.grad(value.sum(), h)
        torch.testing.assert_close(loss.derivative, derivative)


@pytest.mark.parametrize("name", INTERVENTIONS)
def test_every_intervention_works_and_no_seed_touches_another(name: str) -> None:
    options = {"layers": ["2"], **EXAMPLES[name][0]} if name == "train_only" else EXAMPLES[name][0]
    if name == "chain":
        options = {"members": [{"intervention": "projection"}, {"intervention": "liminal"}]}
    # An arm follows one that follows no other.
    arms = {"baseline": arm(), "own": arm(name, **options)}
    results = run_small(small_experiment(arms), [0, 1])
    alone = run_small(small_experiment(arms), [1])
    for column in ("distill_loss", "trait_loss", "cos_update"):
        np.testing.assert_allclose(
            results["own"].steps[column][:, 1], alone["own"].steps[column][:, 0], rtol=1e-7
        )
    assert np.isfinite(results["own"].steps["drive"]).all()


def test_the_student_comes_nearer_and_layers_above_stay_where_they_are() -> None:
    experiment = small_experiment({"own": arm()}, measure={"layers": True})
    result = run_small(experiment, [0])["own"]
    losses = result.steps["distill_loss"]
    assert losses[-1, 0] < 0.7 * losses[0, 0]
    assert not result.layers["4"]["drive"].any()
    assert result.layers["2"]["drive"].any()


def test_an_error_of_1_is_that_of_activations_0() -> None:
    draw = torch.Generator().manual_seed(0)
    target = torch.randn(2, 6, 4, generator=draw)
    size = target.square().sum(dim=2).mean(dim=1)
    torch.testing.assert_close(
        squared_distance(torch.zeros_like(target), target, size).value, torch.ones(2)
    )


def test_mixed_teachers_and_masks_apply_to_hidden_layers_too() -> None:
    targets: dict[str, dict[str, Any]] = {
        "plain": {},
        "divergent": {"images": "divergent"},
        "agreeing": {"images": "agreeing"},
        "teachers": {"teachers": 2},
    }
    arms = {name: arm(targets=one) for name, one in targets.items()}
    arms["logits"] = {"intervention": "baseline"}
    first = {
        name: result.steps["distill_loss"][0, 0]
        for name, result in run_small(small_experiment(arms), [3]).items()
    }
    assert first["divergent"] + first["agreeing"] == pytest.approx(first["plain"], rel=1e-12)
    assert len(set(first.values())) == len(arms)


@pytest.mark.parametrize("part", PARTS)
def test_a_module_is_taught_the_output_of_one_of_its_parts(part: str) -> None:
    experiment = small_experiment(
        {"own": {"intervention": "projection", "channel": {**CHANNEL, "layer": part}}},
        model={"class": "cnn", "options": {"channels": 2, "hidden": 8}},
    )
    both = run_small(experiment, [0, 1])["own"].steps["distill_loss"]
    alone = run_small(experiment, [1])["own"].steps["distill_loss"]
    np.testing.assert_allclose(both[:, 1], alone[:, 0], rtol=1e-9)
    assert (both[-1] < both[0]).all()


@pytest.mark.parametrize(
    ("model", "layer", "message"),
    [
        ({}, "1", "hidden layers of the model: 0, 2"),
        ({}, "4", "hidden layers of the model: 0, 2"),
        ({"class": "cnn", "options": {}}, "featurs", "did you mean 'features'"),
    ],
)
def test_a_missing_layer_is_refused(model: dict, layer: str, message: str) -> None:
    network = build_network(small_experiment(model=model).model, (1, 8, 8), 10)
    split = of_classes(10, 3)
    channel = build_channel("channel", {**CHANNEL, "layer": layer}, split)
    with pytest.raises(RequestError, match=message) as refused:
        layer_widths({"arms.own.channel": channel.source(split), "other": slice(0, 3)}, network, 64)
    assert refused.value.field == "arms.own.channel.layer"


def test_the_widths_of_layers_are_known() -> None:
    split = of_classes(10, 3)
    for model, layer, width in (
        ({}, "0", 16),
        ({}, "2", 12),
        ({"class": "cnn", "options": {"channels": 3}}, "features", 6 * 2 * 2),
    ):
        network = build_network(small_experiment(model=model).model, (1, 8, 8), 10)
        channel = build_channel("channel", {**CHANNEL, "layer": layer}, split)
        assert layer_widths({"own": channel.source(split)}, network, 64) == {"own": width}
    assert [name for name, _ in ConvNet((1, 8, 8), 4).named_children()][:2] == list(PARTS)
