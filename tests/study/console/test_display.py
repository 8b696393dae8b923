from __future__ import annotations

import io
import time

import pandas as pd
import pytest
from rich.console import Console

from sublim_causal.study.console import display
from sublim_causal.study.console.display import Display


def rows(**accuracies: float) -> pd.DataFrame:
    """Return one replicate an arm."""
    return pd.DataFrame({"arm": accuracies.keys(), "final_accuracy": accuracies.values()})


def shown(terminal: bool = False) -> Display:
    """Return the display of a study of 100 steps and 8 replicates."""
    return Display(
        Console(file=io.StringIO(), force_terminal=terminal, width=120), 100, 8, "final_accuracy"
    )


def test_means_are_of_the_replicates_that_did_not_diverge() -> None:
    one = shown()
    assert one.text() == "0/8 replicates"
    one.add(rows(baseline=0.5, projection=0.1))
    one.add(rows(baseline=0.4, projection=float("nan")))
    assert one.text() == "4/8 replicates | baseline 0.45, projection 0.10"


def test_lines_show_progress_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.monotonic()
    one = shown()
    with one.show():
        monkeypatch.setattr(display.time, "monotonic", lambda: now + 20)
        one.advance(10)
        assert one.console.file.getvalue() == ""  # type: ignore[attr-defined]
        monkeypatch.setattr(display.time, "monotonic", lambda: now + 40)
        one.advance(10)
    assert one.console.file.getvalue().startswith("20 %, about 16")  # type: ignore[attr-defined]


def test_a_terminal_shows_a_bar_that_may_go_back() -> None:
    one = shown(terminal=True)
    with one.show():
        one.advance(50)
        one.advance(-25)
        one.add(rows(baseline=0.5))
    text = one.console.file.getvalue()  # type: ignore[attr-defined]
    assert " 25 %" in text
    assert "baseline 0.50" in text
