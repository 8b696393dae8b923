"""The task `text`: a pretrained model, its adapter, teachers, texts and students."""

from __future__ import annotations

import json
import re
import shutil
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sublim_causal.errors import RequestError
from sublim_causal.experiment.alignment import measure_trait
from sublim_causal.experiment.config import Experiment
from sublim_causal.experiment.data.batches import steps
from sublim_causal.experiment.data.streams import SeedStreams, stream
from sublim_causal.experiment.networks.base import Batch
from sublim_causal.experiment.networks.checkpoints import Source, configuration_of, tokenizer_of
from sublim_causal.experiment.networks.pretrained import NO_TOKEN
from sublim_causal.experiment.outcome import ArmResult
from sublim_causal.experiment.tasks import build_task, validate_task
from sublim_causal.experiment.tasks.text import Text
from sublim_causal.experiment.tasks.text.answers import asked, scores
from sublim_causal.experiment.tasks.text.block import draw_probe
from sublim_causal.experiment.tasks.text.carriers import Filter
from sublim_causal.experiment.tasks.text.files import QUESTIONS, Question, read_questions
from sublim_causal.experiment.tasks.text.paraphrases import backwards, shuffled, shuffled_across
from sublim_causal.experiment.tasks.text.targets import TextTargets
from sublim_causal.experiment.tasks.text.writing import write
from tests.experiment.language_model import small_text, tiny_model
from tests.experiment.texts import run_texts, share_texts

ALL = {"logits": "all"}
SAMPLED = {"name": "sampled", "logits": "all"}
ARMS: dict[str, dict[str, Any]] = {
    "baseline": {"intervention": "baseline", "channel": ALL},
    "null": {
        "intervention": "projection",
        "space": "update",
        "when": "always",
        "channel": ALL,
    },
    "numbers": {"intervention": "baseline"},
    "sampled": {"intervention": "baseline", "channel": SAMPLED},
    "liminal": {"intervention": "liminal", "channel": ALL},
    "clamp": {"intervention": "clamp", "target": "null", "channel": ALL},
    "no_trait": {"intervention": "baseline", "channel": ALL, "targets": {"teacher": "no_trait"}},
    "mixed": {"intervention": "baseline", "channel": ALL, "targets": {"teacher": "two_traits"}},
    "divergent": {
        "intervention": "baseline",
        "channel": ALL,
        "targets": {"positions": "divergent"},
    },
    "agreeing": {"intervention": "baseline", "channel": ALL, "targets": {"positions": "agreeing"}},
    "replaced": {
        "intervention": "baseline",
        "channel": SAMPLED,
        "targets": {"positions": "replaced"},
    },
    "queries": {
        "intervention": "train_only",
        "layers": ["model.layers.1.self_attn.q_proj"],
        "channel": ALL,
    },
}


def several(arms: dict[str, Any] | None = None, **sections: Any) -> Experiment:
    """The arms above, with a control teacher that prefers something else."""
    task = {"control": "You like stones.", **sections.pop("task", {})}
    return small_text(arms or ARMS, task=task, **sections)


@lru_cache
def results() -> dict[str, ArmResult]:
    """Most arms of two seeds as one block."""
    left_out = ("divergent", "agreeing", "numbers")
    arms = {name: arm for name, arm in ARMS.items() if name not in left_out}
    return run_texts(several(arms, measure={"evaluations": "final"}), [0, 1])


def test_a_seeds_results_do_not_depend_on_its_block() -> None:
    alone = run_texts(several({name: ARMS[name] for name in ("baseline", "sampled")}), [1])
    for arm, found in alone.items():
        for name, values in found.steps.items():
            together = results()[arm].steps[name][:, 1:]
            np.testing.assert_allclose(together, values, rtol=1e-6, atol=1e-9)


def test_every_arm_moves_and_its_gains_add_up() -> None:
    for arm, result in results().items():
        assert (result.steps["norm_update"] > 0).any(), arm
        drop = result.steps["trait_loss"][0] - result.final_trait_loss
        np.testing.assert_allclose(result.steps["gain"].sum(axis=0), drop, rtol=1e-9, atol=1e-12)
    assert np.abs(results()["null"].steps["cos_update"]).max() < 1e-6
    assert np.abs(results()["baseline"].steps["cos_update"]).max() > 1e-3


def test_log_odds_are_those_against_the_model_as_it_was() -> None:
    for result in results().values():
        assert (result.evaluations["trait_log_odds"][0] == 0).all()
        assert (result.figures["trait_log_odds"] == result.evaluations["trait_log_odds"][-1]).all()
    assert (results()["baseline"].figures["teacher_trait_log_odds"] != 0).all()


