"""Run the command line as a user would."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path
from unittest import mock

import pandas as pd
import torch

from sublim_causal.store.blocks import committed
from sublim_causal.store.tables import read_table
from sublim_causal.study.cli import main, run_command_line
from sublim_causal.study.executors.local import LocalExecutor

TINY = (
    "--set", "distillation.examples=512",
    "--set", "distillation.epochs=2",
    "--set", "teacher.epochs=2",
    "--set", "probe.size=64",
    "--block-size", "1",
    "--no-report",
)  # fmt: skip
"""Options that shrink the quickstart study to well under a second a seed, and write a file a seed.

Tables of runs in the same blocks are equal bit for bit; those in others are equal to rounding."""

PLAN = """
name = "one"
n_boot = 199
sentence = "Does projection stop the transfer?"
[[estimand]]
name = "effect"
sentence = "Final accuracy under projection minus baseline, by seed."
method = "paired_contrast"
outcome = "final_accuracy"
contrast = "projection - baseline"
"""
"""A plan of one quick contrast."""
TINY_TEXTS = (
    "--set", "task.base_steps=12",
    "--set", "task.base_batch_size=8",
    "--set", "model.options.blocks=1",
    "--set", "model.options.width=16",
    "--set", "model.options.heads=2",
    "--set", "teacher.epochs=1",
    "--set", "distillation.examples=32",
    "--set", "distillation.batch_size=8",
    "--set", "probe.size=8",
    "--set", "measure.texts=true",
    "--arms", "baseline,null,hard",
    "--seeds", "3",
    "--workers", "1",
    "--block-size", "1",
    "--tracking-uri", "none",
    "--no-report",
)  # fmt: skip
"""Options that shrink the study `numbers` to a fraction of a second a seed."""


def environment() -> dict[str, str]:
    """The environment of a user's shell, without a terminal."""
    return {**os.environ, "COLUMNS": "120", "NO_COLOR": "1"}


def command(*arguments: str | Path) -> list[str]:
    """The command line as a list."""
    return [sys.executable, "-m", "sublim_causal.study", *map(str, arguments)]


def sublim(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a command to its end in this process, which has imported everything already."""
    words = ["sublim-causal", *map(str, arguments)]
    stdout, stderr = io.StringIO(), io.StringIO()
    with (
        contextlib.chdir(cwd),
        mock.patch.object(sys, "argv", words),
        mock.patch.object(sys, "path", [*sys.path]),
        same_matrix_products(),
        contextlib.redirect_stdout(stdout),
        contextlib.redirect_stderr(stderr),
    ):
        code = run_command_line()
    return subprocess.CompletedProcess(words, code, stdout.getvalue(), stderr.getvalue())


def begin(*arguments: str | Path, cwd: Path, output: Path) -> BaseProcess:
    """Begin a command in a process of its own, which writes what it prints to `output`.

    The process is forked from one that has imported torch. It has neither the limits nor the
    process group of this one, nor what was added to the environment since the first fork.
    """
    LocalExecutor().warm_up()
    context = multiprocessing.get_context("forkserver")
    process = context.Process(target=_run_command, args=([*map(str, arguments)], cwd, output))
    process.start()
    return process


def _run_command(arguments: list[str], cwd: Path, output: Path) -> None:
    # Its workers are forked from the same process as itself.
    forkserver.ensure_running = forkserver._forkserver.ensure_running = lambda: None
    with output.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.stdout = sys.__stdout__ = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.__stderr__ = open(2, "w", closefd=False)  # noqa: SIM115
    os.chdir(cwd)
    os.environ.update(environment())
    sys.argv = ["sublim-causal", *arguments]
    main()


def wait_for_block(run: Path, process: BaseProcess) -> None:
    """Wait until the first block of `run`, which `process` writes, is there."""
    deadline = time.monotonic() + 120
    while not any(committed(run)):
        assert process.is_alive(), process.exitcode
        assert time.monotonic() < deadline
        time.sleep(0.02)


def start(cwd: Path, *options: str) -> subprocess.Popen[str]:
    """Start a quickstart in a session of its own, and wait until its first block is there."""
    process = subprocess.Popen(
        command("run", *options),
        cwd=cwd,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while not any(committed(cwd / "runs" / "quickstart")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return process


@contextlib.contextmanager
def same_matrix_products() -> Iterator[None]:
    """Leave torch multiplying as it did before."""
    before = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(before)


def same_tables(one: Path, other: Path, *, seeds: int | None = None, rounding: float = 0.0) -> None:
    """Assert that two runs have the same rows, value by value, except for times.

    With `seeds`, the other run has more, and its first so many are compared. With `rounding`,
    values may differ by that much.
    """
    keys = {"replicates": [], "texts": ["text"], "traits": ["trait"]}
    for table in ("steps", "evaluations", "replicates", "texts", "traits"):
        if not (one / table).exists() and not (other / table).exists():
            continue
        frames = [
            read_table(run, table)
            .drop(columns="seconds", errors="ignore")
            .sort_values(["arm", "seed", *keys.get(table, ["step"])])
            .reset_index(drop=True)
            for run in (one, other)
        ]
        if seeds is not None:
            frames[1] = frames[1][frames[1]["seed"] < seeds].reset_index(drop=True)
        tolerance = {"rtol": rounding, "atol": rounding} if rounding else {"check_exact": True}
        pd.testing.assert_frame_equal(*frames, **tolerance)
