"""The reference of a run, and the results that a section asks for."""

from __future__ import annotations

import re
from pathlib import Path

from sublim_causal.analysis.estimates.types import Estimate, NotEstimable
from sublim_causal.analysis.plan.file import parse_plan
from sublim_causal.analysis.simulation.tables import ArmTruth
from sublim_causal.report.material import read_material
from tests.report.conftest import answer_of, change_manifest, make_run, material_of


def test_a_study_without_baseline_is_held_against_what_the_plan_subtracts(tmp_path: Path) -> None:
    arms = {"removed": ArmTruth(alignment=-0.1, accuracy=-0.35), "plain": ArmTruth()}
    run = make_run(tmp_path / "run", arms=arms)
    contrast = {
        "name": "effect",
        "sentence": "Effect of removing alignment on final accuracy.",
        "method": "paired_contrast",
        "outcome": "final_accuracy",
        "contrast": "removed - plain",
    }
    plan = parse_plan({"name": "mine", "n_boot": 199, "estimand": [contrast]})
    material = read_material(run, plan)
    assert material.reference == "plain"
    assert [*material.mediations] == ["removed"]
    change_manifest(run, study={"arms": {"removed": {"intervention": "projection"}, "plain": {}}})
    material = read_material(run, plan)
    assert re.search(
        "removed (stops|lowers) .*the difference from plain in final test accuracy is",
        answer_of(material),
    )


def test_the_reference_of_the_study_is_that_of_plan_and_report(tmp_path: Path) -> None:
    arms = {"projection": ArmTruth(alignment=-0.1, accuracy=-0.35), "control": ArmTruth()}
    run = make_run(tmp_path / "run", n_seeds=4, arms=arms)
    study = {"projection": {}, "control": {"intervention": "shuffled"}}
    change_manifest(run, study={"arms": study, "reference": "control"})
    material = material_of(run)
    assert material.reference == "control"
    assert material.plan.digest == read_material(run, material.plan).results.plan_digest
    found = material.results["final_accuracy_projection"]
    assert isinstance(found, Estimate)
    assert (found.estimand.reference, found.value < -0.3) == ("control", True)
    assert material.find("removed_share", arm="projection") in material.analysis.added.results


def test_a_study_without_a_reference_says_how_to_name_one(tmp_path: Path) -> None:
    arms = {"projection": ArmTruth(), "control": ArmTruth()}
    found = material_of(make_run(tmp_path / "run", n_seeds=3, arms=arms)).results
    lacking = found["final_accuracy_projection"]
    assert isinstance(lacking, NotEstimable)
    assert 'reference = "ARM"' in lacking.reason


def test_a_contrast_is_that_of_the_arm_asked_for(tmp_path: Path) -> None:
    arms = {"baseline": ArmTruth(), "half_projection": ArmTruth(), "projection": ArmTruth()}
    found = material_of(make_run(tmp_path / "run", n_seeds=3, arms=arms)).find(
        "paired_contrast", arm="projection", outcome="final_accuracy"
    )
    assert found is not None
    assert found.estimand.contrast == "projection - baseline"


def test_the_reference_is_the_arm_without_intervention_then_the_first(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", n_seeds=3, arms={"first": ArmTruth(), "plain": ArmTruth()})
    assert material_of(run).reference == "first"
    arms = {"first": {"intervention": "liminal"}, "plain": {"intervention": "baseline"}}
    change_manifest(run, study={"arms": arms})
    assert material_of(run).reference == "plain"
