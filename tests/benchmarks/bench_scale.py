"""Time and peak memory of commands on a large run, one file a replicate and compacted.

``python tests/benchmarks/bench_scale.py [SEEDS]`` simulates SEEDS (default: 5,000) x 4 arms x 245
steps with one block a seed, and runs every command in a process of its own. The files lie where
``TMPDIR`` says.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from sublim_causal.analysis.simulation.tables import Truth, simulate, write_run
from sublim_causal.store.compact import size

KILOBYTES = 1 if sys.platform == "darwin" else 1024
"""Bytes of one unit of ``ru_maxrss``."""


class Measured(NamedTuple):
    """Wall-clock and processor seconds, and the peak memory of the largest process in bytes."""

    seconds: float
    processor: float
    memory: int


def write_simulated(run: str, seeds: int) -> None:
    """Write a simulated run with one block a seed."""
    write_run(Path(run), simulate(Truth(n_seeds=seeds), rng=1), block_seeds=1)


def measure(command: str, run: Path, *options: str) -> Measured:
    """Run a command of the package to its end."""
    words = [sys.executable, "-m", "sublim_causal.study", command, str(run), *options]
    start = time.perf_counter()
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(words)} ended with {process.returncode}")
    processor = usage.ru_utime + usage.ru_stime
    return Measured(time.perf_counter() - start, processor, usage.ru_maxrss * KILOBYTES)


def show(name: str, measured: Measured, run: Path) -> None:
    """Print a line of the table."""
    files = size(run)
    print(
        f"{name:10s} {measured.seconds:8.1f} s {measured.processor:8.1f} s of processors "
        f"{measured.memory / 1e6:8,.0f} MB   "
        f"{files.files:6,d} files, {files.bytes / 1e6:,.0f} MB",
        flush=True,
    )


def measure_all(run: Path, store: str) -> None:
    """Measure the commands that read `run`; `sync` makes the mirror `store` of study and arms."""
    for command in ("status", "analyse", "report"):
        show(command, measure(command, run), run)
    options = ("--tracking-uri", store, "--no-mirror-replicates")
    show("sync", measure("sync", run, *options), run)


def main() -> None:
    """Simulate and measure."""
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 5000
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        context = multiprocessing.get_context("spawn")
        writer = context.Process(target=write_simulated, args=(str(run), seeds))
        writer.start()
        writer.join()
        measure_all(run, f"sqlite:///{folder}/mirrors/before.db")
        show("compact", measure("compact", run), run)
        measure_all(run, f"sqlite:///{folder}/mirrors/after.db")


if __name__ == "__main__":
    main()
