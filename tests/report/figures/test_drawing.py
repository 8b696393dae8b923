"""SVG and PDF of figures."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
from matplotlib.backends import _backend_pdf_ps
from matplotlib.figure import Figure

from sublim_causal.report.elements import Picture
from sublim_causal.report.figures.drawing import drawings, pdf, shared_fonts
from sublim_causal.report.figures.style import new_figure


def test_fonts_are_embedded_as_truetype_and_have_fallbacks(page: Path) -> None:
    pdf = (page.parent / "figures" / "final_accuracy.pdf").read_bytes()
    assert b"/CIDFontType2" in pdf
    assert b"/Type3" not in pdf
    svg = (page.parent / "figures" / "final_accuracy.svg").read_text()
    assert "'DejaVu Sans', Verdana, Arial, sans-serif" in svg


def test_axes_give_units_in_words(page: Path) -> None:
    assert not re.search(r">[^<>]* \(1\)</text>", page.read_text())


def test_figures_share_a_font_that_is_read_again_for_new_letters_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    choose, read = _backend_pdf_ps.get_glyphs_subset, []

    def counted(file: Any, glyphs: set[int]) -> Any:
        read.append(len(glyphs))
        return choose(file, glyphs)

    monkeypatch.setattr(_backend_pdf_ps, "get_glyphs_subset", counted)
    with shared_fonts():
        sizes = [len(pdf(written(text))) for text in ("one", "another", "\u03b1", "\u03b1 and one")]
    assert len(read) == 2
    assert read[1] == read[0] + 1
    assert min(sizes) > 5_000
    assert _backend_pdf_ps.get_glyphs_subset is counted


@pytest.mark.parametrize("texts", [(), ("one",), ("one", "two", "three")])
def test_two_processes_draw_what_one_draws(
    texts: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    together = drawings(pictures(*texts))
    monkeypatch.setattr(sys, "platform", "another")
    assert drawings(pictures(*texts)) == together
    assert sorted(together) == sorted(texts)


def test_what_fails_in_the_second_process_is_raised_here(monkeypatch: pytest.MonkeyPatch) -> None:
    given = pictures("one", "two")

    def fail() -> None:
        raise ValueError("not to be drawn")

    monkeypatch.setattr(given[1].figure, "draw", lambda renderer: fail())
    with pytest.raises(ValueError, match="not to be drawn"):
        drawings(given)


def pictures(*texts: str) -> list[Picture]:
    """Return a picture of each text."""
    return [Picture(text, "", written(text)) for text in texts]


def written(text: str) -> Figure:
    """Return a figure of a text."""
    figure = new_figure()
    figure.text(0.5, 0.5, text)
    return figure
