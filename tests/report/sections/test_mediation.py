"""Doses, yoked runs and exact nulls."""

from __future__ import annotations

from pathlib import Path

from sublim_causal.analysis.simulation.tables import ArmTruth
from sublim_causal.report.material import Material
from sublim_causal.report.sections import BODY
from tests.report.conftest import ARMS, answer_of, change_manifest, make_run, material_of


def test_doses_get_their_curves(tmp_path: Path) -> None:
    strengths = {"none": 0.0, "half": 0.5, "whole": 1.0, "double": 2.0}
    arms = {
        name: ArmTruth(alignment=-0.05 * dose, accuracy=-0.15 * dose)
        for name, dose in strengths.items()
    }
    run = make_run(tmp_path / "run", n_seeds=10, arms=arms)
    study = {
        name: {"intervention": "projection", "strength": dose, "space": "update"}
        for name, dose in strengths.items()
    }
    change_manifest(run, study={"name": "doses", "arms": study})
    material = material_of(run)
    names = {getattr(block, "name", "") for block in BODY["mediation"](material).blocks}
    assert {"dose_update", "wald_update"} <= names
    slope = material.analysis.added["dose_slope_update"]
    # The truth: accuracy falls by 0.15 a unit of strength; four standard errors.
    assert abs(slope.value + 0.15) < 4 * slope.se  # type: ignore[union-attr]


def test_yoked_runs_are_split(tmp_path: Path) -> None:
    arms = {**ARMS, "clamped": ArmTruth(accuracy=-0.05)}
    run = make_run(tmp_path / "run", n_seeds=10, arms=arms)
    yoked = {
        "intervention": "yoked",
        "target": "baseline",
        "procedure": {"intervention": "projection"},
    }
    study = {name: {"intervention": name} for name in ARMS} | {"clamped": yoked}
    strength = {"0.strength": 1.0}
    resolved = {"projection": strength, "clamped": {**strength, "1.target": "baseline"}}
    change_manifest(run, study={"name": "yoked", "arms": study}, arms=resolved)
    material = material_of(run)
    assert "of the effect of projection, a share of" in answer_of(material)
    (world,) = material.cross_worlds
    # The truth: the procedure at the baseline's alignment lowers accuracy by 0.05.
    assert abs(world["pnde"].value + 0.05) < 4 * world["pnde"].se  # type: ignore[operator, union-attr]


def test_the_exact_null_is_said_before_the_split_and_the_split_both_ways(
    causal_material: Material,
) -> None:
    assert causal_material.design.exact_nulls() == ("null",)
    answer = answer_of(causal_material)
    null = answer.index(
        "Exact null: with every update held orthogonal to the trait gradient (null)"
    )
    split = answer.index("By experiment (yoked runs): changing")
    assert null < split
    assert "under the other procedure; the two differ by" in answer[split:]
    assert "This assumes consistency" in answer[split:]


def test_a_yoked_run_splits_the_effect_of_its_own_procedure_alone(
    causal_material: Material,
) -> None:
    (world,) = causal_material.cross_worlds
    assert world["pnde"].estimand.contrast == "yoked - baseline"
    assert world["tnie"].estimand.contrast == "projection - yoked"
    assert world["pnie"].estimand.contrast == "reverse - baseline"
