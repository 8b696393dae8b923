"""Instruments and trends over doses of an intervention, read from the arms of a study."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sublim_causal.analysis.causal.anderson_rubin import anderson_rubin
from sublim_causal.analysis.causal.dose_response import monotone_trend
from sublim_causal.analysis.causal.instruments import iv_linear_dose
from sublim_causal.analysis.estimates.types import NotEstimable
from sublim_causal.analysis.plan.methods.doses import doses
from sublim_causal.analysis.plan.record import Record
from tests.analysis.small import SLOPE, STUDY, estimated, make_record, number


def test_doses_are_read_from_the_arms_of_the_study(record: Record) -> None:
    assert doses(record, "update") == {"baseline": 0.0, "half": 0.5, "whole": 1.0, "double": 2.0}
    assert doses(record, "gradient") == {"baseline": 0.0, "projection": 1.0}


def test_arms_in_another_setting_are_no_doses() -> None:
    """As in the built-in studies `representation`, `optimizers`, `channels` and `inputs`."""
    record = make_record(["baseline", "half", "whole", "double"])
    settings = {"half": {"student": {"optimizer": "sgd"}}, "whole": {"inputs": "training"}}
    apart = {arm: {**options, **settings.get(arm, {})} for arm, options in STUDY.items()}
    mixed = replace(record, interventions=apart)
    assert doses(mixed, "update") == {"baseline": 0.0, "double": 2.0}
    lacking = estimated(mixed, method="egger_intercept")["x"]
    assert isinstance(lacking, NotEstimable)
    assert "'half', 'whole' not counted: student, channel, targets, inputs" in lacking.reason


def test_dose_effects_are_those_of_the_estimators(record: Record) -> None:
    found = doses(record, "update")
    own = number(estimated(record, method="iv_linear_dose", space="update")["x"])
    same = number(iv_linear_dose(record.replicates, {a: d for a, d in found.items() if d <= 1}))
    assert (own.value, own.low, own.high) == (same.value, same.low, same.high)
    assert own.low < SLOPE < own.high
    assert own.estimand.sentence == "Some quantity, in one sentence."
    over = number(estimated(record, method="iv_linear_dose", largest_dose=2.0)["x"])
    assert over.value == number(iv_linear_dose(record.replicates, found)).value != own.value
    assert "relevance: the dose changes alignment" in own.estimand.assumptions
    own = number(estimated(record, method="anderson_rubin")["x"])
    same = number(anderson_rubin(record.replicates, found))
    assert (own.value, own.low, own.high) == (same.value, same.low, same.high)


@pytest.mark.parametrize("instruments", ["doses", "linear"])
def test_two_stage_recovers_the_slope_and_keeps_its_tests(record: Record, instruments: str) -> None:
    own = number(estimated(record, method="iv_2sls", instruments=instruments)["x"])
    assert own.low < SLOPE < own.high
    assert own.diagnostics["first_stage"]["statistic"] > 50
    assert own.diagnostics["endogeneity"]["distribution"] == "F"


def test_arms_as_instruments_use_all_arms(record: Record) -> None:
    own = number(estimated(record, method="iv_2sls", instruments="arms")["x"])
    assert own.diagnostics["j_df"] == [len(STUDY) - 2.0]
    alone = make_record(["baseline"])
    assert (
        "nothing to compare" in estimated(alone, method="iv_2sls", instruments="arms")["x"].reason
    )  # type: ignore[union-attr]


def test_wald_ratios_come_by_arm(record: Record) -> None:
    found = estimated(record, method="wald_by_dose", space="update")
    assert list(found) == ["x_half", "x_whole", "x_double"]
    assert number(found["x_double"]).value == pytest.approx(SLOPE, abs=0.2)


def test_no_direct_effect_of_a_dose(record: Record) -> None:
    own = number(estimated(record, method="egger_intercept")["x"])
    assert own.low < 0 < own.high


def test_a_trend_carries_the_test_of_its_direction(record: Record) -> None:
    own = number(estimated(record, method="dose_trend", shape="slope")["x"])
    page = monotone_trend(record.replicates, doses(record, "update"))
    assert own.value == pytest.approx(SLOPE * -0.04, abs=0.01)
    assert own.diagnostics["trend"]["p_value"] == page.p_value
    assert "falling: Page's L" in own.method


@pytest.mark.parametrize("shape", ["linear", "isotonic"])
def test_a_curve_is_a_result_a_dose(record: Record, shape: str) -> None:
    found = estimated(record, method="dose_trend", shape=shape)
    assert list(found) == ["x_baseline", "x_half", "x_whole", "x_double"]
    values = [number(one).value for one in found.values()]
    assert values == sorted(values, reverse=True)
    assert all(number(one).low < number(one).value < number(one).high for one in found.values())


def test_changes_run_from_dose_to_dose(record: Record) -> None:
    found = estimated(record, method="dose_trend", shape="changes")
    assert found["x_double"].estimand.contrast == "double - whole"


def test_a_run_without_doses_names_the_study_that_has_them() -> None:
    lacking = estimated(make_record(["baseline", "projection"]), method="iv_linear_dose")["x"]
    assert isinstance(lacking, NotEstimable)
    assert lacking.reason.startswith(
        "strengths of projection in update space up to 1: 0 in the run, at least 1 needed; "
    )
    assert "dose" in lacking.reason.partition("built-in studies that have it: ")[2].split(", ")


def test_one_strength_draws_no_line() -> None:
    lacking = estimated(make_record(["baseline", "whole"]), method="egger_intercept")["x"]
    assert isinstance(lacking, NotEstimable)
    assert "in update space: 1 in the run, at least 2 needed" in lacking.reason
