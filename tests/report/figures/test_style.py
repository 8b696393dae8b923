"""What all figures share."""

from __future__ import annotations

import re
from pathlib import Path


def test_fonts_are_embedded_as_truetype_and_have_fallbacks(page: Path) -> None:
    pdf = (page.parent / "figures" / "final_accuracy.pdf").read_bytes()
    assert b"/CIDFontType2" in pdf
    assert b"/Type3" not in pdf
    svg = (page.parent / "figures" / "final_accuracy.svg").read_text()
    assert "'DejaVu Sans', Verdana, Arial, sans-serif" in svg


def test_axes_give_units_in_words(page: Path) -> None:
    assert not re.search(r">[^<>]* \(1\)</text>", page.read_text())
