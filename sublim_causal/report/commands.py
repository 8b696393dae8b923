"""Command lines that a page offers: quoted, so that they can be copied into a shell."""

from __future__ import annotations

import shlex
from pathlib import Path


def run_command(run: Path, *options: str, ending: str = "") -> str:
    """Return the command that completes `run`; with `ending`, one that makes another beside it."""
    study = str(run / "study.toml")
    return shlex.join(["sublim-causal", "run", study, *options, "--out", f"{run}{ending}"])


def aligned_command(run: Path) -> str:
    """Return the command that runs the study of `run` again with its alignment measured."""
    return run_command(run, "--set", "measure.alignment=true", ending="-aligned")


def study_command(study: str, beside: Path) -> str:
    """Return the command that runs a built-in study, `beside` another run."""
    return shlex.join(["sublim-causal", "run", study, "--out", str(beside.parent / study)])


def report_command(run: Path, plan: str = "primary") -> str:
    """Return the command that reports `run` by `plan`."""
    return shlex.join(["sublim-causal", "report", str(run), "--plan", plan])
