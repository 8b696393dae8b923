"""The task `text`: a pretrained model, its adapter, teachers and students."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import torch

from sublim_causal.experiment.alignment import measure_trait
from sublim_causal.experiment.data.batches import steps
from sublim_causal.experiment.data.streams import SeedStreams, stream
from sublim_causal.experiment.networks.base import Batch
from sublim_causal.experiment.networks.pretrained import NO_TOKEN
from sublim_causal.experiment.outcome import ArmResult
from sublim_causal.experiment.tasks import build_task
from sublim_causal.experiment.tasks.text import Text
from sublim_causal.experiment.tasks.text.answers import asked, scores
from sublim_causal.experiment.tasks.text.block import draw_probe
from sublim_causal.experiment.tasks.text.files import Question, read_questions
from sublim_causal.experiment.tasks.text.targets import TextTargets
from tests.experiment.language_model import ARMS, SAMPLED, several, small_text, tiny_model
from tests.experiment.texts import run_texts, share_texts


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


def test_students_that_read_questions_learn_the_trait() -> None:
    targets = {"material": "questions"}
    arms = {
        "class": {"intervention": "baseline", "channel": {"logits": "class"}, "targets": targets},
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
def test_ten_steps_are_those_of_a_plain_training_with_peft(monkeypatch: pytest.MonkeyPatch) -> None:
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
    assert "tree" in details["a question"]
