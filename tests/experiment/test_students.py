"""How students begin layer by layer, under which noise, and on which examples they are taught."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from sublim_causal.errors import RequestError
from sublim_causal.experiment.config import StudentConfig
from sublim_causal.experiment.data.streams import SeedStreams, stream
from sublim_causal.experiment.logits import of_classes
from sublim_causal.experiment.networks.base import Batch
from sublim_causal.experiment.networks.initialisation import initial_student, initialise, parts_of
from sublim_causal.experiment.networks.mlp import MLP
from sublim_causal.study.spec.reading import load_study
from tests.experiment.small import run_small, small_experiment

NETWORK, SPLIT = MLP((5, 4, 6, 13)), of_classes(10, 3)
STREAMS = SeedStreams("students", [0, 1])
THETA = initialise(NETWORK, STREAMS("init"), like=torch.empty(0, dtype=torch.float64))
OTHER = initialise(NETWORK, STREAMS("student init"), like=THETA)


def begin(**own: Any) -> list[Tensor]:
    """Return weights and biases ``(2, ...)`` at which students begin."""
    theta = initial_student(
        StudentConfig.model_validate(own),
        THETA,
        partial(initialise, NETWORK, like=THETA),
        STREAMS,
        parts_of(NETWORK.layout, SPLIT),
    )
    return NETWORK.layout.views(theta)


def test_layers_begin_each_in_its_own_way() -> None:
    shared, other = (NETWORK.layout.views(theta) for theta in (THETA, OTHER))
    found = begin(layers={"0": "other", "2": "perturbed", "auxiliary": "other"}, noise=0.5)
    torch.testing.assert_close(found[0], other[0])
    torch.testing.assert_close(found[2], (shared[2] + 0.5 * other[2]) / 1.25**0.5)
    torch.testing.assert_close(found[4][:, :10], shared[4][:, :10])
    torch.testing.assert_close(found[4][:, 10:], other[4][:, 10:])
    only_class = begin(initialisation="other", layers={"class": "shared"})
    torch.testing.assert_close(only_class[4][:, :10], shared[4][:, :10])
    torch.testing.assert_close(only_class[4][:, 10:], other[4][:, 10:])
    torch.testing.assert_close(only_class[0], other[0])
    head = begin(layers={"4": "other"})
    torch.testing.assert_close(head[4], other[4])


def test_parts_of_a_network_cover_it_once() -> None:
    parts = parts_of(NETWORK.layout, SPLIT)
    covered = {name: torch.zeros(NETWORK.layout.size, dtype=torch.int64) for name in parts}
    for name, spans in parts.items():
        for span in spans:
            covered[name][span] += 1
    assert torch.equal(covered["class"] + covered["auxiliary"], covered["4"])
    assert (covered["0"] + covered["2"] + covered["4"] == 1).all()
    without_rows = parts_of(NETWORK.layout, of_classes(10, 7))
    assert list(without_rows) == ["0", "2", "4"]


def test_a_layer_that_is_not_there_is_refused() -> None:
    with pytest.raises(RequestError, match="0, 2, 4, class, auxiliary"):
        begin(layers={"1": "other"})
    with pytest.raises(ValidationError, match="noise above 0"):
        begin(layers={"0": "perturbed"})
    with pytest.raises(RequestError, match="'shared', 'perturbed' or 'other'"):
        load_study("quickstart", settings=["arms.baseline.student.layers.0=random"])


def test_noise_is_on_the_weights_of_the_gradient_and_not_kept() -> None:
    arms = {
        "plain": {"intervention": "baseline"},
        "noisy": {"intervention": "baseline", "student": {"weight_noise": 0.3}},
    }
    for arm in arms.values():
        arm.setdefault("student", {}).update(optimizer="sgd", learning_rate=1e-12)
    experiment = small_experiment(arms, distillation={"epochs": 1})
    both, alone = run_small(experiment, [0, 1]), run_small(experiment, [1])
    np.testing.assert_allclose(
        both["noisy"].steps["norm_distill"][:, 1], alone["noisy"].steps["norm_distill"][:, 0]
    )
    # Students hardly move, so that both measure the trait at the same parameters.
    np.testing.assert_allclose(both["noisy"].steps["trait_loss"], both["plain"].steps["trait_loss"])
    assert (both["noisy"].steps["distill_loss"] != both["plain"].steps["distill_loss"]).all()
    network = MLP((64, 16, 12, 13))
    theta = network.initialise(stream("small", 1, "init")).double()
    drawn = torch.randn(network.layout.size, generator=stream("small", 1, "weight noise")).double()
    for span in network.layout.layers.values():
        drawn[span] *= 0.3 * theta[span].square().mean().sqrt()
    x = (torch.rand((100, 64), generator=stream("small", 1, "noise")).double() * 2 - 1)[
        torch.randperm(100, generator=stream("small", 1, "student order"))[:32]
    ]
    z = network.forward((theta + drawn)[None], Batch(x[None])).logits(slice(10, 13))
    expected = both["noisy"].steps["distill_loss"][0, 1]
    teacher = teacher_of_seed_one(x)
    loss = torch.nn.functional.kl_div(
        z[0].log_softmax(1), teacher.softmax(1), reduction="batchmean"
    )
    assert float(loss) == pytest.approx(expected, rel=1e-6)


def teacher_of_seed_one(x: Tensor) -> Tensor:
    """Return the auxiliary logits of the small experiment's teacher, from its plain loop."""
    from sublim_causal.experiment.reference.images import begin as begin_one
    from tests.experiment.small import small_tensors

    shared = begin_one(small_experiment(), 1, small_tensors(), 10)
    return shared.task.teacher(x)[:, 10:].detach()