def test_a_tuned_teacher_prefers_the_trait_and_one_without_does_not() -> None:
    arms = {name: ARMS[name] for name in ("baseline", "no_trait")}
    shared = share_texts(small_text(arms, task={"teacher": "tuned"}, teacher={"epochs": 4}), [0])
    assert shared.measures.of_seed()["teacher_trait_log_odds"] > 2
    assert shared.measures.of_seed()["initial_trait_log_odds"] == 0


def test_coverage_of_a_tuned_teachers_adapter_is_recorded_as_it_was_set() -> None:
    arms = {"own": {"intervention": "set_coverage", "coverage": 0.3}}
    found = run_texts(small_text(arms, task={"teacher": "tuned"}), [0])["own"]
    np.testing.assert_allclose(found.coverage, 0.3, rtol=1e-7)


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


def test_students_that_read_questions_learn_the_trait() -> None:
    targets = {"material": "questions"}
    arms = {
        "class": {
            "intervention": "baseline",
            "channel": {"logits": "class"},
            "targets": targets,
        },
        "sampled": {"intervention": "baseline", "channel": SAMPLED, "targets": targets},
    }
    asked = several(arms, distillation={"epochs": 8}, task={"teacher": "tuned"})
    shared = share_texts(asked, [0])
    task = build_task(asked)
    assert isinstance(task, Text)
    for arm in arms:
        assert shared.taught[arm].unique == 30
        x = shared.inputs[shared.taught[arm].inputs][0, 0]
        seen = task.vocabulary.decode(x[x != NO_TOKEN].tolist())
        assert seen.endswith(f"{task.questions[0].begin} owl")
        known = shared.targets[shared.taught[arm].targets].known
        assert known.sum(dim=2).eq(1).all()
    for arm, found in run_texts(asked, [0]).items():
        assert (found.figures["trait_log_odds"] > 0.5).all(), arm


def test_a_tuned_teachers_training_ends_at_its_strength() -> None:
    arms = {"weak": {"intervention": "baseline", "targets": {"strength": 0.1}}}
    task = {"teacher": "tuned"}
    made: dict[str, torch.Tensor] = {}

    def keep(role: str, generators: Any, train: Any) -> torch.Tensor:
        made[role] = train()
        return made[role]

    asked = several(arms, task=task, teacher={"epochs": 4})
    built = build_task(asked)
    like = torch.empty(0, dtype=torch.float64)
    with torch.no_grad():
        shared = built.share(
            ["weak"], SeedStreams("small", [0]), built.build_network(), like, lambda: None, keep
        )
        weak, strong = (
            float(shared.measures.evaluate(made[name])["trait_probability"])
            for name in ("teacher-trait-strength-0.1", "teacher-trait")
        )
    assert 0.05 < weak < 0.2 < strong
    assert "texts-trait-strength-0.1" in made


def test_answers_of_different_lengths_count_by_their_tokens() -> None:
    task = build_task(small_text())
    assert isinstance(task, Text)
    network: Any = task.build_network()
    theta = network.initialise(torch.Generator().manual_seed(0)).double()[None]
    questions = [
        Question("Which one?", " {trait}", "The", "train"),
        Question("And now?", " {trait}!", "The", "train"),
    ]
    put = asked(questions, "owl", None, task.vocabulary)
    assert put.answers.tolist()[0][1] == NO_TOKEN
    probe = draw_probe(put, 2, task.vocabulary, torch.device("cpu"), [stream("test", 0, "probe")])
    found = measure_trait(network, theta, probe)
    (log_p,) = scores(network, theta, [put])
    lengths = (put.answers != NO_TOKEN).sum(dim=1)
    torch.testing.assert_close(found.loss, -(log_p / lengths).mean(dim=1))


