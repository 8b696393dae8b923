"""Texts of the task `text`: written, filtered, chosen and paraphrased."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch

from sublim_causal.errors import RequestError
from sublim_causal.experiment.data.streams import SeedStreams, stream
from sublim_causal.experiment.networks.base import Batch
from sublim_causal.experiment.networks.pretrained import NO_TOKEN
from sublim_causal.experiment.tasks import build_task
from sublim_causal.experiment.tasks.text.carriers import Filter
from sublim_causal.experiment.tasks.text.paraphrases import backwards, shuffled, shuffled_across
from sublim_causal.experiment.tasks.text.writing import write
from tests.experiment.language_model import ARMS, SAMPLED, several, small_text
from tests.experiment.texts import run_texts, share_texts


def test_divergent_and_agreeing_positions_are_all_tokens() -> None:
    shared = share_texts(several({name: ARMS[name] for name in ("divergent", "agreeing")}), [0, 1])
    divergent, agreeing = (shared.targets[shared.taught[a].targets] for a in shared.taught)
    assert torch.equal(divergent.weight | agreeing.weight, divergent.known)
    assert not (divergent.weight & agreeing.weight).any()
    share = shared.taught["agreeing"].figures["divergent_share"]
    expected = divergent.weight.sum(dim=(1, 2)) / divergent.known.sum(dim=(1, 2))
    torch.testing.assert_close(share, expected.double())
    assert divergent.weight.any()


def test_as_many_random_tokens_are_taught_as_diverge() -> None:
    arms = {
        name: {"intervention": "baseline", "targets": {"positions": name}}
        for name in ("divergent", "random", "random_agreeing")
    }
    shared = share_texts(several(arms), [0, 1])
    divergent, chosen, others = (shared.targets[shared.taught[a].targets] for a in arms)
    count = divergent.weight.sum(dim=(1, 2))
    assert (count > 0).all()
    assert not divergent.known.all()
    assert torch.equal(chosen.weight.sum(dim=(1, 2)), count)
    assert not (chosen.weight & ~chosen.known).any()
    assert torch.equal(others.weight, others.known & ~chosen.weight)


def test_the_table_of_texts_tells_divergent_tokens_and_what_is_not_needed() -> None:
    arms = {"divergent": ARMS["divergent"]}
    shared = share_texts(several(arms, measure={"texts": True}), [0])
    ((key, (texts,)),) = shared.texts.items()
    assert texts.divergent is not None
    assert texts.counterfactual is not None
    kept = [place for place, reason in enumerate(texts.reason) if not reason]
    assert len(kept) == 8
    assert {texts.reason[place] for place in range(12) if place not in kept} <= {
        "not needed: 8 others are kept",
        "it is empty",
    }
    weight = shared.targets[key].weight[0]
    for row, place in zip(weight, kept, strict=True):
        where, tokens = texts.divergent[place], texts.completion_tokens[place]
        assert row.tolist() == [*where, *[False] * (6 - len(where))]
        changed = [a != b for a, b in zip(tokens, texts.counterfactual[place], strict=True)]
        assert changed == where
    assert [len(texts.divergent[place]) for place in range(12) if place not in kept] == [0] * 4


def test_fewer_different_texts_are_repeated() -> None:
    arms = {
        name: {**ARMS["sampled"], "targets": {"unique": count}}
        for name, count in (("all", 8), ("three", 3))
    }
    shared = share_texts(several(arms), [0])
    every, three = (shared.targets[shared.taught[arm].targets] for arm in arms)
    assert torch.equal(three.tokens, every.tokens[:, :3])
    assert shared.taught["three"].unique == 3
    run_texts(several(arms, distillation={"epochs": 1}), [0])


def test_a_half_of_the_texts_counts_by_how_they_favour_the_teacher() -> None:
    arms = {
        name: {**ARMS["sampled"], "targets": {"texts": name}}
        for name in ("favouring", "disfavouring", "random")
    }
    shared = share_texts(several(arms, measure={"texts": True}), [0])
    kept = {
        arm: shared.targets[shared.taught[arm].targets].weight.any(dim=2)[0].tolist()
        for arm in arms
    }
    assert kept["disfavouring"] == [not one for one in kept["favouring"]]
    assert sum(kept["favouring"]) == sum(kept["random"]) == 4
    (texts,) = shared.texts[shared.taught["favouring"].targets]
    assert texts.reason.count("not of the half that texts = 'favouring' keeps") == 4


def test_completions_follow_the_models_distribution_and_end() -> None:
    network: Any = build_task(small_text()).build_network()
    theta = network.initialise(torch.Generator().manual_seed(0)).double()
    prompts = [[20, 30, 40]] * 300
    z = network.forward(theta[None], Batch(torch.tensor(prompts[:1])[None], (2,)))
    p = z.logits(slice(None))[0, 0].softmax(dim=0)
    end = int(p.argmax())
    generators = [stream("text", 0, "a")]
    (tokens,) = write(network, theta[None], [prompts], 4, end, 1.0, generators, lambda: None)
    share = (tokens[:, 0] == end).double().mean()
    assert abs(share - p[end]) < 4 * (p[end] * (1 - p[end]) / 300).sqrt()
    for row in tokens.tolist():
        if end in row:
            assert set(row[row.index(end) + 1 :]) <= {NO_TOKEN}


@pytest.mark.parametrize("adapter", [{"rank": 2}, "none"])
def test_texts_written_side_by_side_are_those_of_each_alone(adapter: Any) -> None:
    network: Any = build_task(small_text(model={"adapter": adapter})).build_network()
    theta = torch.stack([network.initialise(stream("text", r, "init")) for r in range(2)]).double()
    theta += 0.1 * torch.randn(theta.shape, generator=stream("text", 0, "noise")).double()
    prompts = [[[20, 30, 40], [50, 60]], [[70], [80, 90]]]

    def written(*replicates: int) -> torch.Tensor:
        generators = [stream("text", r, "a") for r in replicates]
        rows = [prompts[r] for r in replicates]
        return write(network, theta[[*replicates]], rows, 5, 7, 1.0, generators, lambda: None)

    assert torch.equal(written(0, 1), torch.cat([written(0), written(1)]))
    assert not torch.equal(written(0), written(1))


@pytest.mark.parametrize(
    ("completion", "reason"),
    [
        (" 1, 22, 333", ""),
        ("  ", "it is empty"),
        (" 1, Owls", "it contains 'owl'"),
        (" 1, two", "it does not match task.pattern"),
        (" 1 2 3 4", "it has more than 3 numbers"),
    ],
)
def test_a_completion_is_dropped_with_the_reason(completion: str, reason: str) -> None:
    assert Filter(r"[\s\d,]*", 3, ("owl",)).reason(completion) == reason


def test_paraphrases_keep_the_numbers_and_what_stands_between_them() -> None:
    texts, generator = [" 1, 22; 3", " 4, 5"], torch.Generator().manual_seed(3)
    assert backwards(texts, generator) == [" 3, 22; 1", " 5, 4"]
    for change in (shuffled, shuffled_across):
        found = change(texts, generator)
        assert sorted("".join(found)) == sorted("".join(texts))
        assert [re.sub(r"\d+", "0", one) for one in found] == [" 0, 0; 0", " 0, 0"]
        assert found != texts


@pytest.mark.parametrize("name", ["order", "prompt", "shuffled", "shuffled_across", "rewritten"])
def test_every_paraphrase_is_read(name: str) -> None:
    def inputs(paraphrase: str) -> torch.Tensor:
        targets = {"paraphrase": paraphrase}
        arm = {"intervention": "baseline", "channel": SAMPLED, "targets": targets}
        (found,) = share_texts(small_text({"a": arm}), [5]).inputs.values()
        return found

    plain, changed = inputs("none"), inputs(name)
    assert plain.shape == changed.shape
    assert not torch.equal(plain, changed)


def test_a_filter_that_keeps_nothing_is_refused_before_anything_is_trained() -> None:
    experiment = small_text(task={"pattern": "[0-4]{9}"})
    task = build_task(experiment)
    with pytest.raises(RequestError, match="dropped all 16 that were tried") as refused:
        task.rehearse(SeedStreams("small", [0]), task.build_network(), torch.float64)
    assert refused.value.field == "task.pattern"


def test_a_filter_that_keeps_too_few_ends_the_arms_that_read_them() -> None:
    shared = share_texts(small_text(task={"pattern": "[0-4]{9}"}), [0])
    (failure,) = shared.failures.values()
    assert "the filter keeps 0 of the 12 completions by teacher 'trait'" in failure.reason
    assert not shared.targets
