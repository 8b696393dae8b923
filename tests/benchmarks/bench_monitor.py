"""Time and memory of a measured step, as ratios in one run.

For each size: a transformer's training step alone, one forward and backward pass of the trait loss,
and what `AlignmentMonitor` adds to the step, with ``every=1`` and ``every=50``. The steps take
turns, and ratios are of medians. Extra memory is what is held in tensors at peak beyond the peak of
training without a monitor, on a batch of one.

Run ``python tests/benchmarks/bench_monitor.py`` (minutes).
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from sublim_causal.monitor import AlignmentMonitor

WIDTHS = {1: (160, 3), 30: (624, 6), 100: (1024, 8)}
"""Width and number of layers of a transformer with so many million parameters."""
WORDS, LENGTH = 256, 64


class Transformer(nn.Module):
    """Blocks of attention and a perceptron, on words."""

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(WORDS, width)
        block = nn.TransformerEncoderLayer(
            width, width // 16, 4 * width, dropout=0.0, batch_first=True
        )
        self.blocks = nn.TransformerEncoder(block, layers, enable_nested_tensor=False)
        self.head = nn.Linear(width, WORDS)

    def forward(self, words: Tensor) -> Tensor:
        return self.head(self.blocks(self.embed(words)))


def setting(million: int, batch: int) -> tuple[nn.Module, Callable[[], Tensor]]:
    torch.manual_seed(0)
    model = Transformer(*WIDTHS[million])
    words = torch.randint(WORDS, (batch, LENGTH))
    return model, lambda: F.cross_entropy(model(words).transpose(1, 2), words)


def timed(million: int, batch: int, repetitions: int) -> None:
    """Print the ratios; CPU seconds of one thread, so that other processes matter less."""
    model, loss = setting(million, batch)
    count = sum(p.numel() for p in model.parameters())
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    times: dict[str, list[float]] = {}

    def time_of(name: str, call: Callable[[], object]) -> None:
        start = time.process_time()
        call()
        times.setdefault(name, []).append(time.process_time() - start)

    def gradient() -> None:
        optimizer.zero_grad()
        loss().backward()

    for name, every in (("each", 1), ("one", 50)):
        monitor = AlignmentMonitor(optimizer, loss, every=every)

        handle = monitor.attach(optimizer)
        for _ in range(repetitions):
            monitor._meter.count = 0  # of 50 steps, only this one
            time_of("gradient", gradient)
            time_of("trait", lambda: torch.autograd.grad(loss(), list(model.parameters())))
            time_of(name, optimizer.step)
        handle.remove()
    for _ in range(repetitions):
        gradient()
        time_of("step", optimizer.step)
    t = {name: statistics.median(values[1:] or values) for name, values in times.items()}
    whole = t["gradient"] + t["step"]
    each, one = ((t[name] - t["step"]) / t["trait"] for name in ("each", "one"))
    print(
        f"{count / 1e6:6.1f} M: trait pass {t['trait']:.3f} s, training step {whole:.3f} s; a "
        f"measured step adds {each:.2f} x the trait pass with every=1, {one:.2f} x with every=50, "
        f"which adds {(t['one'] - t['step']) / (50 * whole):.2%} to training",
        flush=True,
    )


def peak(million: int, monitored: bool) -> int:
    """Return the peak of the bytes in tensors that three training steps allocate."""
    model, loss = setting(million, 1)
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    if monitored:
        AlignmentMonitor(optimizer, loss).attach(optimizer)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        for _ in range(3):
            loss().backward()
            optimizer.step()
            optimizer.zero_grad()
    held = most = 0
    for event in profiler.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return most


def memory(million: int) -> None:
    """Print the peak beyond training alone, in bytes of the parameters."""
    model, _ = setting(million, 1)
    size = sum(p.numel() * p.element_size() for p in model.parameters())
    alone, monitored = peak(million, False), peak(million, True)
    print(
        f"{size / 4e6:6.1f} M: extra memory {(monitored - alone) / size:.2f} x the parameters "
        f"(training alone {alone / size:.2f} x)",
        flush=True,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", type=int, default=list(WIDTHS))
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repetitions", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for million in options.sizes:
        memory(million)
        timed(million, options.batch, options.repetitions)
