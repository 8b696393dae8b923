"""The students' images."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sublim_causal.errors import RequestError
from sublim_causal.experiment.config import DataConfig
from sublim_causal.experiment.data.sources import load_images, to_tensors, validate_data
from sublim_causal.experiment.data.streams import stream
from sublim_causal.experiment.tasks.images.inputs import INPUTS
from tests.experiment.small import run_small, small_experiment, small_tensors


@pytest.mark.parametrize("name", ["uniform", "gaussian", "pink"])
def test_noise_has_the_variance_of_uniform_noise(name: str) -> None:
    x = INPUTS[name](4000, small_tensors(), stream("inputs", 0, "noise"))
    assert x.shape == (4000, 64)
    assert x.dtype == torch.float64
    # Pink noise has few free waves an image: its mean varies most, by 0.006, its variance by 0.004.
    assert float(x.mean()) == pytest.approx(0, abs=0.03)
    assert float(x.square().mean()) == pytest.approx(1 / 3, abs=0.02)


def test_pink_noise_is_smooth_and_uniform_noise_is_not() -> None:
    neighbours = {}
    for name in ("pink", "uniform"):
        x = INPUTS[name](4000, small_tensors(), stream("inputs", 0, "noise")).view(-1, 8, 8)
        pair = torch.stack([x[:, :, :-1].flatten(), x[:, :, 1:].flatten()])
        neighbours[name] = float(torch.corrcoef(pair)[0, 1])
    assert neighbours["pink"] > 0.4
    assert neighbours["uniform"] == pytest.approx(0, abs=0.01)


def test_real_images_come_once_before_any_comes_again() -> None:
    data = small_tensors()
    x = INPUTS["training"](200, data, stream("inputs", 0, "noise"))
    assert {tuple(row) for row in x[:150].tolist()} == {tuple(r) for r in data.train_x.tolist()}
    assert len(x) == 200


def test_another_data_set_is_loaded_scaled_and_shown() -> None:
    images = load_images(DataConfig(name="digits"), Path("unused"), others=["digits"])
    data = to_tensors(images, torch.device("cpu"), torch.float32)
    x = INPUTS["digits"](100, data, stream("inputs", 0, "noise"))
    assert x.shape == (100, 64)
    assert (x.min(), x.max()) == (-1, 1)


def test_another_data_set_must_have_the_same_shape() -> None:
    arms = {"a": {"intervention": "baseline", "inputs": "cifar10"}}
    experiment = small_experiment(arms, data={"name": "mnist"})
    with pytest.raises(RequestError, match="fashion_mnist"):
        validate_data(experiment)


def test_arms_may_see_other_images_side_by_side() -> None:
    arms = {
        name: {"intervention": "liminal", "inputs": name}
        for name in ("uniform", "gaussian", "training")
    }
    results = run_small(small_experiment(arms), [0, 1])
    for name in arms:
        alone = run_small(
            small_experiment({name: {"intervention": "liminal"}}, distillation={"inputs": name}),
            [1],
        )[name]
        for column in ("distill_loss", "trait_loss"):
            torch.testing.assert_close(
                torch.tensor(results[name].steps[column][:, 1]),
                torch.tensor(alone.steps[column][:, 0]),
                rtol=1e-9,
                atol=1e-12,
            )
