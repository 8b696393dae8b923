"""Targets from several teachers, from noisy teacher inputs, or on some of the images."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sublim_causal.experiment.config import TargetsConfig
from sublim_causal.experiment.data.streams import SeedStreams, stream
from sublim_causal.experiment.logits import of_classes
from sublim_causal.experiment.networks.initialisation import initialise
from sublim_causal.experiment.networks.mlp import MLP
from sublim_causal.experiment.tasks.images.targets import chosen, make_targets, with_noise
from sublim_causal.experiment.tasks.images.teachers import COUNTERFACTUAL, Teachers, exchanged
from sublim_causal.experiment.teaching.channels import build_channel
from sublim_causal.experiment.teaching.losses import kl_divergence, softmax
from sublim_causal.experiment.teaching.targets import LogitTargets
from tests.experiment.small import run_small, small_experiment, small_tensors

TARGETS: dict[str, dict[str, Any]] = {
    "plain": {},
    "divergent": {"images": "divergent"},
    "agreeing": {"images": "agreeing"},
    "random": {"images": "random"},
    "random agreeing": {"images": "random_agreeing"},
    "replaced": {"images": "replaced"},
    "teacher input noise": {"teacher_input_noise": 0.3},
    "teachers": {"teachers": 3},
}


def test_targets_are_taught_side_by_side_and_do_not_touch_each_other() -> None:
    arms = {name: {"intervention": "baseline", "targets": one} for name, one in TARGETS.items()}
    results = run_small(small_experiment(arms), [0, 1])
    for name in arms:
        alone = run_small(small_experiment({name: arms[name]}), [1])[name]
        for column in ("distill_loss", "trait_loss"):
            torch.testing.assert_close(
                torch.tensor(results[name].steps[column][:, 1]),
                torch.tensor(alone.steps[column][:, 0]),
                rtol=1e-9,
                atol=1e-12,
            )
    losses = {result.steps["distill_loss"][0, 0] for result in results.values()}
    assert len(losses) == len(arms)


def test_divergent_and_agreeing_images_make_up_the_whole() -> None:
    arms = {
        name: {"intervention": "baseline", "targets": TARGETS[name]}
        for name in ("plain", "divergent", "agreeing")
    }
    first = {
        name: result.steps["distill_loss"][0, 0]
        for name, result in run_small(small_experiment(arms), [3]).items()
    }
    assert first["divergent"] + first["agreeing"] == pytest.approx(first["plain"], rel=1e-12)


def test_a_random_mask_is_as_large_as_the_divergent_one() -> None:
    differs = torch.rand(2, 50, generator=stream("mask", 0, "test")) < 0.3
    masks = {
        which: chosen(which, differs, [stream("mask", s, "mask") for s in (0, 1)])
        for which in ("divergent", "agreeing", "random", "random_agreeing")
    }
    assert torch.equal(masks["divergent"], ~masks["agreeing"])
    assert torch.equal(masks["random"].sum(1), differs.sum(1))
    assert not torch.equal(masks["random"], differs)
    # The two random masks are each other's complement, as the two chosen ones are.
    assert torch.equal(masks["random"], ~masks["random_agreeing"])


def test_replaced_answers_are_the_counterfactual_teachers_where_images_diverge() -> None:
    network, data, split = MLP((64, 16, 12, 13)), small_tensors(), of_classes(10, 3)
    streams = SeedStreams("small", [0, 1])
    experiment = small_experiment()
    theta_0 = initialise(network, streams("init"), like=data.train_x)
    teachers = Teachers(
        network, theta_0, data, split.columns("class"), streams, lambda: None, experiment.teaching
    )
    x = data.train_x[None].expand(2, -1, -1)
    channel = build_channel("channel", {"name": "soft"}, split)
    rows = torch.arange(x.shape[1]).expand(2, -1)

    def losses(images: str, z: torch.Tensor) -> torch.Tensor:
        config = TargetsConfig.model_validate({"images": images})
        targets = make_targets(config, channel, teachers, x, split, streams)
        assert isinstance(targets, LogitTargets)
        return targets.at(rows).loss(z).value

    own, other = (
        teachers.outputs(one, x, split.columns("auxiliary")) for one in (0, COUNTERFACTUAL)
    )
    differs = own.argmax(2) != other.argmax(2)
    assert differs.any()
    mixed = torch.where(differs[:, :, None], other, own)
    # Only the teachers' own answers have no divergence from the targets.
    assert float(losses("replaced", mixed).abs().max()) < 1e-12
    assert float(losses("all", own).abs().max()) < 1e-12
    assert (losses("replaced", own) > 1e-9).all()


def test_the_counterfactual_labels_are_another_order_of_half_of_them() -> None:
    assert exchanged(torch.arange(10)).tolist() == [0, 1, 2, 3, 4, 6, 7, 8, 9, 5]


def test_teacher_input_noise_has_its_standard_deviation() -> None:
    images = torch.zeros(1, 500, 64)
    assert with_noise(images, 0.0, []) is images
    moved = with_noise(images, 0.3, [stream("jitter", 0, "jitter")])
    # 32,000 pixels: the standard deviation is known to 0.4 %.
    assert float(moved.std()) == pytest.approx(0.3, rel=0.02)


def test_weights_count_images_in_the_mean() -> None:
    draw = torch.Generator().manual_seed(0)
    z, target = (torch.randn(2, 6, 4, generator=draw, dtype=torch.float64) for _ in range(2))
    target = softmax(target)
    weight = torch.tensor([1.0, 0, 1, 0, 0, 1], dtype=torch.float64).expand(2, -1)
    loss = kl_divergence(z, target, target.log(), weight)
    kept = kl_divergence(z[:, [0, 2, 5]], target[:, [0, 2, 5]], target[:, [0, 2, 5]].log())
    torch.testing.assert_close(loss.value, kept.value / 2)
    torch.testing.assert_close(loss.derivative[:, [0, 2, 5]], kept.derivative / 2)
    assert not loss.derivative[:, [1, 3, 4]].any()