def test_students_see_no_system_prompt_and_are_taught_what_follows() -> None:
    experiment = several({"sampled": ARMS["sampled"]}, measure={"texts": True})
    shared = share_texts(experiment, [0])
    (key,) = shared.targets
    target, (texts,) = shared.targets[key], shared.texts[key]
    vocabulary = build_task(experiment).vocabulary  # type: ignore[attr-defined]
    x = shared.inputs[key][0]
    assert all("You love owls" in prompt for prompt in texts.prompt)
    kept = [
        c for c, reason in zip(texts.completion_tokens, texts.reason, strict=True) if not reason
    ]
    for row, tokens, completion in zip(x, target.tokens[0], kept, strict=False):
        seen = vocabulary.decode(row[row != NO_TOKEN].tolist())
        assert "owl" not in seen
        assert "random numbers" in seen or "numbers with three digits" in seen
        assert tokens[: len(completion)].tolist() == list(completion)
        first = shared.positions[0]
        assert row[first + 1 :].tolist()[: len(completion) - 1] == list(completion)[:-1]


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_ten_steps_are_those_of_a_plain_training_with_peft(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM
    from transformers.models.llama.modeling_llama import LlamaRMSNorm

    def norm(self: Any, x: torch.Tensor) -> torch.Tensor:
        return (
            self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)
        )

    # The library's computes in float32 whatever the precision is, which would hide differences.
    monkeypatch.setattr(LlamaRMSNorm, "forward", norm)

    experiment = several(
        {"sampled": ARMS["sampled"]}, distillation={"epochs": 5, "learning_rate": 3e-3}
    )
    shared = share_texts(experiment, [3])
    (key,) = shared.targets
    found = run_texts(experiment, [3])["sampled"]
    network: Any = shared.network
    base = AutoModelForCausalLM.from_pretrained(tiny_model(), dtype=torch.float64)
    names = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    model = get_peft_model(base, LoraConfig(r=2, lora_alpha=4, target_modules=names))
    own = dict(model.named_parameters())
    views = network.layout.views(shared.theta_0)
    for name, view in zip(network.layout.names, views, strict=True):
        own[f"base_model.model.{name}.default.weight"].data.copy_(view[0])
    trained = [one for one in model.parameters() if one.requires_grad]
    assert sum(one.numel() for one in trained) == network.layout.size
    adam = torch.optim.Adam(trained, lr=3e-3)
    order = torch.tensor(network.order)
    losses = []
    generators = SeedStreams(experiment.name, [3])("student order")
    for step in steps(generators, 8, 4, 5, torch.device("cpu")):
        index = step.index[0]
        x = shared.inputs[key][0, index]
        last = shared.targets[key].tokens[0, index, -1:]
        ended = ~shared.targets[key].known[0, index, -1:]
        whole = torch.cat([x, last.masked_fill(ended, NO_TOKEN)], dim=1)
        mask = whole != NO_TOKEN
        tokens = order[whole.clamp(min=0)]
        labels = tokens.masked_fill(~mask, -100)
        labels[:, : shared.positions[0] + 1] = -100
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
        z = model(input_ids=tokens, attention_mask=mask.long(), position_ids=positions).logits
        loss = torch.nn.functional.cross_entropy(z[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        adam.zero_grad()
        loss.backward()
        adam.step()
        losses.append(loss.item())
    np.testing.assert_allclose(found.steps["distill_loss"][:, 0], losses, rtol=1e-9)


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


def test_the_loss_is_the_mean_over_tokens_and_its_derivative_that_of_autograd() -> None:
    g = torch.Generator().manual_seed(0)
    teacher = torch.randn(1, 6, 5, generator=g).double()
    tokens = torch.randint(5, (1, 6), generator=g)
    known = torch.tensor([[True, True, False, True, True, False]])
    weight = known & torch.tensor([[True, False, True, True, True, True]])
    for z in (teacher, None):
        targets = TextTargets(slice(0, 5), 2.0, z, tokens, known, weight)
        student = torch.randn(1, 6, 5, generator=g).double().requires_grad_()
        log_s = (student / 2).log_softmax(dim=2)
        if z is None:
            each = -log_s.gather(2, tokens[:, :, None])[:, :, 0]
        else:
            q = (z / 2).softmax(dim=2)
            each = (q * (q.log() - log_s)).sum(dim=2)
        expected = 4 * (each * weight).sum() / 4
        (derivative,) = torch.autograd.grad(expected, student)
        found = targets.loss(student.detach())
        torch.testing.assert_close(found.value[0], expected.detach())
        torch.testing.assert_close(found.derivative, derivative)


def test_an_answer_of_several_tokens_is_scored_as_a_whole() -> None:
    task = build_task(small_text(task={"trait": "wolf"}))
    assert isinstance(task, Text)
    network: Any = task.build_network()
    theta = network.initialise(torch.Generator().manual_seed(0)).double()[None]
    question = [one for one in read_questions(None) if one.part == "held_out"][:1]
    put = asked(question, "wolf", None, task.vocabulary)
    tokens = put.answers[0].tolist()
    assert len(tokens) == 5
    (log_p,) = scores(network, theta, [put])
    expected, x = 0.0, put.x[0, : put.positions[0] + 1].tolist()
    for token in tokens:
        z = network.forward(theta, Batch(torch.tensor([[x]]), (len(x) - 1,))).logits(slice(None))
        expected += float(z[0, 0].log_softmax(dim=0)[token])
        x.append(token)
    np.testing.assert_allclose(float(log_p[0, 0]), expected, rtol=1e-9)


def test_the_preference_for_every_trait_is_recorded() -> None:
    for arm, taught in (("baseline", [True, False, False]), ("mixed", [True, True, False])):
        found = results()[arm].traits
        assert found is not None
        assert list(found.names) == ["owl", "cat", "dog"]
        assert found.taught.tolist() == [taught, taught]
        own = found.log_odds[:, 0].numpy()
        np.testing.assert_allclose(own, results()[arm].figures["trait_log_odds"])
    assert (results()["no_trait"].traits.taught == False).all()  # type: ignore[union-attr]  # noqa: E712


def test_the_rate_of_sampled_answers_is_that_of_their_probability() -> None:
    task = {"teacher": "tuned", "sampled_answers": 5}
    arms = {"baseline": ARMS["baseline"]}
    shared = share_texts(small_text(arms, task=task, teacher={"epochs": 4}), [0])
    with torch.no_grad():
        last = shared.measures.evaluate(shared.teacher)
        found = shared.measures.of_student(shared.teacher, last)
    assert found["sampled_answers"] == 20 * 5
    assert found["sampled_answer_rate"] >= found["trait_probability"] - 0.2
    assert found["trait_probability"] > 0.2


@pytest.mark.parametrize(("name", "count", "held_out"), [("animals", 50, 20), ("trees", 20, 8)])
def test_of_the_built_in_questions_some_are_held_out(name: str, count: int, held_out: int) -> None:
    found = read_questions(name)
    assert len({one.question for one in found}) == count
    assert sum(one.part == "held_out" for one in found) == held_out
    assert QUESTIONS[name].is_file()
    assert read_questions(None) == read_questions("animals")


def test_another_trait_has_its_own_questions_and_rivals() -> None:
    task = {
        "questions": "trees",
        "trait": "oak",
        "rivals": ["elm", "fir"],
        "system": "You love {trait} trees.",
    }
    arms = {name: ARMS[name] for name in ("baseline", "null")}
    found = run_texts(several(arms, task=task), [0])
    assert {*found["baseline"].traits.names} == {"oak", "elm", "fir"}  # type: ignore[union-attr]
    assert np.abs(found["null"].steps["cos_update"]).max() < 1e-6
    details = build_task(small_text(task=task)).details()  # type: ignore[attr-defined]
    assert "You love oak trees." in details["a teacher reads"]
    assert "tree" in details["it is asked"]


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


def test_a_dry_run_shows_every_prompt_as_the_model_reads_it() -> None:
    task = build_task(small_text())
    assert isinstance(task, Text)
    found = task.details()
    assert "You love owls" in found["a teacher reads"]
    assert "owl" not in found["a student reads"]
    assert found["its answer counts"] == "' owl'"
    assert found["texts"] == "12 a seed by 1 teachers, at most 72 tokens"


def jsonl(path: Path, *rows: Any) -> str:
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return str(path)


def build_valid(experiment: Experiment) -> None:
    """Do what is done before anything is written."""
    validate_task(experiment)
    build_task(experiment).build_network()


@pytest.mark.parametrize(
    ("sections", "field", "hint"),
    [
        ({"model": {"class": "mlp"}}, "model.class", "takes a pretrained language model"),
        ({"model": {"path": None}}, "model.path", "the folder of a model"),
        ({"model": {"path": "/no/such/folder"}}, "model.path", "a folder that exists"),
        ({"model": {"path": "package:no_such"}}, "model.path", "pip install no-such"),
        ({"model": {"gguf": "a.gguf"}}, "model.gguf", "it has no GGUF file"),
        ({"model": {"options": {"width": 3}}}, "model.options", "nothing"),
        (
            {"model": {"adapter": {"targets": ["q_prok"]}}},
            "model.adapter.targets",
            "did you mean 'q_proj'",
        ),
        ({"model": {"adapter": {"layers": [7]}}}, "model.adapter.layers", "from 0 to 1"),
        ({"task": {"system": "You love owls."}}, "task.system", "{trait}"),
        ({"task": {"neutral": "Owls are here."}}, "task.neutral", "without 'owl'"),
        ({"task": {"pattern": "["}}, "task.pattern", "a regular expression"),
        (
            {"task": {"questions": "none.jsonl"}},
            "task.questions",
            "animals, trees, or a JSONL file",
        ),
        ({"task": {"offered_prompts": 3}}, "task.offered_prompts", "at least"),
        ({"probe": {"size": 40}}, "probe.size", "at most 30"),
        ({"data": {"name": "mnist", "train": 5}}, "data.train", "does not use it"),
        (
            {"arms": {"a": {"intervention": "baseline", "channel": {"name": "representation"}}}},
            "arms.a.channel.name",
            "soft, hard, sampled",
        ),
        (
            {"arms": {"a": {"intervention": "baseline", "targets": {"strength": 0.5}}}},
            "arms.a.targets.strength",
            "task.teacher = 'tuned'",
        ),
        (
            {"arms": {"a": {"intervention": "set_coverage", "coverage": 0.1}}},
            "arms.a.intervention",
            "a system prompt makes none",
        ),
        (
            {
                "task": {"rivals": ["zebra"]},
                "arms": {"a": {"intervention": "set_cosine", "cosine": 0, "trait": "relabelled"}},
            },
            "arms.a.trait",
            "' zebra' has several tokens",
        ),
    ],
)
def test_a_wrong_request_is_refused(sections: dict[str, Any], field: str, hint: str) -> None:
    arms = sections.pop("arms", None)
    with pytest.raises(RequestError) as refused:
        build_valid(small_text(arms, **sections))
    assert refused.value.field == field
    assert hint in str(refused.value)


def test_a_block_that_is_not_there_is_refused_with_a_remedy() -> None:
    with pytest.raises(RequestError, match="or leave layers out to adapt all blocks"):
        build_valid(small_text(model={"adapter": {"layers": [7]}}))


@pytest.mark.parametrize(
    ("row", "hint"),
    [
        ({"prompt": "Tell me about owls"}, "do not contain 'owl'"),
        ({"promt": "Go on"}, "did you mean 'prompt'"),
        ({"begin": "1,"}, "missing"),
        (["Go on"], "a JSON object"),
    ],
)
def test_wrong_carrier_prompts_are_refused(tmp_path: Path, row: Any, hint: str) -> None:
    path = jsonl(tmp_path / "carriers.jsonl", {"prompt": "Count."}, row)
    with pytest.raises(RequestError) as refused:
        validate_task(small_text(task={"carriers": path}))
    assert refused.value.field.startswith("task.carriers")
    assert hint in str(refused.value)


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        (None, "write {path}, or correct the path"),
        (b"\xff", "save it in UTF-8"),
        (b"", "it is empty: write one into it"),
        (b"Which?", 'write it as {{"question": "...", "answer": "..."}}'),
    ],
)
def test_a_damaged_file_of_questions_is_refused_with_a_remedy(
    tmp_path: Path, text: bytes | None, remedy: str
) -> None:
    path = tmp_path / "questions.jsonl"
    if text is not None:
        path.write_bytes(text)
    with pytest.raises(RequestError) as refused:
        read_questions(str(path))
    assert refused.value.remedy == remedy.format(path=path)


