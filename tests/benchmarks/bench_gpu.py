"""Time the paper's study on a GPU: ``python tests/benchmarks/bench_gpu.py [--seeds N]``.

First a student's step alone, for 1, 8, 64 and 512 seeds: as the study calls it, compiled, and
replayed from a CUDA graph (``--steps``: only this). Then ``paper`` with N seeds (default: 1,000) x
four arms on real MNIST in every precision, each in a process of its own with everything recorded
but MLflow: seconds, TFLOP/s, and the share of the peak of a batched matrix product of the same
precision. Goal: under two minutes.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from sublim_causal.experiment.alignment import (
    Probe,
    measure_trait,
    products_at_point,
    products_of_step,
)
from sublim_causal.experiment.networks.base import Batch
from sublim_causal.experiment.networks.mlp import MLP
from sublim_causal.experiment.networks.products import batched_outer_product
from sublim_causal.experiment.optimizers.adam import Adam
from sublim_causal.experiment.teaching.losses import kl_divergence, softmax
from sublim_causal.study.worker.device import Precision, configure_torch

BESIDE = Path(__file__).parents[3] / "shared"
SEED_FLOP = 11.18e12 / 4
"""Floating-point operations that a seed of the paper's study needs: its teacher and four students,
245 steps each, teacher's logits once, no input gradient of the first layer."""
GOAL_SECONDS = 120
STUDENT_STEPS = 4 * 245
"""Of the four students of a seed."""


def peak(precision: Precision, device: torch.device, repeats: int = 20) -> float:
    """Return the operations a second of a batched product as large as the first layer's."""
    configure_torch(precision)
    replicates = 128 if device.type == "cuda" else 1
    a = torch.randn(replicates, 1024, 768, device=device)
    b = torch.randn(replicates, 256, 768, device=device)
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        product = batched_outer_product(a, b)
        float(product[-1, -1, -1])  # waits for a GPU
        times.append(time.perf_counter() - start)
    return 2 * replicates * 1024 * 768 * 256 / sorted(times)[repeats // 2]


def student_step(seeds: int, device: torch.device) -> Callable[[], Tensor]:
    """Return a step of the baseline arm with all that is measured: its products ``(13, R)``."""
    network = MLP((784, 256, 256, 13))
    classes, auxiliary = slice(0, 10), slice(10, 13)
    theta = torch.randn(seeds, network.layout.size, device=device) / 16
    batch = Batch(torch.rand(seeds, 1024, 784, device=device))
    first, second = (
        (
            Batch(torch.rand(seeds, 512, 784, device=device)),
            torch.randint(10, (seeds, 512), device=device),
        )
        for _ in range(2)
    )
    probe = Probe((first, second), classes)
    told = softmax(torch.randn(seeds, 1024, 3, device=device))
    optimise = torch.compiler.disable(Adam(theta, lr=3e-4).step)  # one kernel; none can be compiled

    @torch.no_grad()
    def step() -> Tensor:
        forward = network.forward(theta, batch)
        loss = kl_divergence(forward.logits(auxiliary), told, told.log())
        gradient = forward.gradient(loss.derivative, auxiliary)
        trait = measure_trait(network, theta, probe)
        before = theta.clone()
        theta.grad = gradient
        optimise()
        update = theta - before
        return torch.cat(
            [products_at_point(trait, update), products_of_step(trait, gradient, gradient, update)]
        )

    return step


def replayed(step: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """Record `step` in a CUDA graph; return what replays it."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        products = step()

    def replay() -> Tensor:
        graph.replay()
        return products

    return replay


def milliseconds(step: Callable[[], Tensor], repeats: int = 20) -> float:
    """Return the time of a call, once it has been warmed up; waits for the GPU at the end."""
    for _ in range(3):
        last = step()
    float(last[-1, -1])
    start = time.perf_counter()
    for _ in range(repeats):
        last = step()
    float(last[-1, -1])
    return 1e3 * (time.perf_counter() - start) / repeats


def time_steps(device: torch.device, precision: Precision) -> None:
    """Print a line for each number of seeds: milliseconds of a step, and seeds a minute."""
    configure_torch(precision)
    ways: dict[str, Callable[[Callable[[], Tensor]], Callable[[], Tensor]]]
    ways = {"eager": lambda step: step, "CUDA graph": replayed, "compiled": torch.compile}
    if device.type != "cuda":
        del ways["CUDA graph"]
    print(f"a student's step in {precision}: ms, and seeds of four students a minute")
    for name, prepared in ways.items():
        for seeds in (1, 8, 64, 512):
            took = milliseconds(prepared(student_step(seeds, device)))
            rate = 60e3 * seeds / (STUDENT_STEPS * took)
            print(f"{seeds:4} seeds, {name}: {took:.2f} ms, {rate:,.0f} a minute", flush=True)


def seconds(precision: str, device: str, seeds: int, data: Path) -> float:
    """Return the wall time of the whole command."""
    command = [sys.executable, "-m", "sublim_causal.study", "run", "paper"]
    command += ["--seeds", str(seeds), "--device", device, "--precision", precision]
    command += ["--tracking-uri", "none", "--no-report"]
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        environment = {**os.environ, "SUBLIM_DATA": str(data)}
        subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
        return time.perf_counter() - start


def main(seeds: int, device: torch.device, precisions: list[Precision], data: Path) -> None:
    """Print a line a precision."""
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    print(f"{name}, {seeds} seeds x 4 arms of paper")
    for precision in precisions:
        best, took = peak(precision, device), seconds(precision, device.type, seeds, data)
        rate = seeds * SEED_FLOP / took
        print(
            f"{precision}: {took:.1f} s, {rate / 1e12:.2f} TFLOP/s, {rate / best:.0%} of the "
            f"product's {best / 1e12:.2f}; goal under {GOAL_SECONDS} s: "
            f"{'met' if took < GOAL_SECONDS else 'MISSED'}",
            flush=True,
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--device", type=torch.device, default=torch.device("cuda"))
    parser.add_argument("--precisions", nargs="+", default=["fp32", "tf32", "bf16"])
    parser.add_argument("--data-dir", type=Path, default=BESIDE / "data")
    parser.add_argument("--steps", action="store_true", help="a student's step only")
    options = parser.parse_args()
    time_steps(options.device, options.precisions[0])
    if options.steps:
        sys.exit()
    main(options.seeds, options.device, options.precisions, options.data_dir.resolve())
