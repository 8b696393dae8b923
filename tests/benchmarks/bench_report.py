"""Time and memory of a report: ``python tests/benchmarks/bench_report.py [SEEDS ...]``.

Simulates studies of 4 arms x 245 steps and reports on each in a process of its own.
"""

from __future__ import annotations

import multiprocessing
import resource
import sys
import tempfile
import time
from pathlib import Path

from sublim_causal.analysis.simulation.tables import Truth, simulate, write_run
from sublim_causal.report import write_report

MEGABYTE = 1e6
KILOBYTES = 1 if sys.platform == "darwin" else 1024
"""Bytes of one unit of ``ru_maxrss``."""


def simulate_run(run: str, seeds: int) -> None:
    """Write a simulated run."""
    write_run(Path(run), simulate(Truth(n_seeds=seeds), rng=1))


def measure(run: str, seeds: int) -> None:
    """Write the report of `run`, and print seconds, memory and size."""
    start = time.perf_counter()
    page = write_report(run)
    seconds = time.perf_counter() - start
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KILOBYTES / MEGABYTE
    size = page.stat().st_size / MEGABYTE
    print(f"{seeds:5d} seeds: {seconds:5.1f} s, peak {memory:5.0f} MB, page {size:.1f} MB")


def main() -> None:
    """Measure each number of seeds given; default: 30 and 1,000."""
    context = multiprocessing.get_context("spawn")
    for seeds in map(int, sys.argv[1:] or ["30", "1000"]):
        with tempfile.TemporaryDirectory() as folder:
            for step in (simulate_run, measure):
                process = context.Process(target=step, args=(str(Path(folder) / "run"), seeds))
                process.start()
                process.join()


if __name__ == "__main__":
    main()
