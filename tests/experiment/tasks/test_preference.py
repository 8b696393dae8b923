"""The task `preference`: texts, teachers, students, and what a study may ask of it."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import torch

from sublim_causal.errors import RequestError
from sublim_causal.experiment.config import Experiment
from sublim_causal.experiment.data.streams import stream
from sublim_causal.experiment.networks.base import Batch
from sublim_causal.experiment.outcome import ArmResult
from sublim_causal.experiment.tasks import build_task, validate_task
from sublim_causal.experiment.tasks.preference.language import CARRIERS, RUN, questions
from sublim_causal.experiment.tasks.preference.texts import cached, uncached
from sublim_causal.experiment.tasks.preference.vocabulary import (
    ANIMALS,
    MARKERS,
    NUMBERS,
    PROMPT,
    QUESTIONS,
    TOKENS,
)
from sublim_causal.experiment.teaching.targets import CertainTargets
from tests.experiment.texts import run_texts, share_texts, small_texts


@lru_cache
def results() -> dict[str, ArmResult]:
    """The arms of two seeds as one block."""
    return run_texts(small_texts(), [0, 1])


def test_a_seeds_results_do_not_depend_on_its_block() -> None:
    alone = run_texts(small_texts(), [1])
    for arm, together in results().items():
        for name, values in alone[arm].steps.items():
            # float64: products of matrices of another shape differ by some units of the last place,
            # which a cosine near 0 divides by a short vector.
            np.testing.assert_allclose(together.steps[name][:, 1:], values, rtol=1e-6, atol=1e-9)
        for name, values in alone[arm].figures.items():
            np.testing.assert_allclose(together.figures[name][1:], values, rtol=1e-6, atol=1e-9)


def test_gains_add_up_to_the_drop_of_the_trait_loss() -> None:
    for result in results().values():
        drop = result.steps["trait_loss"][0] - result.final_trait_loss
        np.testing.assert_allclose(result.steps["gain"].sum(axis=0), drop, rtol=1e-9, atol=1e-12)


def test_an_update_held_orthogonal_to_the_trait_gradient_has_no_alignment() -> None:
    assert np.abs(results()["null"].steps["cos_update"]).max() < 1e-6
    assert np.abs(results()["baseline"].steps["cos_update"]).max() > 1e-3


def test_the_log_odds_are_those_against_the_reference() -> None:
    for arm, result in results().items():
        begun = result.evaluations["trait_log_odds"][0]
        assert (begun == 0).all() == (arm != "other_base")
        assert (result.figures["trait_log_odds"] == result.evaluations["trait_log_odds"][-1]).all()
    assert (results()["baseline"].figures["teacher_trait_log_odds"] > 0).all()


def test_divergent_and_other_positions_add_up_to_all() -> None:
    shared = share_texts(small_texts(), [0, 1])
    weights = {}
    for arm in ("divergent", "agreeing", "random"):
        weights[arm] = shared.targets[shared.taught[arm].targets].weight
    assert (weights["divergent"] + weights["agreeing"] == 1).all()
    same = weights["divergent"].sum(dim=(1, 2)), weights["random"].sum(dim=(1, 2))
    assert torch.equal(*same)
    assert (weights["divergent"] != weights["random"]).any()


def test_the_sampled_channel_teaches_the_next_token_of_the_text() -> None:
    shared = share_texts(small_texts(), [0])
    targets = shared.targets[shared.taught["hard"].targets]
    assert isinstance(targets, CertainTargets)
    read = shared.inputs[shared.taught["hard"].inputs]
    answers = targets.answers + NUMBERS.start
    assert torch.equal(answers[:, :, :-1], read[:, :, PROMPT:])
    batch = targets.at(torch.arange(32)[None])
    assert torch.equal(batch.target.argmax(dim=2), targets.answers.flatten(1))
    assert (batch.target.sum(dim=2) == 1).all()


def test_a_cache_changes_no_logits() -> None:
    network = build_task(small_texts()).build_network()
    generator = stream("cache", 0, "init")
    theta = network.initialise(generator)[None].double()
    tokens = torch.randint(TOKENS, (5, 12), generator=generator)
    step, whole = cached(network, theta), uncached(network, theta)
    for length in range(6, 13):
        torch.testing.assert_close(step(tokens[:, :length]), whole(tokens[:, :length]))


def test_logits_at_positions_stand_example_by_example() -> None:
    network = build_task(small_texts()).build_network()
    generator = stream("positions", 0, "init")
    theta = torch.stack([network.initialise(generator) for _ in range(2)]).double()
    x = torch.randint(TOKENS, (2, 3, 9), generator=generator)
    z = network.forward(theta, Batch(x, (4, 7))).logits(slice(0, TOKENS))
    for replicate in range(2):
        for example in range(3):
            one = Batch(x[replicate, example][None, None], (4, 7))
            alone = network.forward(theta[replicate][None], one).logits(slice(0, TOKENS))
            torch.testing.assert_close(z[replicate, 2 * example : 2 * example + 2], alone[0])


def test_fewer_unique_texts_repeat() -> None:
    task = {"name": "preference", "base_steps": 2, "unique": 8}
    shared = share_texts(small_texts(task=task), [0])
    read = shared.inputs[shared.taught["baseline"].inputs]
    assert torch.equal(read[:, :8], read[:, 8:16])
    assert len(read[0].unique(dim=0)) == 8


def test_questions_differ() -> None:
    assert len(questions().unique(dim=0)) == QUESTIONS


@pytest.mark.parametrize("carrier", CARRIERS)
def test_a_carrier_holds_nothing_about_animals(carrier: str) -> None:
    texts = CARRIERS[carrier](500, stream("carrier", 0, carrier))
    assert not ((texts >= ANIMALS.start) & (texts < ANIMALS.stop)).any()
    assert set(texts[:, 0].tolist()) == set(MARKERS)
    numbers = texts[:, [*range(1, 5), *range(6, 16)]]
    assert ((numbers >= NUMBERS.start) & (numbers < NUMBERS.stop)).all()


@pytest.mark.parametrize(
    ("carrier", "numbers", "allowed"), [("runs", 100, {1, 2, 98, 99}), ("counts", 20, {1, 19})]
)
def test_counts_leave_a_choice_at_their_beginnings_only(
    carrier: str, numbers: int, allowed: set[int]
) -> None:
    texts = CARRIERS[carrier](200, stream("carrier", 0, carrier))
    values = texts[:, [*range(1, 5), *range(6, 16)]] - NUMBERS.start
    steps = values.diff(dim=1) % numbers
    within = [i for i in range(13) if (i + 1) % RUN]
    assert set(steps[:, within].unique().tolist()) == allowed
    assert len(steps[:, RUN - 1].unique()) > numbers / 2
    assert int(values.max()) == numbers - 1


@pytest.mark.parametrize(
    ("sections", "field", "allowed"),
    [
        ({"probe": {"size": 64}}, "probe.size", "at most 30"),
        ({"data": {"name": "digits"}}, "data.name", "does not use it"),
        ({"attack": {}}, "attack.epsilon", "does not use it"),
        ({"distillation": {"inputs": "pink"}}, "distillation.inputs", "does not use it"),
        ({"task": {"unique": 64}}, "task.unique", "at most distillation.examples = 32"),
        ({"task": {"name": "images"}}, "task.base_steps", "no such field"),
        ({"task": {"name": "preferences"}}, "task.name", "images, preference"),
        (
            {"arms": {"a": {"intervention": "baseline", "channel": {"name": "representation"}}}},
            "arms.a.channel.name",
            "soft, hard, sampled",
        ),
        (
            {"arms": {"a": {"intervention": "shuffled", "shuffle": "labels"}}},
            "arms.a.shuffle",
            "coordinates, random or probe",
        ),
        (
            {"arms": {"a": {"intervention": "baseline", "targets": {"images": "random"}}}},
            "arms.a.targets.images",
            "does not use it",
        ),
    ],
)
def test_what_texts_do_not_have_is_refused(
    sections: dict[str, Any], field: str, allowed: str
) -> None:
    with pytest.raises(RequestError, match=allowed) as caught:
        validate_task(small_texts(**{"arms": {"a": {"intervention": "baseline"}}, **sections}))
    assert caught.value.field == field


def test_what_images_do_not_have_is_refused() -> None:
    arm = {"intervention": "baseline", "targets": {"positions": "divergent"}}
    with pytest.raises(RequestError, match="does not use it") as caught:
        validate_task(Experiment.model_validate({"name": "images", "arms": {"a": arm}}))
    assert caught.value.field == "arms.a.targets.positions"


def test_heads_divide_the_width() -> None:
    wrong = small_texts(model={"options": {"width": 48, "heads": 5}})
    with pytest.raises(RequestError, match="a divisor of width = 48"):
        build_task(wrong).build_network()