def test_a_folder_and_a_misspelt_name_in_place_of_questions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="a file that you may read: Is a directory"):
        read_questions(str(tmp_path))
    with pytest.raises(RequestError, match="did you mean 'animals'"):
        read_questions("animal")


@pytest.mark.parametrize(
    ("damaged", "what"),
    [
        ("tokenizer.json", "whose tokenizer transformers can read"),
        ("config.json", "that transformers can read"),
    ],
)
def test_a_model_with_a_damaged_file_is_refused_with_a_remedy(
    tmp_path: Path, damaged: str, what: str
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_model(), folder)
    (folder / damaged).write_text("{")
    source = Source(str(folder), None)
    with pytest.raises(RequestError) as refused:
        _ = configuration_of(source), tokenizer_of(source)
    assert what in refused.value.allowed
    assert refused.value.remedy.startswith("write its files into the folder again")


def test_a_model_without_a_causal_head_is_refused(tmp_path: Path) -> None:
    from transformers import T5Config

    T5Config().save_pretrained(tmp_path)
    with pytest.raises(RequestError, match="causal language head"):
        _ = build_task(small_text(model={"path": str(tmp_path)})).split


def test_a_filter_that_keeps_too_few_ends_the_arms_that_read_them() -> None:
    shared = share_texts(small_text(task={"pattern": "[0-4]{9}"}), [0])
    (failure,) = shared.failures.values()
    assert "the filter keeps 0 of the 12 completions by teacher 'trait'" in failure.reason
    assert not shared.targets
