"""Time the paper's study on a GPU: ``python tests/benchmarks/bench_gpu.py [--seeds N]``.

Runs ``paper`` with N seeds (default: 1,000) x four arms on real MNIST in every precision, each in a
process of its own with everything recorded but MLflow, and tells seconds, TFLOP/s, and the share of
the peak of a batched matrix product of the same precision. Goal: under two minutes.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from sublim_causal.experiment.networks.products import batched_outer_product
from sublim_causal.study.worker.device import Precision, configure_torch

BESIDE = Path(__file__).parents[3] / "shared"
SEED_FLOP = 11.18e12 / 4
"""Floating-point operations that a seed of the paper's study needs: its teacher and four students,
245 steps each, teacher's logits once, no input gradient of the first layer."""
GOAL_SECONDS = 120


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
    options = parser.parse_args()
    main(options.seeds, options.device, options.precisions, options.data_dir.resolve())
