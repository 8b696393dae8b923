"""What a report adds to a plan is declared too, and no quantity has two numbers."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from sublim_causal.analysis.estimates.types import Estimate, NotEstimable
from sublim_causal.analysis.plan.file import Plan, load_plan, parse_plan
from sublim_causal.analysis.plan.generated.design import Design, DoseArms
from sublim_causal.analysis.plan.generated.report import UNDECLARED, new_results, report_plan
from sublim_causal.analysis.plan.results.curves import COLUMNS
from sublim_causal.analysis.plan.run import analyse_for_report, run_plan
from sublim_causal.analysis.simulation.tables import Truth, simulate, write_run
from tests.analysis.small import START, make_record

SENTENCE = "Some quantity, in one sentence."
MEDIATION = {"method": "mediation", "contrast": "projection - baseline"}


def plan_of(*entries: dict[str, object]) -> Plan:
    named = [{"name": f"x_{i}", "sentence": SENTENCE, **one} for i, one in enumerate(entries)]
    return parse_plan({"name": "own", "n_boot": 199, "estimand": named})


def test_what_is_declared_is_not_declared_again() -> None:
    record = make_record()
    shares = {"method": "explained_share"}
    plan = plan_of(shares)
    added = report_plan(Design(record, plan))
    assert not [one for one in added.estimands if one.name == "share_drive"]
    assert [one for one in added.estimands if one.name == "share_drive_mid"]
    assert all(UNDECLARED in one.assumptions for one in added.estimands)
    assert added.digest != report_plan(Design(record, plan_of(MEDIATION))).digest


def test_no_quantity_has_two_numbers() -> None:
    record, plan = make_record(), plan_of(MEDIATION)
    added_plan = report_plan(Design(record, plan))
    results, added = run_plan(record, plan), run_plan(record, added_plan)
    new = new_results(Design(record, plan), results.results, added_plan, added.results)
    both = [
        (one.estimand.arm, one.estimand.part)
        for one in (*results.results, *new)
        if one.estimand.part in ("te", "pnde", "tnie")
    ]
    assert {count for key, count in Counter(both).items() if key[0] != ""} == {1}
    assert ("projection", "tnie") in both
    assert ("half", "tnie") in both


def test_a_declared_and_an_added_mediation_agree() -> None:
    """The arms that enter the fit do not depend on which contrast is asked for."""
    record, plan = make_record(), plan_of(MEDIATION)
    own = run_plan(record, plan)["x_0_beta"]
    added = run_plan(record, report_plan(Design(record, plan)))["mediation_beta_projection"]
    assert isinstance(own, Estimate)
    assert isinstance(added, Estimate)
    assert (own.value, own.low, own.high) == (added.value, added.low, added.high)


@pytest.mark.parametrize("arm", ["yoked", "elsewhere"])
def test_only_comparable_arms_with_an_alignment_of_their_own_enter_a_mediation(arm: str) -> None:
    record = make_record()
    moved = {**record.interventions, "double": {**record.interventions["double"]}}
    moved["double"] = {**moved["double"], "student": {"optimizer": "sgd"}}
    record = replace(record, interventions=moved)
    asked = "double" if arm == "elsewhere" else arm
    plan = plan_of({**MEDIATION, "contrast": "each - baseline"})
    found = run_plan(record, plan)
    lacking = found[f"x_0_{asked}"]
    assert isinstance(lacking, NotEstimable)
    assert f"{asked!r} is left out" in lacking.reason
    assert isinstance(found["x_0_te_half"], Estimate)


def test_names_that_the_plan_uses_stay_its_own() -> None:
    plan = parse_plan(
        {"name": "own", "estimand": [{"name": "mediation", "sentence": SENTENCE, **MEDIATION}]}
    )
    names = {one.name for one in report_plan(Design(make_record(), plan)).estimands}
    assert "mediation" not in names
    assert "mediation_added" in names


def test_doses_start_from_the_undosed_arm() -> None:
    design = Design(make_record(), plan_of(MEDIATION))
    strengths = {"baseline": 0.0, "half": 0.5, "whole": 1.0, "double": 2.0}
    assert design.doses() == {"update": DoseArms("baseline", strengths)}
    names = {one.name for one in report_plan(design).estimands}
    assert {"dose_slope_update", "iv_linear_dose_update", "wald_by_dose_update"} <= names


def test_means_by_arm_are_those_of_complete_seeds() -> None:
    record = make_record(["baseline", "half"])
    entry = {"method": "arm_mean", "outcome": "final_accuracy"}
    found = run_plan(record, plan_of(entry, {**entry, "start": "initial_accuracy", "arm": "half"}))
    means = record.replicates.groupby("arm")["final_accuracy"].mean()
    mean, acquired = found["x_0_half"], found["x_1"]
    assert isinstance(mean, Estimate)
    assert isinstance(acquired, Estimate)
    assert mean.value == pytest.approx(means["half"])
    assert acquired.value == pytest.approx(means["half"] - START)
    assert (mean.estimand.unit, acquired.estimand.unit) == ("fraction", "difference of fractions")
    few = record.replicates[record.replicates["seed"] < 2]
    alone = run_plan(replace(record, replicates=few), plan_of(entry))["x_0_half"]
    assert isinstance(alone, NotEstimable)
    assert alone.value == pytest.approx(few[few["arm"] == "half"]["final_accuracy"].mean())


def test_removed_and_retained_shares_add_up_to_one() -> None:
    entry = {"contrast": "half - baseline"}
    plan = plan_of({"method": "removed_share", **entry}, {"method": "retained_share", **entry})
    removed, retained = run_plan(make_record(), plan).results
    assert isinstance(removed, Estimate)
    assert isinstance(retained, Estimate)
    assert removed.value + retained.value == pytest.approx(1.0)
    assert removed.low == pytest.approx(1 - retained.high)


def test_a_report_reads_the_steps_once(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sublim_causal.analysis.plan import record

    run = write_run(tmp_path / "run", simulate(Truth(n_seeds=4, n_steps=20, steps_per_epoch=10)))
    read: list[str] = []
    original = record.read_table

    def counting(run, table, **more):
        read.append(table)
        return original(run, table, **more)

    monkeypatch.setattr(record, "read_table", counting)
    plan: Plan = load_plan("primary").model_copy(update={"n_boot": 199})
    analysis = analyse_for_report(run, plan)
    assert Counter(read) == {"replicates": 1, "steps": 1, "evaluations": 1}
    assert set(analysis.curves.steps) == set(COLUMNS)
    assert not {one.estimand.declared for one in analysis.added.results} & {
        one.name for one in plan.estimands
    }


def test_a_slope_model_in_full_has_the_slope_of_the_plan(tmp_path) -> None:
    run = write_run(tmp_path / "run", simulate(Truth(n_seeds=8, n_steps=20)))
    slope = {"outcome": "gain", "predictor": "cos_update", "method": "step_slope", "interval": "t"}
    analysis = analyse_for_report(run, plan_of(slope | {"adjust": "none"}))
    own, full = analysis.results["x_0"], analysis.added["slope_in_full"]
    assert isinstance(own, Estimate)
    assert isinstance(full, Estimate)
    assert (full.value, full.low, full.high) == (own.value, own.low, own.high)
    assert len(full.diagnostics["left_out"]) == len(full.diagnostics["random_slopes"]) == 8
    assert len(full.diagnostics["residuals"]["fitted"]) == 40
