"""The students' images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
import torch

from sublim_causal.errors import RequestError
from sublim_causal.experiment.config import DataConfig, Synthetic
from sublim_causal.experiment.data.sources import (
    ImageTensors,
    load_images,
    to_tensors,
    validate_data,
)
from sublim_causal.experiment.data.streams import stream
from sublim_causal.experiment.tasks.images.inputs import INPUTS, Shapes, frequencies, power_law
from tests.experiment.small import run_small, small_experiment, small_tensors

MADE_UP = get_args(Synthetic)


@pytest.mark.parametrize("name", MADE_UP)
def test_made_up_images_have_the_variance_of_uniform_noise(name: str) -> None:
    x = INPUTS[name](4000, small_tensors(), stream("inputs", 0, "noise"))
    assert x.shape == (4000, 64)
    assert x.dtype == torch.float64
    # Smooth images have few free waves each: their mean varies most, by 0.01, their variance by
    # 0.007.
    assert float(x.mean()) == pytest.approx(0, abs=0.03)
    assert float(x.square().mean()) == pytest.approx(1 / 3, abs=0.02)


@pytest.mark.parametrize("name", MADE_UP)
def test_made_up_images_differ_and_depend_on_their_seed_alone(name: str) -> None:
    first, again, other = (
        INPUTS[name](300, small_tensors(), stream("inputs", seed, "noise")) for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.isclose(first, other).all(dim=1).any()
    assert len(first.unique(dim=0)) == 300


def test_noise_is_as_smooth_as_its_kind_says() -> None:
    neighbours = {}
    for name in ("uniform", "pink", "fractal", "dead_leaves", "blurred_shapes"):
        x = INPUTS[name](4000, small_tensors(), stream("inputs", 0, "noise")).view(-1, 8, 8)
        pair = torch.stack([x[:, :, :-1].flatten(), x[:, :, 1:].flatten()])
        neighbours[name] = float(torch.corrcoef(pair)[0, 1])
    assert neighbours["uniform"] == pytest.approx(0, abs=0.01)
    assert 0.4 < neighbours["pink"] < neighbours["fractal"] < 0.9
    assert neighbours["dead_leaves"] > 0.3
    assert neighbours["blurred_shapes"] > 0.6


def coloured(side: int) -> ImageTensors:
    """Return no images, of three channels and wider than they are high."""
    images = small_tensors()
    nothing = torch.zeros(1, 3 * side * 2 * side)
    return replace(images, train_x=nothing, shape=(3, side, 2 * side))


def test_the_amplitude_of_fractal_surfaces_falls_as_the_power_of_each() -> None:
    # Slopes of log power on log frequency are -2 times the exponents, which are uniform on [1, 2].
    data = coloured(32)
    spectrum = power_law(data.shape, torch.tensor([1.0, 1.5, 2.0]))
    frequency = frequencies(data.shape)
    for exponent, amplitude in zip((1.0, 1.5, 2.0), spectrum[:, 0], strict=True):
        ratio = amplitude[0, 8] / amplitude[0, 2]
        assert float(ratio) == pytest.approx(
            float(frequency[0, 2] / frequency[0, 8]) ** exponent, rel=1e-5
        )
        assert float(amplitude.square().mean()) == pytest.approx(1 / 3, rel=1e-5)


def test_dead_leaves_have_few_values_and_all_sizes() -> None:
    x = INPUTS["dead_leaves"](200, coloured(16), stream("inputs", 0, "noise"))
    x = x.view(200, 3, 16 * 32)
    assert x.abs().max() <= 1
    values = [len(image.unique()) for image in x[:, 0]]
    # 40 discs and the ground at most; the last one is never hidden.
    assert max(values) <= 41
    assert min(values) >= 2
    # Channels show the same discs.
    for image in x[:20]:
        assert len(image.T.unique(dim=0)) == len(image[0].unique())


def test_a_shape_in_front_hides_those_behind() -> None:
    shapes = Shapes(
        (1, 4, 8),
        torch.tensor([[[0.25, 0.25], [0.5, 0.25]]]),
        torch.tensor([[[0.0], [-1.0], [1.0]]]),
    )
    image = shapes.painted(lambda k, x, y: x.square() + y.square() <= 0.26**2)[0, 0]
    # Discs of radius 2.08 pixels around columns 2 and 4 of the edges between pixels.
    assert image[1].tolist() == [-1, -1, 1, 1, 1, 1, 0, 0]
    assert image[0].tolist() == [0, -1, -1, 1, 1, 0, 0, 0]


def test_blurred_shapes_have_equal_contrast() -> None:
    for name in ("blurred_shapes", "mixed_shapes"):
        x = INPUTS[name](300, coloured(8), stream("inputs", 0, "noise"))
        assert x.mean(dim=1).abs().max() < 1e-5
    x = INPUTS["blurred_shapes"](300, coloured(8), stream("inputs", 0, "noise"))
    torch.testing.assert_close(x.std(dim=1), torch.full((300,), 3**-0.5), rtol=1e-4, atol=0)


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
    with pytest.raises(RequestError, match=r"arms\.a\.inputs: 'cifar10'.*\n.*fashion_mnist"):
        validate_data(experiment)
    experiment = small_experiment(data={"name": "mnist"}, distillation={"inputs": "digits"})
    with pytest.raises(RequestError, match=r"distillation\.inputs: 'digits'"):
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
