"""Time until commands answer or begin: ``python tests/benchmarks/bench_start.py [REPEATS]``.

Medians of wall and processor seconds of whole commands, each a process of its own, with two seeds
of ``quickstart`` and 30 simulated ones as the runs that are read. ``paper`` needs MNIST in
``SUBLIM_DATA``.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from sublim_causal.analysis.simulation.tables import Truth, simulate, write_run

COMMAND = "from sublim_causal.study.cli import main; main()"
FIRST_STEP = f"""
import os
from sublim_causal.study.console.display import Display
Display.advance = lambda self, steps: os._exit(0)
{COMMAND}
"""
"""Ends with the first optimizer step that a worker reports."""
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
"""Lets Python keep the bytecode of this package, as it is where the package is installed."""


def seconds(code: str, arguments: Sequence[str]) -> tuple[float, float]:
    """Return wall and processor seconds of a command, those of its workers included."""

    def processor() -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    before, start = processor(), time.perf_counter()
    command = [sys.executable, "-c", code, *arguments]
    subprocess.run(command, check=True, capture_output=True, env=ENVIRONMENT)
    return time.perf_counter() - start, processor() - before


def main() -> None:
    """Measure all commands in turn, so that a busy moment does not fall on one of them alone."""
    repeats = int((sys.argv[1:] or ["5"])[0])
    with tempfile.TemporaryDirectory() as folder:
        two, thirty, out = (str(Path(folder) / name) for name in ("two", "thirty", "out"))
        quick = ["run", "quickstart", "--seeds", "2", "--out", two, "--no-report"]
        seconds(COMMAND, [*quick, "--tracking-uri", "none"])
        write_run(Path(thirty), simulate(Truth(n_seeds=30), rng=1))
        studies = ["quickstart", "numbers", *(["paper"] if "SUBLIM_DATA" in os.environ else [])]
        commands = {
            "`--help`": (COMMAND, ["--help"]),
            "`studies`": (COMMAND, ["studies"]),
            "`status`": (COMMAND, ["status", two]),
            "`analyse`, 2 seeds x 4 arms": (COMMAND, ["analyse", two, "--out", f"{out}.json"]),
            "`report`, 2 seeds x 4 arms": (COMMAND, ["report", two, "--out", out]),
            "`report`, 30 seeds x 4 arms": (COMMAND, ["report", thirty, "--out", out]),
        }
        for name in studies:
            commands[f"`run {name} --dry-run`"] = (COMMAND, ["run", name, "--dry-run"])
        measured: dict[str, list[tuple[float, float]]] = {}
        for number in range(repeats):
            for name, (code, arguments) in commands.items():
                measured.setdefault(name, []).append(seconds(code, arguments))
            for name in studies:
                run = ["run", name, "--out", f"{folder}/{name}{number}", "--tracking-uri", "none"]
                key = f"`run {name}`, first optimizer step"
                measured.setdefault(key, []).append(seconds(FIRST_STEP, run))
    print("| command | wall | processor |\n|---|---|---|")
    for name, times in measured.items():
        wall, processor = (statistics.median(one) for one in zip(*times, strict=True))
        print(f"| {name} | {wall:.2f} | {processor:.2f} |")


if __name__ == "__main__":
    main()
