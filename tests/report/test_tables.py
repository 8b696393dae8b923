"""Tables of a report as CSV and LaTeX."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest

from sublim_causal.analysis.estimates.types import Estimand, NotEstimable
from sublim_causal.analysis.plan.run import analyse
from sublim_causal.report.elements import Table
from sublim_causal.report.tables import estimates_table, latex
from tests.report.conftest import QUICK


def test_csv_has_full_precision(demo: Path, page: Path) -> None:
    contrasts = pd.read_csv(page.parent / "tables" / "contrasts.csv").set_index("name")
    expected = analyse(demo, QUICK)["final_accuracy_projection"]
    assert contrasts.loc["final_accuracy_projection", "estimate"] == pytest.approx(
        expected.value,  # type: ignore[union-attr]
        rel=1e-15,  # what a decimal text of a double keeps
    )


def test_tables_of_means_hold_intervals_and_methods(page: Path) -> None:
    arms = pd.read_csv(page.parent / "tables" / "arms.csv")
    assert {"arm", "complete", "estimate", "conf_low", "conf_high", "method"} <= {*arms}
    assert arms["conf_low"].notna().all()


def test_latex_tables_are_as_wide_as_the_text(page: Path) -> None:
    for path in (page.parent / "tables").glob("*.tex"):
        shares = [float(x) for x in re.findall(r"\\dimexpr ([\d.]+)\\linewidth", path.read_text())]
        assert sum(shares) == pytest.approx(1, abs=1e-3), path.name
        assert path.read_text().count(r"\begin{longtable}") == 1
    noted = (page.parent / "tables" / "results.tex").read_text()
    assert r"\noindent a: " in noted


def test_every_note_has_a_letter_of_its_own() -> None:
    asked = Estimand("effect", "An effect.", "final_accuracy", "a - b")
    table = estimates_table("t", "caption", [NotEstimable(asked, f"why {i}") for i in range(60)])
    letters = table.shown["notes"].tolist()
    assert letters[:2] == ["a", "b"]
    assert letters[26] == "aa"
    assert letters[52] == "aaa"
    assert len(set(letters)) == len(table.notes) == 60


def test_latex_is_escaped() -> None:
    frame = pd.DataFrame({"a_b": [r"50 % \x & $y$ −1"]})
    text = latex(Table("t", "caption", frame, frame))
    assert r"a\_\allowbreak{}b" in text
    assert r"50 \% \textbackslash{}x \& \$y\$ $-$1" in text