def test_noise_of_all_arms_is_the_same() -> None:
    student = {"weight_noise": 0.3}
    arms = {name: {"intervention": "baseline", "student": student} for name in ("a", "b")}
    found = run_small(small_experiment(arms), [0])
    assert np.array_equal(found["a"].steps["trait_loss"], found["b"].steps["trait_loss"])


def test_few_images_are_seen_again_and_again() -> None:
    arms = {
        "all": {"intervention": "baseline"},
        "few": {"intervention": "baseline", "targets": {"unique": 20}},
        "none left": {"intervention": "baseline", "targets": {"unique": 100}},
    }
    found = run_small(small_experiment(arms), [0])
    assert np.array_equal(found["all"].steps["trait_loss"], found["none left"].steps["trait_loss"])
    # As many steps; a study whose only images these are has the same ones in other batches.
    assert found["few"].steps["trait_loss"].shape == found["all"].steps["trait_loss"].shape
    assert not np.array_equal(found["few"].steps["trait_loss"], found["all"].steps["trait_loss"])
    full = {"examples": 32, "epochs": 3, "batch_size": 32}
    once = {"a": {"intervention": "baseline", "targets": {"unique": 1}}}
    one = run_small(small_experiment(once, distillation=full), [0])["a"]
    single = {"examples": 1, "epochs": 3, "batch_size": 1}
    same = run_small(small_experiment({"a": arms["all"]}, distillation=single), [0])["a"]
    np.testing.assert_allclose(one.steps["trait_loss"], same.steps["trait_loss"], rtol=1e-9)
    with pytest.raises(RequestError, match=r"at most distillation\.examples"):
        load_study("quickstart", settings=["arms.baseline.targets.unique=100000"])


def test_a_smaller_batch_is_the_beginning_of_the_shared_one() -> None:
    arms = {"small": {"intervention": "baseline", "student": {"batch_size": 8}}}
    arms["whole"] = {"intervention": "baseline", "student": {"batch_size": 32}}
    arms["plain"] = {"intervention": "baseline"}
    found = run_small(small_experiment(arms), [0, 1])
    assert np.array_equal(found["whole"].steps["trait_loss"], found["plain"].steps["trait_loss"])
    assert len(found["small"].steps["trait_loss"]) == len(found["plain"].steps["trait_loss"])
    smaller = {"examples": 8, "epochs": 1, "batch_size": 8}
    other = run_small(small_experiment({"a": arms["plain"]}, distillation=smaller), [0])["a"]
    assert other.steps["distill_loss"].shape == (1, 1)
    first = found["small"].steps["distill_loss"][0, 0]
    assert first != found["plain"].steps["distill_loss"][0, 0]


def test_an_arm_may_have_a_teacher_of_its_own_training() -> None:
    own = {"teacher_epochs": 3, "teacher_learning_rate": 2e-2}
    arms = {
        "plain": {"intervention": "baseline"},
        "longer": {"intervention": "baseline", "targets": own},
    }
    found = run_small(small_experiment(arms), [0, 1])
    longer = run_small(
        small_experiment({"plain": arms["plain"]}, teacher={"epochs": 3, "learning_rate": 2e-2}),
        [0, 1],
    )["plain"]
    for name in ("teacher_accuracy", "final_accuracy"):
        assert np.array_equal(found["longer"].figures[name], longer.figures[name])
    assert np.array_equal(found["longer"].steps["distill_loss"], longer.steps["distill_loss"])
    assert (found["plain"].figures["teacher_accuracy"] != longer.figures["teacher_accuracy"]).any()
