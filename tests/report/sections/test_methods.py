"""The rules of wording and the formulas that a report tells."""

from __future__ import annotations

from pathlib import Path

from sublim_causal.analysis.plan.registry import METHODS
from sublim_causal.analysis.simulation.tables import ArmTruth
from sublim_causal.report.formulas import FORMULAS, SHARED
from sublim_causal.report.material import Material
from sublim_causal.study.spec.reading import load_study
from tests.report.conftest import (
    declare,
    make_run,
    material_of,
    section_of,
)


def test_every_method_of_a_plan_has_its_formula() -> None:
    assert {SHARED.get(name, name) for name in METHODS} == FORMULAS.keys()


def test_formulas_are_those_of_what_is_shown(demo_material: Material, tmp_path: Path) -> None:
    assert "Sargan" not in section_of(demo_material, "methods")
    study = load_study("causal")
    run = make_run(tmp_path / "run", n_seeds=3, arms=dict.fromkeys(study.arms, ArmTruth()))
    declare(run, study)
    text = section_of(material_of(run), "methods")
    assert all(word in text for word in ("Sargan", "Page&#39;s L", "PNDE = mean_s"))


def test_the_rules_of_wording_are_told(demo_material: Material) -> None:
    assert "lies above 90 %" in section_of(demo_material, "methods")
