"""Time the paper's study against its peers, all in one run.

Prints ratios of wall time for the same work on real MNIST (seeds x four arms), everything recorded
on our side (all columns, Parquet, MLflow). Peers: the scripts ``plain_loop.py`` (one model at a
time, two threads, and in two processes) and ``fast.py`` in ``--peers``; where they are missing, the
tests' own reference loop on a few steps. Also prints the student step's share of the measured peak
of the matrix product, of torch's default library and of the one in use.
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

from sublim_causal.experiment.networks.base import Batch, Network
from sublim_causal.experiment.networks.mlp import MLP
from sublim_causal.experiment.networks.module import ModuleNetwork
from sublim_causal.experiment.networks.products import (
    multiplies_bfloat16,
    product_engine,
    relu_layer,
)
from sublim_causal.experiment.teaching.losses import cross_entropy, kl_divergence, softmax

BESIDE = Path(__file__).parents[3] / "shared"
FORWARD = 2 * (784 * 256 + 256 * 256)
STUDENT_FLOP = 1024 * sum(
    2 * (FORWARD + 2 * 256 * outputs) + 2 * (256 * 256 + 256 * outputs) for outputs in (3, 10)
)
"""Floating-point operations a student step needs: both losses, no input gradient of layer one."""


def seconds(cwd: Path, data: Path, *commands: list[str]) -> float:
    """Wall time of commands that run side by side."""
    environment = {**os.environ, "SUBLIM_DATA": str(data)}
    start = time.perf_counter()
    running = [
        subprocess.Popen(
            command, cwd=cwd, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for command in commands
    ]
    codes = [process.wait() for process in running]
    if any(codes):
        raise RuntimeError(f"exit codes {codes} of {commands}")
    return time.perf_counter() - start


def whole_study(seeds: int, data: Path, peers: Path) -> None:
    """Compare the whole study with the peers."""
    python = sys.executable
    with tempfile.TemporaryDirectory() as folder:
        cwd = Path(folder)
        run = [python, "-m", "sublim_causal.study", "run", "paper", "--seeds", str(seeds)]
        ours = {"all recorded": seconds(cwd, data, run)}
        bare = ("--tracking-uri", "none", "--out", "bare")
        ours["no MLflow"] = seconds(cwd, data, [*run, *bare])
        if multiplies_bfloat16():
            reduced = ("--precision", "bf16", "--out", "bf16")
            ours["bf16 products"] = seconds(cwd, data, [*run, *reduced])
        module = ("--set", f"model.class={Path(__file__).stem}:SameMLP", "--out", "module")
        study = cwd / "as_module.toml"
        text = Path(__file__).parents[2].joinpath("studies", "paper.toml").read_text()
        study.write_text(text.replace("options.hidden = [256, 256]", ""))
        (cwd / f"{Path(__file__).stem}.py").write_text(SAME_MLP)
        run[4] = str(study)
        ours["as an nn.Module"] = seconds(cwd, data, [*run, *module])
    for name, time_ in ours.items():
        print(f"ours, {name}: {time_:.1f} s ({time_ / ours['all recorded']:.2f} x all recorded)")
    if not (peers / "fast.py").exists():
        print(f"no peers in {peers}: comparing with the tests' reference loop is left to pytest")
        return
    fast, plain = ([python, str(peers / name)] for name in ("fast.py", "plain_loop.py"))
    half = seeds // 2
    theirs = {
        "fast.py, two processes": [[*fast, "--reps", str(seeds), "--procs", "2"]],
        "plain_loop.py, two threads": [[*plain, "--reps", str(seeds), "--threads", "2"]],
        "plain_loop.py, two processes": [
            [*plain, "--first", str(first), "--reps", str(count), "--threads", "1"]
            for first, count in ((0, half), (half, seeds - half))
        ],
    }
    for name, commands in theirs.items():
        time_ = seconds(peers, data, *commands)
        ratios = ", ".join(f"{time_ / own:.2f} x ours, {what}" for what, own in ours.items())
        print(f"{name}: {time_:.1f} s = {ratios}", flush=True)


SAME_MLP = '''
from torch import nn


class SameMLP(nn.Sequential):
    """The paper's MLP, as a user would write it."""

    def __init__(self, image_shape, outputs):
        super().__init__(
            nn.Flatten(), nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(),
            nn.Linear(256, outputs),
        )
'''


def median(times: list[float]) -> float:
    """The middle one."""
    return sorted(times)[len(times) // 2]


def timed(function: object, repeats: int = 40) -> float:
    """Median time of a call, seconds."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()  # type: ignore[operator]
        times.append(time.perf_counter() - start)
    return median(times)


def student_step(network: Network) -> float:
    """Median time of the two passes of a student step."""
    generator = torch.Generator().manual_seed(0)
    theta = torch.randn(1, network.layout.size, generator=generator) / 16
    noise, probe = (Batch(torch.rand(1, 1024, 784, generator=generator)) for _ in range(2))
    labels = torch.randint(10, (1, 1024), generator=generator)
    target = softmax(torch.randn(1, 1024, 3, generator=generator))
    auxiliary, classes = slice(10, 13), slice(0, 10)

    def step() -> None:
        batch = Batch(noise.x)
        forward = network.forward(theta, batch)
        loss = kl_divergence(forward.logits(auxiliary), target, target.log())
        forward.gradient(loss.derivative, auxiliary)
        forward = network.forward(theta, probe)
        loss = cross_entropy(forward.logits(classes), labels)
        forward.gradient(loss.derivative, classes)

    with torch.no_grad():
        return timed(step)


def peak() -> None:
    """Compare a student step with the peak of the matrix product, on one thread."""
    torch.set_num_threads(1)
    a = torch.randn(1536, 1536)
    flop = 2 * 1536**3
    rates = {
        "torch.mm": flop / timed(lambda: torch.mm(a, a)),
        product_engine(torch.device("cpu")): flop
        / timed(lambda: relu_layer(a[None], a[None], a[:1])),
    }
    network = MLP((784, 256, 256, 13))
    step = student_step(network)
    for name, rate in rates.items():
        share = STUDENT_FLOP / step / rate
        print(f"{name}: {rate / 1e9:.0f} GFLOP/s; student step {1e3 * step:.1f} ms, {share:.0%}")
    namespace: dict[str, type[torch.nn.Module]] = {}
    exec(SAME_MLP, namespace)
    module = ModuleNetwork(lambda: namespace["SameMLP"]((1, 28, 28), 13), (1, 28, 28))  # type: ignore[call-arg]
    print(f"as an nn.Module: {student_step(module) / step:.2f} x the built-in MLP's step")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--data-dir", type=Path, default=BESIDE / "data")
    parser.add_argument("--peers", type=Path, default=BESIDE / "peers")
    options = parser.parse_args()
    peak()
    whole_study(options.seeds, options.data_dir.resolve(), options.peers.resolve())
