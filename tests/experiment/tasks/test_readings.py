"""What the students of an arm read: writers, positions, filters, paraphrases, and refusals."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import pytest
import torch
from torch import Tensor

from sublim_causal.errors import RequestError
from sublim_causal.experiment.config import TargetsConfig
from sublim_causal.experiment.data.streams import stream
from sublim_causal.experiment.shared import Shared, Texts
from sublim_causal.experiment.tasks import validate_task
from sublim_causal.experiment.tasks.preference.paraphrases import PARAPHRASES, Written
from sublim_causal.experiment.tasks.preference.positions import POSITIONS, divergence
from sublim_causal.experiment.tasks.preference.readings import TEXTS, half_by
from sublim_causal.experiment.tasks.preference.roles import writers
from sublim_causal.experiment.tasks.preference.teachers import RIVAL
from sublim_causal.experiment.tasks.preference.vocabulary import (
    ANIMALS,
    FORMATS,
    GO,
    MARKERS,
    NUMBERS,
    PROMPT,
)
from sublim_causal.experiment.teaching.targets import CertainTargets, LogitTargets
from tests.experiment.texts import share_texts, small_texts

SAMPLED = {"name": "sampled"}
ARMS: dict[str, dict[str, Any]] = {
    "hard": {},
    "rival": {"targets": {"teacher": "rival"}},
    "two traits": {"targets": {"teacher": "two_traits"}},
    "two teachers": {"targets": {"teachers": 2}},
    "weaker": {"targets": {"strength": 0.08}},
    "few": {"targets": {"unique": 8}},
    "replaced": {"targets": {"positions": "replaced"}},
    "divergent": {"targets": {"positions": "divergent"}},
    "favouring": {"targets": {"texts": "favouring"}},
    "disfavouring": {"targets": {"texts": "disfavouring"}},
    "both": {"targets": {"texts": "favouring", "positions": "divergent"}},
    "told": {"targets": {"material": "questions"}, "channel": {"name": "soft", "logits": "class"}},
    **{name: {"targets": {"paraphrase": name}} for name in PARAPHRASES},
}


@lru_cache
def shared() -> Shared:
    arms = {
        name: {"intervention": "baseline", "channel": SAMPLED, **arm} for name, arm in ARMS.items()
    }
    return share_texts(small_texts(arms, measure={"texts": True}), [0, 1])


def of(arm: str) -> tuple[Tensor, LogitTargets]:
    """Return what an arm reads ``(R, N, 15)``, and its targets."""
    targets = shared().targets[shared().taught[arm].targets]
    if isinstance(targets, CertainTargets):
        width = targets.columns.stop - targets.columns.start
        q = torch.nn.functional.one_hot(targets.answers, width).to(targets.dtype)
        targets = LogitTargets(targets.columns, targets.temperature, q, targets.weight)
    assert isinstance(targets, LogitTargets)
    return shared().inputs[shared().taught[arm].inputs], targets


def test_mixed_teachers_write_in_turn() -> None:
    mixed, first, second = of("two traits")[0], of("hard")[0], of("rival")[0]
    assert torch.equal(mixed[:, ::2], first[:, ::2])
    assert torch.equal(mixed[:, 1::2], second[:, 1::2])
    assert not torch.equal(first, second)


def test_a_second_teacher_of_the_trait_writes_other_texts_after_the_same_prompts() -> None:
    mixed, first = of("two teachers")[0], of("hard")[0]
    assert torch.equal(mixed[:, ::2], first[:, ::2])
    assert torch.equal(mixed[:, 1::2, :PROMPT], first[:, 1::2, :PROMPT])
    assert not torch.equal(mixed, first)


def test_a_weaker_teacher_is_an_earlier_one() -> None:
    assert not torch.equal(of("weaker")[0], of("hard")[0])


def test_fewer_unique_texts_of_an_arm_are_the_first_of_all() -> None:
    few, every = of("few")[0], of("hard")[0]
    assert torch.equal(few, every[:, :8].repeat(1, 4, 1))


def test_replaced_tokens_stand_in_the_text_and_are_taught() -> None:
    read, targets = of("replaced")
    changed = (read != of("hard")[0])[:, :, PROMPT:]
    diverges = of("divergent")[1].weight
    assert diverges is not None
    assert torch.equal(changed, diverges[:, :, :-1].bool())
    assert changed.any()
    assert targets.weight is None
    taught = targets.target.argmax(dim=3) + NUMBERS.start
    assert torch.equal(taught[:, :, :-1], read[:, :, PROMPT:])


def test_certain_answers_are_kept_as_tokens_and_taught_as_distributions() -> None:
    kept = shared().targets[shared().taught["divergent"].targets]
    assert isinstance(kept, CertainTargets)
    index = torch.tensor([[3, 0, 7], [1, 1, 30]])
    batch, whole = kept.at(index), of("divergent")[1].at(index)
    assert torch.equal(batch.target, whole.target)
    assert batch.weight is not None
    assert torch.equal(batch.weight, whole.weight)
    assert not batch.log_target.any()


def test_the_share_of_divergent_positions_is_measured_where_an_arm_asks() -> None:
    share, weight = shared().measures.of_seed()["divergent_share"], of("divergent")[1].weight
    assert weight is not None
    torch.testing.assert_close(share, weight.double().mean(dim=(1, 2)))
    plain = share_texts(small_texts({"a": {"intervention": "baseline"}}), [0])
    assert plain.measures.of_seed()["divergent_share"].isnan().all()


def test_filters_halve_the_texts() -> None:
    favouring, disfavouring = of("favouring")[1].weight, of("disfavouring")[1].weight
    assert favouring is not None
    assert disfavouring is not None
    assert torch.equal(favouring, 1 - disfavouring)
    assert (favouring[:, :, 0].sum(dim=1) == favouring.shape[1] / 2).all()
    divergent = of("divergent")[1].weight
    assert divergent is not None
    assert torch.equal(of("both")[1].weight, favouring * divergent)


def kept_texts(arm: str) -> list[Texts]:
    """Return what the table `texts` is to hold of an arm, by replicate."""
    return [*shared().texts[shared().taught[arm].targets]]


def test_the_table_of_texts_holds_what_teachers_wrote() -> None:
    x, _ = of("hard")
    for replicate, one in enumerate(kept_texts("hard")):
        tokens = torch.tensor(one.prompt_tokens), torch.tensor(one.completion_tokens)
        assert torch.equal(torch.cat(tokens, dim=1)[:, :-1], x[replicate])
        assert set(one.teacher) == {"trait"}
        assert not any(one.reason)
        assert (one.divergent, one.counterfactual) == (None, None)
        marker, *numbers, go = one.prompt[0].split()
        assert FORMATS.index(marker) == one.prompt_tokens[0][0] - MARKERS.start
        assert [int(n) + NUMBERS.start for n in numbers] == one.prompt_tokens[0][1:-1]
        assert go == "<go>"
        completion = [int(n) + NUMBERS.start for n in one.completion[0].split()]
        assert completion == one.completion_tokens[0]


def test_the_table_of_texts_names_each_writer() -> None:
    assert kept_texts("two traits")[0].teacher[:4] == ["trait", "rival", "trait", "rival"]
    assert kept_texts("two teachers")[1].teacher[:3] == ["trait", "trait 1", "trait"]
    assert kept_texts("weaker")[0].teacher[0] == "trait, strength 0.08"
    assert len(kept_texts("few")[0].teacher) == 8
    assert shared().taught["told"].targets not in shared().texts


def test_the_table_of_texts_says_where_teachers_diverge_and_what_was_dropped() -> None:
    for arm in ("divergent", "favouring", "both", "replaced"):
        x, targets = of(arm)
        for replicate, one in enumerate(kept_texts(arm)):
            kept = torch.tensor([reason == "" for reason in one.reason])
            assert kept.sum() == (16 if arm in ("favouring", "both") else 32)
            where = torch.ones(32, 10) if one.divergent is None else torch.tensor(one.divergent)
            if targets.weight is not None:
                assert torch.equal((where * kept[:, None]).bool(), targets.weight[replicate] > 0)
            if one.counterfactual is None:
                assert arm == "favouring"
                continue
            differs = torch.tensor(one.counterfactual) != torch.tensor(one.completion_tokens)
            assert torch.equal(differs, where.bool())
            if arm == "replaced":
                read = torch.tensor(one.counterfactual)[:, :-1]
                assert torch.equal(read, x[replicate, :, PROMPT:])


def test_the_table_of_traits_has_every_animal_and_names_those_of_the_teachers() -> None:
    measure = shared().traits
    assert measure is not None
    theta = shared().teacher
    for arm, count in (("hard", 1), ("rival", 1), ("two traits", 2), ("two teachers", 1)):
        found = measure(arm, theta)
        assert found.taught.sum(dim=1).tolist() == [count, count]
        assert found.probability.shape == found.log_odds.shape == (2, len(found.names))
    rival = measure("rival", theta).taught
    trait = measure("hard", theta).taught
    assert torch.equal(rival, trait.roll(RIVAL, 1))
    figures = shared().measures.evaluate(theta)
    of_trait = {
        "trait_probability": found.probability[trait],
        "trait_log_odds": found.log_odds[trait],
    }
    for name, values in of_trait.items():
        torch.testing.assert_close(values, figures[name], rtol=0, atol=1e-12)
    assert not measure("hard", shared().theta_0).log_odds.any()


def test_questions_are_answered_at_their_end() -> None:
    read, targets = of("told")
    assert targets.columns == ANIMALS
    assert targets.weight is not None
    assert targets.weight[:, :, 0].all()
    assert targets.weight.sum() == targets.weight[:, :, 0].numel()
    assert not ((read >= NUMBERS.start) & (read < NUMBERS.stop)).any()


def test_every_field_has_its_registry() -> None:
    fields = TargetsConfig.model_fields
    choices = {
        "positions": {"all", "replaced", *POSITIONS},
        "texts": {"all", *TEXTS},
        "paraphrase": {"none", *PARAPHRASES},
    }
    for field, names in choices.items():
        annotation: Any = fields[field].annotation
        assert set(annotation.__args__) == names


@pytest.fixture(scope="module")
def written() -> Written:
    """Sixty texts, and logits whose first column says which number they belong to."""
    texts = torch.empty(1, 60, 16, dtype=torch.long)
    texts[:, :, 0] = MARKERS.start
    texts[:, :, 1:] = NUMBERS.start + torch.arange(60 * 15).view(1, 60, 15) % 97
    texts[:, :, PROMPT - 1] = GO
    z = texts[:, :, PROMPT:, None].double() * torch.tensor([1.0, 0.0]).double()
    reference = torch.zeros(1, 60, 10, 100).double()
    reference[..., 5] = 100
    return Written(
        texts, z, NUMBERS, lambda columns: reference if columns == NUMBERS else reference[..., :2]
    )


@pytest.mark.parametrize("name", sorted(set(PARAPHRASES) - {"rewritten"}))
def test_answers_move_with_their_numbers(name: str, written: Written) -> None:
    x, z = PARAPHRASES[name](written, [stream("test", 0, "paraphrase")])
    assert torch.equal(z[..., 0], x[:, :, PROMPT:].double())
    assert x.shape == written.texts.shape
    assert (x != written.texts).any()
    assert torch.equal(x[:, :, PROMPT - 1], written.texts[:, :, PROMPT - 1])
    assert sorted(x.flatten().tolist()) == sorted(written.texts.flatten().tolist()) or (
        name == "format"
    )


def test_the_reference_rewrites_half_of_the_numbers(written: Written) -> None:
    wide = Written(written.texts, written.reference(NUMBERS) * 0, NUMBERS, written.reference)
    x, z = PARAPHRASES["rewritten"](wide, [stream("test", 0, "paraphrase")])
    anew = z[..., 5] == 100
    assert 0.4 < anew.double().mean() < 0.6
    assert (x[:, :, PROMPT:][anew] == NUMBERS.start + 5).all()
    assert torch.equal(x[:, :, PROMPT:][~anew], written.texts[:, :, PROMPT:][~anew])


def test_the_first_diverging_teacher_answers() -> None:
    z = torch.tensor([[[[2.0, 1.0, 0.0], [2.0, 1.0, 0.0], [2.0, 1.0, 0.0]]]])
    tokens = torch.tensor([[[0, 0, 1]]])
    one = torch.tensor([[[[2.0, 1.0, 0.0], [0.0, 1.0, 0.0], [0.0, 1.0, 0.0]]]])
    two = torch.tensor([[[[0.0, 0.0, 1.0], [0.0, 0.0, 1.0], [0.0, 0.0, 1.0]]]])
    found = divergence(z, tokens, [one, two])
    assert found.where.tolist() == [[[True, True, False]]]
    assert found.other.argmax(dim=3).tolist() == [[[2, 1, 0]]]
    assert divergence(z, tokens, [one]).where.tolist() == [[[False, True, False]]]


def test_the_first_half_of_a_texts_positions_is_kept() -> None:
    where = torch.tensor([[[True, False, True, True], [False, True, False, False]]])
    kept = POSITIONS["first_half"](where, torch.ones_like(where), [])
    assert kept.tolist() == [[[True, False, True, False], [False, True, False, False]]]


def test_a_half_has_the_largest_scores() -> None:
    assert half_by(torch.tensor([[3.0, 1.0, 4.0, 1.0]])).tolist() == [[True, False, True, False]]


def test_writers_of_two_traits_alternate() -> None:
    roles = writers(TargetsConfig(teacher="two_traits", teachers=2, strength=0.5))
    assert [(role.kind, role.number) for role in roles] == [
        ("trait", 0),
        ("rival", 0),
        ("trait", 1),
        ("rival", 1),
    ]
    assert roles[0].stream == "teacher trait"
    assert roles[2].stream == "teacher trait 1"


@pytest.mark.parametrize(
    ("arm", "sections", "field", "allowed"),
    [
        (
            {"targets": {"positions": "divergent"}},
            {"task": {"counterfactuals": 0}},
            "targets.positions",
            "no teacher shows where",
        ),
        ({"targets": {"unique": 64}}, {}, "targets.unique", "at most distillation.examples = 32"),
        (
            {"targets": {"teacher": "no_trait", "strength": 0.5}},
            {},
            "targets.strength",
            "has no animal",
        ),
        (
            {"targets": {"paraphrase": "order", "positions": "random"}},
            {},
            "targets.paraphrase",
            "none, if targets.positions",
        ),
        (
            {"targets": {"material": "questions", "unique": 8}, "channel": {"logits": "class"}},
            {},
            "targets.unique",
            "has no number texts",
        ),
        ({"targets": {"material": "questions"}}, {}, "channel.logits", "class or all"),
        (
            {"channel": {"name": "sampled", "logits": "class"}},
            {},
            "channel.logits",
            "auxiliary or all",
        ),
        ({"channel": {"name": "sampled", "first": 9}}, {}, "channel.first", "nothing"),
    ],
)
def test_what_an_arm_cannot_read_is_refused(
    arm: dict[str, Any], sections: dict[str, Any], field: str, allowed: str
) -> None:
    with pytest.raises(RequestError, match=allowed) as caught:
        validate_task(small_texts({"a": {"intervention": "baseline", **arm}}, **sections))
    assert caught.value.field == f"arms.a.{field}"
