"""Captions of the tables of acquisition."""

from __future__ import annotations

from pathlib import Path

import pytest

from sublim_causal.analysis.plan.file import parse_plan
from sublim_causal.report.material import read_material
from tests.report.conftest import section_of


@pytest.mark.parametrize("family", ["", "arms"])
def test_a_caption_speaks_of_adjusted_p_where_there_are_some(family: str, demo: Path) -> None:
    contrast = {
        "name": "effect",
        "sentence": "Effect of each arm on final accuracy.",
        "method": "paired_contrast",
        "outcome": "final_accuracy",
        "contrast": "each - baseline",
        "family": family,
    }
    plan = parse_plan(
        {"name": "mine", "n_boot": 199, "families": {"arms": "holm"}, "estimand": [contrast]}
    )
    text = section_of(read_material(demo, plan), "acquisition")
    assert ("p adjusted for" in text) == bool(family)
    assert (">p adjusted<" in text) == bool(family)
