"""The page of a report: its order, links and numbers, and what is not in it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import product
from pathlib import Path

import pandas as pd
import pytest

from sublim_causal.analysis.simulation.tables import ArmTruth
from sublim_causal.errors import HIDDEN
from sublim_causal.report.answer.brief import brief
from sublim_causal.report.sections import BODY
from tests.report.conftest import answer_of, make_run, material_of, section_of

pytestmark = pytest.mark.end_to_end

ANCHORS = (
    "answer",
    "study",
    "alignment",
    "acquisition",
    "mixed",
    "ledger",
    "mediation",
    "control",
    "methods",
)


def test_sections_stand_in_order(page: Path) -> None:
    assert tuple(re.findall(r'<section id="(\w+)"', page.read_text())) == ANCHORS


def test_every_link_has_its_target(page: Path) -> None:
    text = page.read_text()
    links = set(re.findall(r'(?:xlink:)?href="#([^"]+)"', text))
    assert links
    assert links <= set(re.findall(r'\bid="([^"]+)"', text))


def test_no_id_occurs_twice(page: Path) -> None:
    found = re.findall(r'\bid="([^"]+)"', page.read_text())
    assert len(found) == len(set(found))


def assert_nothing_is_nan_or_empty(page: str) -> None:
    text = re.sub(r"<(svg|head).*?</\1>", "", page, flags=re.DOTALL)
    assert not re.search(r"\b(nan|NaN|None|NaT|inf)\b", text)
    assert not re.search(r"<tbody>\s*</tbody>|<p>\s*</p>|<figcaption>\s*</", text)


def test_nothing_is_nan_or_empty(page: Path) -> None:
    assert_nothing_is_nan_or_empty(page.read_text())


def test_nothing_is_fetched(page: Path) -> None:
    text = re.sub(r'xmlns(:\w+)?="[^"]*"|<!DOCTYPE[^>]*>', "", page.read_text())
    assert not re.search(r'(?:src|href|url\()\s*=?\s*["\'(]?\s*(?:https?:)?//', text)


def test_two_seeds_are_too_few_and_say_so(tmp_path: Path) -> None:
    material = material_of(make_run(tmp_path / "run", n_seeds=2))
    sections = {anchor: section_of(material, anchor) for anchor in BODY}
    for text in sections.values():
        assert_nothing_is_nan_or_empty(text)
    assert "a mixed model needs at least 3" in sections["mixed"]
    assert "too few seeds" in sections["study"]


def test_names_are_shown_and_not_run(evil_page: Path) -> None:
    text = evil_page.read_text()
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert r"\_" in (evil_page.parent / "tables" / "contrasts.tex").read_text()


CLUMSY = (
    r"\b1 (percentage )?points\b|\b1 (seeds|arms|steps|replicates|conditions|estimates)\b"
    r"|\ban arm a panel\b|\ba seed a row\b|\[[−-]?(inf|∞)|(inf|∞)\]|\bof of\b|\bthe the\b"
    r"|\(\)| ,|\.\."
)


ODD = ("one arm", "no effect", "nothing acquired", "one diverged")
QUICKLY = {("one arm", 2), ("no effect", 1), ("nothing acquired", 3), ("one diverged", 3)}


@pytest.mark.parametrize(
    ("odd", "n_seeds"),
    [
        pytest.param(*case, marks=[] if case in QUICKLY else pytest.mark.slow)
        for case in product(ODD, (1, 2, 3, 5))
    ],
)
def test_no_wording_is_clumsy(n_seeds: int, odd: str, tmp_path: Path) -> None:
    def spoil(tables: Mapping[str, pd.DataFrame]) -> None:
        rows = tables["replicates"]
        if odd == "nothing acquired":
            rows["final_accuracy"] = rows["initial_accuracy"] + 0.001 * (rows["seed"] - 1)
        elif odd == "one diverged" and n_seeds > 1:
            last = rows["seed"] == rows["seed"].max()
            rows.loc[last, ["status", "reason"]] = ["diverged", "the loss became infinite"]

    arms = {"baseline": ArmTruth()}
    if odd != "one arm":
        arms |= {"projection": ArmTruth(accuracy=-0.01), "shuffled": ArmTruth()}
    run = make_run(tmp_path / "run", n_seeds=n_seeds, n_steps=20, arms=arms, spoil=spoil)
    material = material_of(run)
    sections = [section_of(material, anchor) for anchor in BODY]
    text = re.sub(r"<style.*?</style>|<pre>.*?</pre>", "", " ".join(sections), flags=re.DOTALL)
    text = f"{brief(material)} {answer_of(material)} {re.sub('<[^>]*>', ' ', text)}"
    assert not [text[m.start() - 40 : m.end() + 20] for m in re.finditer(CLUMSY, text)]


def test_figures_and_tables_are_numbered_with_links_to_their_files(page: Path) -> None:
    text = page.read_text()
    for kind, folder in (("Figure", "figures"), ("Table", "tables")):
        numbers = [int(n) for n in re.findall(rf"(?:<b>|<summary>){kind} (\d+)\.", text)]
        assert numbers == [*range(1, len(numbers) + 1)]
        links = re.findall(rf'<a href="({folder}/[^"]+)">', text)
        assert len(links) == 2 * len(numbers) > 4
        assert all((page.parent / link).is_file() for link in links)


def test_names_of_arms_are_set_apart(page: Path) -> None:
    text = page.read_text()
    assert '<code class="name">projection</code> ' in text
    assert "\ue000" not in text
    assert r"\texttt{projection}" in (page.parent / "tables" / "contrasts.tex").read_text()
    assert "\ue000" not in (page.parent / "tables" / "study.csv").read_text()


def test_hidden_characters_of_names_are_spelt_out(evil_page: Path) -> None:
    for path in (evil_page, evil_page.parent / "figures" / "final_accuracy.svg"):
        assert not HIDDEN.search(path.read_text())
        assert r"wiped\u202egpj" in path.read_text()
