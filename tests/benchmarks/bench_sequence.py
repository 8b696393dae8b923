"""Time a student's step on texts, and what a seed costs, on one thread.

Prints the processor time of a step in which everything is recorded against (a) a plain loop, an
``nn.Module`` with Adam and autograd that measures nothing, and (b) the same through autograd, one
pass a loss and a half of the probe. Then the share of matrix products in a step, texts with and
without a cache, the growth with seeds, and with ``--compile`` the plain loop under torch.compile.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from sublim_causal.experiment.block import new_student
from sublim_causal.experiment.config import Experiment
from sublim_causal.experiment.data.streams import SeedStreams, stream
from sublim_causal.experiment.distillation import distil
from sublim_causal.experiment.interventions import build_interventions
from sublim_causal.experiment.networks.decoder import TransformerNetwork
from sublim_causal.experiment.shared import Shared
from sublim_causal.experiment.tasks import build_task
from sublim_causal.experiment.tasks.base import train_anew
from sublim_causal.experiment.tasks.preference.language import CARRIERS, TAUGHT_POSITIONS
from sublim_causal.experiment.tasks.preference.texts import cached, uncached
from sublim_causal.experiment.tasks.preference.vocabulary import CONTEXT, NUMBERS, PROMPT

STEPS, BATCH = 20, 32
REPEATS = 5


def experiment(base_steps: int = 1) -> Experiment:
    """Return the recipe, with few steps."""
    return Experiment.model_validate(
        {
            "name": "bench",
            "task": {"name": "preference", "base_steps": base_steps},
            "model": {"class": "transformer"},
            "teacher": {"epochs": 1, "batch_size": BATCH, "learning_rate": 5e-4},
            "distillation": {
                "examples": STEPS * BATCH,
                "epochs": 1,
                "batch_size": BATCH,
                "learning_rate": 5e-4,
            },
            "probe": {"size": 16},
            "measure": {"evaluations": "final"},
            "arms": {"baseline": {"intervention": "baseline"}},
        }
    )


def seconds(function: Callable[[], object]) -> float:
    """Return the least processor time of a call: the one that others disturbed least."""
    times = []
    for _ in range(REPEATS):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return min(times)


@torch.no_grad()
def share(asked: Experiment, seeds: list[int]) -> Shared:
    """Train reference and teacher, and let it write."""
    task, streams = build_task(asked), SeedStreams(asked.name, seeds)
    network = task.build_network()
    return task.share(["baseline"], streams, network, torch.empty(0), lambda: None, train_anew)


def students(asked: Experiment, shared: Shared, seeds: list[int]) -> None:
    """Train the students of one arm, and record everything."""
    streams = SeedStreams(asked.name, seeds)
    interventions = build_interventions("arms.a", {"intervention": "baseline"})
    with torch.no_grad():
        one = new_student(asked, "baseline", interventions, shared, streams, followed=False)
        distil(asked, shared, {"baseline": one}, streams("student order"), lambda: None)


def plain(shared: Shared, model: torch.nn.Module) -> None:
    """Train a student in the plain loop."""
    adam = torch.optim.Adam(model.parameters(), lr=5e-4)
    (x,) = shared.inputs.values()
    (targets,) = shared.targets.values()
    q: Tensor = targets.target[0]  # type: ignore[attr-defined]
    for index in torch.randperm(STEPS * BATCH).split(BATCH):
        adam.zero_grad()
        log_s = F.log_softmax(model(x[0, index])[:, list(TAUGHT_POSITIONS), NUMBERS], dim=2)
        F.kl_div(log_s, q[index], reduction="batchmean").backward()
        adam.step()


def products(call: Callable[[], object]) -> float:
    """Return the share of matrix products in the time of a call."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        call()
    events = profiled.key_averages()
    names = ("aten::mm", "aten::bmm", "aten::addmm", "aten::baddbmm", "mkldnn::_linear_pointwise")
    total = sum(event.self_cpu_time_total for event in events)
    return sum(event.self_cpu_time_total for event in events if event.key in names) / total


def write_texts(network: TransformerNetwork, theta: Tensor, step: Any, count: int = 400) -> None:
    """Continue texts with a function that gives the next logits."""
    x = CARRIERS["walks"](count, stream("bench", 0, "texts"))
    with torch.no_grad():
        next_logits = step(network, theta)
        for place in range(PROMPT, CONTEXT):
            next_logits(x[:, :place])


def main(*, compiled: bool) -> None:
    """Print all figures."""
    asked = experiment()
    shared = share(asked, [0])
    network = shared.network
    assert isinstance(network, TransformerNetwork)
    untuned = replace(shared, network=network.of_module)
    model = network.of_module.build()
    ours = seconds(lambda: students(asked, shared, [0])) / STEPS
    rows = {
        "ours, all recorded": ours,
        "plain loop": seconds(lambda: plain(shared, model)) / STEPS,
        "ours through autograd, a pass a half": seconds(lambda: students(asked, untuned, [0]))
        / STEPS,
    }
    if compiled:
        fast = torch.compile(model)
        plain(shared, fast)
        rows["plain loop, torch.compile"] = seconds(lambda: plain(shared, fast)) / STEPS
    for name, value in rows.items():
        print(f"{name}: {1e3 * value:.1f} ms a step; ours / it = {ours / value:.2f}", flush=True)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"memory at most: {memory:.2f} GB")
    share_of_products = products(lambda: students(asked, shared, [0]))
    print(f"matrix products: {share_of_products:.0%} of a step")
    base = seconds(lambda: share(experiment(11), [0])) - seconds(lambda: share(asked, [0]))
    print(f"reference: {100 * base:.1f} ms a step")
    for name, step in (("with", cached), ("without", uncached)):
        took = seconds(lambda step=step: write_texts(network, shared.theta_0, step))  # type: ignore[misc]
        print(f"400 texts {name} a cache: {1e3 * took:.0f} ms")
    for count in (1, 2, 4):
        seeds = list(range(count))
        block = share(asked, seeds)
        took = seconds(lambda block=block, seeds=seeds: students(asked, block, seeds)) / STEPS  # type: ignore[misc]
        print(f"block of {count}: {1e3 * took / count:.1f} ms a step and seed")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--compile", action="store_true")
    torch.set_num_threads(1)
    main(compiled=parser.parse_args().compile)
