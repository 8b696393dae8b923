"""Run the command line as a user would, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd

from sublim_causal.store.tables import read_table

TINY = (
    "--set", "distillation.examples=512",
    "--set", "distillation.epochs=2",
    "--set", "teacher.epochs=2",
    "--set", "probe.size=64",
    "--no-report",
)  # fmt: skip
"""Options that shrink the quickstart study to well under a second a seed."""


def environment() -> dict[str, str]:
    """The environment of a user's shell, without a terminal."""
    return {**os.environ, "COLUMNS": "120", "NO_COLOR": "1"}


def command(*arguments: str | Path) -> list[str]:
    """The command line as a list."""
    return [sys.executable, "-m", "sublim_causal.study", *map(str, arguments)]


def sublim(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        command(*arguments),
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )


def same_tables(one: Path, other: Path) -> None:
    """Assert that two runs have the same rows, value by value, except for times."""
    for table in ("steps", "evaluations", "replicates"):
        frames = [
            read_table(run, table)
            .drop(columns="seconds", errors="ignore")
            .sort_values(["arm", "seed", *(["step"] if table != "replicates" else [])])
            .reset_index(drop=True)
            for run in (one, other)
        ]
        pd.testing.assert_frame_equal(*frames, check_exact=True)
