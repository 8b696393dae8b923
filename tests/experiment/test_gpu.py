"""The experiment on a GPU: one that is not there, and a real one with ``-m gpu``."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from sublim_causal.experiment.clock import Clock
from sublim_causal.experiment.config import Experiment
from sublim_causal.experiment.interventions import INTERVENTIONS
from sublim_causal.experiment.networks.base import Batch
from sublim_causal.experiment.networks.mlp import MLP
from sublim_causal.experiment.optimizers import OPTIMIZERS
from sublim_causal.experiment.outcome import ArmResult
from tests.contract.test_interventions import EXAMPLES
from tests.experiment.absent_gpu import DEVICE, absent_gpu
from tests.experiment.language_model import small_text, tiny_model
from tests.experiment.small import run_small, small_experiment
from tests.experiment.texts import ARMS, run_texts, small_texts

SEEDS = [0, 1]
BASELINE = {"intervention": "baseline"}
OWN: dict[str, list[dict[str, Any]]] = {
    "interventions": [
        {"intervention": name, **options}
        for name in INTERVENTIONS
        for options in EXAMPLES[name]
        if options.get("target") != "other"
    ],
    "students": [
        {**BASELINE, "student": own}
        for own in (
            *({"optimizer": name} for name in OPTIMIZERS),
            {"initialisation": "other"},
            {"initialisation": "perturbed", "noise": 0.1, "layers": {"0": "other"}},
            {"layers": {"class": "other"}, "weight_noise": 0.1, "batch_size": 8},
            {"optimizer": "adam", "frozen_after": 1, "weight_decay": 0.1},
            {"weight_decay": 0.1, "decay": "decoupled"},
        )
    ],
    "targets": [
        *({**BASELINE, "targets": {"images": it}} for it in ("divergent", "agreeing", "random")),
        {**BASELINE, "targets": {"images": "replaced", "unique": 20}},
        {**BASELINE, "targets": {"teacher_epochs": 2, "teacher_weight_decay": 0.1}},
        {**BASELINE, "targets": {"teachers": 2}},
        {**BASELINE, "targets": {"teacher_input_noise": 0.1}},
        {**BASELINE, "channel": {"name": "hard"}},
        {**BASELINE, "channel": {"name": "sampled"}},
        {**BASELINE, "channel": {"temperature": 2.0, "logits": "class"}},
        {**BASELINE, "channel": {"name": "representation", "layer": "0"}},
        *({**BASELINE, "inputs": name} for name in ("gaussian", "mixed_shapes", "training")),
    ],
}
BOTH = {
    "name": "combined",
    "members": [{"logits": "class"}, {"name": "representation", "layer": "0"}],
}
SECTIONS: dict[str, dict[str, Any]] = {
    "attack": {
        "arms": {
            "baseline": BASELINE,
            "both": {**BASELINE, "channel": BOTH, "student": {"adversarial": True}},
            "plain": {**BASELINE, "targets": {"teacher_attack": "plain"}},
        },
        "attack": {"steps": 2, "images": 20},
    },
    "until a loss": {"distillation": {"until_loss": 1e-3}},
    "everything measured": {"measure": {"layers": True, "weights": True}},
    "convolutions": {"model": {"class": "cnn", "options": {}}},
}
SHORT = {"epochs": 1}
EXPERIMENTS = {
    name: small_experiment(
        {"baseline": BASELINE, **{f"arm {i}": arm for i, arm in enumerate(arms)}},
        distillation=SHORT,
    )
    for name, arms in OWN.items()
} | {
    name: small_experiment(
        **{**sections, "distillation": {**SHORT, **sections.get("distillation", {})}}
    )
    for name, sections in SECTIONS.items()
}
"""All that an arm or a study of images can ask of the device."""
READINGS: tuple[dict[str, Any], ...] = (
    {"teacher": "two_traits", "paraphrase": "rewritten"},
    {"teacher": "no_trait", "paraphrase": "prompt"},
    {"material": "questions"},
    {"positions": "replaced", "paraphrase": "format"},
    {"positions": "first_half", "texts": "favouring", "paraphrase": "shuffled"},
    {"positions": "random", "texts": "random", "paraphrase": "shuffled_across"},
)
TEXTS = small_texts(
    {
        "baseline": BASELINE,
        "null": {**ARMS["null"], "channel": {"name": "sampled"}},
        "other base": {**BASELINE, "student": {"initialisation": "other"}},
        **{f"reading {i}": {**BASELINE, "targets": it} for i, it in enumerate(READINGS)},
    },
    task={"base_steps": 3, "counterfactuals": 1},
    teacher={"batch_size": 128},
    distillation={**SHORT, "examples": 16},
)
ANY_MODULE = small_texts(
    {"baseline": BASELINE},
    task={"base_steps": 3},
    model={"class": "tests.experiment.texts:Bigrams", "options": {}},
    teacher={"batch_size": 128},
    distillation={**SHORT, "examples": 16},
)


def language_model() -> Experiment:
    """All that a pretrained model is asked on the device: to write, read, diverge and answer.

    Of GPT-2, as the norms of Llama compute in float32 whatever the precision is.
    """
    everything = {"logits": "all"}
    arms = {
        "null": {**ARMS["null"], "channel": everything},
        "replaced": {
            **BASELINE,
            "channel": {"name": "sampled"},
            "targets": {"positions": "replaced", "teacher": "two_traits"},
        },
        "shuffled": {
            **BASELINE,
            "channel": everything,
            "targets": {"paraphrase": "shuffled", "texts": "random"},
        },
    }
    return small_text(
        arms,
        model={"path": str(tiny_model("gpt2"))},
        task={"sampled_answers": 1, "counterfactuals": 1},
        distillation={**SHORT, "examples": 4},
        measure={"evaluations": "final", "texts": True},
    )


def assert_same(one: dict[str, ArmResult], other: dict[str, ArmResult], rtol: float) -> None:
    """Assert that two blocks recorded the same."""
    for arm, result in one.items():
        for name, values in result.steps.items():
            np.testing.assert_allclose(values, other[arm].steps[name], rtol, atol=rtol)
        for name, values in result.evaluations.items():
            np.testing.assert_allclose(values, other[arm].evaluations[name], rtol, atol=rtol)


@pytest.mark.parametrize("experiment", EXPERIMENTS.values(), ids=EXPERIMENTS)
def test_nothing_is_left_on_the_cpu_and_the_numbers_are_the_same(experiment: Experiment) -> None:
    with absent_gpu():
        found = run_small(experiment, SEEDS, device=DEVICE)
    assert_same(found, run_small(experiment, SEEDS), rtol=0)


def test_the_program_runs_ahead_of_the_gpu() -> None:
    arms = {name: {"intervention": name} for name in ("projection", "liminal", "shuffled", "yoked")}
    waits = []
    for epochs in (1, 2):
        experiment = small_experiment(
            {"baseline": BASELINE, **arms}, distillation={"epochs": epochs}
        )
        with absent_gpu() as gpu:
            run_small(experiment, SEEDS, device=DEVICE)
        waits.append(gpu.waits)
    assert waits[0] == waits[1] > 0


def test_the_program_runs_ahead_of_the_gpu_on_texts() -> None:
    waits = []
    for epochs in (1, 2):
        experiment = small_texts(
            {"baseline": BASELINE, "null": ARMS["null"]},
            task={"base_steps": epochs},
            teacher={"batch_size": 128},
            distillation={"epochs": epochs, "examples": 16},
        )
        with absent_gpu() as gpu:
            run_texts(experiment, SEEDS, DEVICE)
        waits.append(gpu.waits)
    assert waits[0] == waits[1] > 0


def test_the_absent_gpu_refuses_what_a_gpu_refuses() -> None:
    with absent_gpu():
        there, here = torch.ones(3, device=DEVICE), torch.ones(3)
        with pytest.raises(RuntimeError, match="same device"):
            there + here
        with pytest.raises(RuntimeError, match="generator"):
            torch.rand(3, generator=torch.Generator(), device=DEVICE)
        with pytest.raises(RuntimeError, match="numpy"):
            there.numpy()


def test_bf16_on_a_gpu_rounds_the_factors_of_the_hidden_products_only() -> None:
    network = MLP((12, 8, 8, 5))
    generator = torch.Generator().manual_seed(0)
    theta = torch.randn(2, network.layout.size, generator=generator)
    pixels = torch.randn(2, 6, 12, generator=generator)
    rounded = theta.clone()
    for weight in network.layout.views(rounded)[:-2:2]:
        weight.copy_(weight.bfloat16())
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with absent_gpu():
            batch = Batch(pixels.to(DEVICE))
            found = network.forward(theta.to(DEVICE), batch).hidden[0].cpu()
    finally:
        torch.set_float32_matmul_precision(before)
    exact = network.forward(rounded, Batch(pixels.bfloat16().float())).hidden[0]
    torch.testing.assert_close(found, exact, rtol=1e-6, atol=1e-6)
    assert not torch.equal(found, network.forward(theta, Batch(pixels)).hidden[0])


@pytest.mark.parametrize("experiment", [TEXTS, ANY_MODULE], ids=["transformer", "any module"])
def test_texts_are_written_and_read_on_the_device(experiment: Experiment) -> None:
    with absent_gpu():
        found = run_texts(experiment, SEEDS, DEVICE)
    assert_same(found, run_texts(experiment, SEEDS), rtol=0)


def test_a_pretrained_model_writes_and_reads_on_the_device() -> None:
    with absent_gpu():
        found = run_texts(language_model(), SEEDS, DEVICE)
    assert_same(found, run_texts(language_model(), SEEDS), rtol=1e-9)


@pytest.mark.gpu
@pytest.mark.parametrize("experiment", EXPERIMENTS.values(), ids=EXPERIMENTS)
def test_a_gpu_gives_the_numbers_of_the_cpu(experiment: Experiment) -> None:
    found = run_small(experiment, SEEDS, device=torch.device("cuda"))
    assert_same(found, run_small(experiment, SEEDS), rtol=1e-6)
    assert all(result.seconds > 0 for result in found.values())


@pytest.mark.gpu
def test_a_gpu_gives_the_numbers_of_the_cpu_on_texts() -> None:
    found = run_texts(TEXTS, SEEDS, torch.device("cuda"))
    assert_same(found, run_texts(TEXTS, SEEDS), rtol=1e-6)


@pytest.mark.gpu
def test_a_gpu_gives_the_numbers_of_the_cpu_on_a_pretrained_model() -> None:
    found = run_texts(language_model(), SEEDS, torch.device("cuda"))
    assert_same(found, run_texts(language_model(), SEEDS), rtol=1e-6)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
def test_products_on_a_gpu_round_as_the_precision_says(precision: str) -> None:
    from sublim_causal.experiment.networks.products import batched_outer_product

    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(4, 256, 512, generator=generator) for _ in range(2))
    exact = a.double() @ b.double().mT
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        found = batched_outer_product(a.cuda(), b.cuda()).cpu()
    finally:
        torch.set_float32_matmul_precision(before)
    error = float((found - exact).std() / exact.std())
    # Rounding of a factor: 2^-24, 2^-11 (TF32) and 2^-9 (bfloat16), at most.
    low, high = {"highest": (0, 1e-5), "high": (1e-5, 6e-4), "medium": (8e-4, 4e-3)}[precision]
    assert low <= error < high


@pytest.mark.gpu
def test_the_clock_counts_the_time_of_the_gpu() -> None:
    clock, a = Clock(torch.device("cuda")), torch.randn(4096, 4096, device="cuda")
    for _ in range(2):
        with clock.running():
            for _ in range(20):
                a @ a
    # 40 products of 137 GFLOP take over 5 ms on any GPU.
    assert clock.seconds() > 0.005
