"""Captions of the tables of alignment."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from sublim_causal.analysis.plan.file import parse_plan
from sublim_causal.report.material import read_material
from tests.report.conftest import section_of


def summary(name: str, window: str) -> dict[str, str]:
    """Declare the mean alignment of the baseline over a window."""
    return {
        "name": name,
        "sentence": "Mean alignment of the update in the baseline arm.",
        "method": "seed_summary",
        "arm": "baseline",
        "outcome": "cos_update",
        "summary": "mean",
        "window": window,
    }


@pytest.mark.parametrize(
    ("windows", "said"),
    [
        (["late"], "cos_update, late, with 95 % intervals."),
        (["all"], "cos_update, whole run, with 95 % intervals."),
        (["early", "late"], "cos_update, early against late, with 95 % intervals."),
        (["early - late"], "cos_update, early against late, with 95 % intervals."),
    ],
)
def test_a_caption_names_the_windows_that_its_table_has(
    windows: Sequence[str], said: str, demo: Path
) -> None:
    estimands = [summary(f"mean_{i}", window) for i, window in enumerate(windows)]
    plan = parse_plan({"name": "mine", "n_boot": 199, "estimand": estimands})
    assert said in section_of(read_material(demo, plan), "alignment")
