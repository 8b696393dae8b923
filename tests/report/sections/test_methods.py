"""The rules of wording and the formulas that a report tells."""

from __future__ import annotations

from sublim_causal.analysis.plan.registry import METHODS
from sublim_causal.report.formulas import FORMULAS, SHARED
from sublim_causal.report.material import Material
from tests.report.conftest import section_of


def test_every_method_of_a_plan_has_its_formula() -> None:
    assert {SHARED.get(name, name) for name in METHODS} == FORMULAS.keys()


def test_formulas_are_those_of_what_is_shown(
    demo_material: Material, causal_material: Material
) -> None:
    assert "Sargan" not in section_of(demo_material, "methods")
    text = section_of(causal_material, "methods")
    assert all(word in text for word in ("Sargan", "Page&#39;s L", "PNDE = mean_s"))


def test_the_rules_of_wording_are_told(demo_material: Material) -> None:
    assert "lies above 90 %" in section_of(demo_material, "methods")
