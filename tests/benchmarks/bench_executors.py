"""Compare the executors: ``python tests/benchmarks/bench_executors.py [--seeds N] [--rounds N]``.

Runs the same study on two workers of one core each, by the local executor and on a Ray cluster of
two nodes, in alternation, and compares throughput: blocks an hour between the first block's end and
the last's, so without starting, and the wall time of the whole command. Goal: Ray's throughput is
at least 0.9 times the local executor's.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WORKERS = 2


@dataclass(frozen=True)
class Timing:
    """One run: seconds of the whole command, and blocks a second once workers are warm."""

    seconds: float
    throughput: float


def timed(cwd: Path, name: str, seeds: int, options: tuple[str, ...]) -> Timing:
    """Run the study and read from its files when the blocks were finished."""
    command = [sys.executable, "-m", "sublim_causal.study", "run", "--seeds", str(seeds)]
    command += ["--workers", str(WORKERS), "--no-report", "--tracking-uri", "none", "--out", name]
    start = time.perf_counter()
    subprocess.run([*command, *options], cwd=cwd, check=True, capture_output=True)
    seconds = time.perf_counter() - start
    files = (cwd / name / "replicates").glob("arm=shuffled/*.parquet")
    ends = sorted(path.stat().st_mtime for path in files)
    # From the last of the first blocks to the last of all, every worker is busy.
    return Timing(seconds, (len(ends) - WORKERS) / (ends[-1] - ends[WORKERS - 1]))


def two_nodes() -> Any:
    """Start a cluster of two nodes of one core each."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
    )
    cluster.add_node(num_cpus=1)
    return cluster


def main(seeds: int, rounds: int) -> None:
    """Print the ratios."""
    cluster = two_nodes()
    executors = {"local": (), "ray": ("--executor", "ray", "--address", cluster.address)}
    timings: dict[str, list[Timing]] = {name: [] for name in executors}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(rounds):
            for name, options in executors.items():
                timing = timed(Path(folder), f"{name}{turn}", seeds, options)
                timings[name].append(timing)
                rate = 3600 * timing.throughput
                print(
                    f"{name:5s} {timing.seconds:6.1f} s in all, {rate:5.0f} blocks an hour",
                    flush=True,
                )
    cluster.shutdown()
    ratios = [r.throughput / o.throughput for o, r in zip(*timings.values(), strict=True)]
    whole = [o.seconds / r.seconds for o, r in zip(*timings.values(), strict=True)]
    ratio = statistics.median(ratios)
    print(
        f"throughput, ray / local: {ratio:.2f} (median of {', '.join(f'{r:.2f}' for r in ratios)})"
    )
    print(f"whole command, local / ray: {statistics.median(whole):.2f}")
    print(f"goal >= 0.9: {'met' if ratio >= 0.9 else 'MISSED'}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    main(options.seeds, options.rounds)
