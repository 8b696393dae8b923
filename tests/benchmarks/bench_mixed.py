"""Time the mixed model against statsmodels, streamed from Parquet, and under the bootstrap.

Run it alone: ``python tests/benchmarks/bench_mixed.py``. Seconds depend on the machine; the ratio
and whether a line meets its goal are what counts.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from sublim_causal.analysis import fit_mixed

ARMS = np.array(["baseline", "liminal", "projection", "shuffled"])
FORMULA = "gain ~ arm + alignment + (1 + alignment | seed) + (1 | seed:arm)"
STEPS = 245


def simulate(n_seeds: int) -> pd.DataFrame:
    """Steps of the study's shape: random slopes, arm-in-seed effects, unit-free noise."""
    rng = np.random.default_rng(1)
    shape = (n_seeds, len(ARMS), STEPS)
    slope = 0.8 + 0.35 * rng.standard_normal((n_seeds, 1, 1))
    alignment = 0.08 + 0.03 * rng.standard_normal((n_seeds, 1, 1))
    alignment = alignment + 0.05 * rng.standard_normal(shape)
    gain = 0.02 * rng.standard_normal((n_seeds, 1, 1)) + slope * alignment
    gain += 0.01 * rng.standard_normal((*shape[:2], 1)) + 0.05 * rng.standard_normal(shape)
    seed, arm, step = np.indices(shape).reshape(3, -1)
    return pd.DataFrame(
        {
            "seed": seed.astype(np.int32),
            "arm": ARMS[arm],
            "step": step.astype(np.int32),
            "alignment": alignment.ravel(),
            "gain": gain.ravel(),
        }
    )


def best_of(function: Callable[[], object], repeats: int) -> float:
    """Shortest of `repeats` timings, in seconds."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def report(what: str, seconds: float, goal: str, met: bool) -> None:
    """Print one line."""
    print(f"{what:58s} {seconds:8.3f} s   goal {goal:12s} {'met' if met else 'MISSED'}", flush=True)


def against_statsmodels(n_seeds: int) -> None:
    """Fit and pass together against MixedLM on its better-conditioned scale."""
    import statsmodels.formula.api as smf

    data = simulate(n_seeds)
    scaled = data.assign(x=(data["alignment"] - data["alignment"].mean()) * 20)

    def theirs() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            smf.mixedlm(
                "gain ~ arm + x",
                scaled,
                groups="seed",
                re_formula="1 + x",
                vc_formula={"arm": "0 + C(arm)"},
            ).fit(reml=True, method="lbfgs")

    ours = best_of(lambda: fit_mixed(data, FORMULA), 5)
    other = best_of(theirs, 1)
    ratio = other / ours
    print(f"statsmodels MixedLM, {n_seeds} seeds: {other:.2f} s; ratio {ratio:.0f}")
    report(f"fit_mixed, {n_seeds} seeds, fit and pass", ours, ">= 100 x", ratio >= 100)


def bootstraps(n_seeds: int) -> None:
    """1,000 replicates with the variance parameters kept."""
    fit = fit_mixed(simulate(n_seeds), FORMULA)
    kept = best_of(lambda: fit.bootstrap("alignment", n_boot=1000), 3)
    report(f"1,000 replicates, {n_seeds} seeds", kept, "< 0.1 s", kept < 0.1)


def write(folder: Path, data: pd.DataFrame, seeds_a_file: int) -> None:
    """Write `data` as a dataset partitioned by arm, `seeds_a_file` seeds to a file."""
    for arm, part in data.groupby("arm"):
        (folder / f"arm={arm}").mkdir(parents=True)
        table = pa.Table.from_pandas(part.drop(columns="arm"), preserve_index=False)
        size = seeds_a_file * STEPS
        for i in range(0, table.num_rows, size):
            pq.write_table(table.slice(i, size), folder / f"arm={arm}" / f"{i // STEPS}.parquet")


def stream(folder: str) -> None:
    """Fit from Parquet in a process of its own, so that its peak memory is its own."""
    start = time.perf_counter()
    fit = fit_mixed(ds.dataset(folder, format="parquet", partitioning="hive"), FORMULA)
    seconds = time.perf_counter() - start
    # Unlike getrusage's, this peak starts anew in a new program.
    status = Path("/proc/self/status").read_text()
    gigabytes = int(status.split("VmHWM:")[1].split()[0]) / 2**20
    report(f"  {fit.n_obs} rows", seconds, "< 3 s", seconds < 3)
    print(f"  peak memory {gigabytes:.2f} GB, goal < 1 GB", flush=True)


def streamed(n_seeds: int) -> None:
    """Stream blocks of 50 seeds, then one file for each seed and arm."""
    data = simulate(n_seeds)
    for seeds_a_file in (50, 1):
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder), data, seeds_a_file)
            print(f"{n_seeds} seeds from Parquet, {seeds_a_file} seeds a file", flush=True)
            subprocess.run([sys.executable, __file__, folder], check=True)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        stream(sys.argv[1])
    else:
        fit_mixed(simulate(10), FORMULA)
        against_statsmodels(300)
        bootstraps(30)
        bootstraps(300)
        streamed(3000)
