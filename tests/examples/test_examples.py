"""The example scripts run as they stand, from another directory."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
TRAINERS = ("lightning_trainer", "trainer")
"""Examples whose `main` the tests of the integrations call."""
EXAMPLES = [
    pytest.param(script, marks=[pytest.mark.slow] if script.stem in TRAINERS else [])
    for script in sorted((CHECKOUT / "examples").glob("*.py"))
]


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda script: script.stem)
def test_it_runs(
    script: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(script), "out"])
    runpy.run_path(str(script), run_name="__main__")
    assert "cos_update" in capsys.readouterr().out
    written = "manifest.json" if script.stem == "own_run" else "alignment.csv"
    assert len(list(tmp_path.rglob(written))) == 1
