"""Plans can name every causal estimator, and a run without the arms says where they are."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sublim_causal.analysis.causal.anderson_rubin import anderson_rubin
from sublim_causal.analysis.causal.crossworld import cross_world
from sublim_causal.analysis.causal.dose import monotone_trend
from sublim_causal.analysis.causal.instruments import iv_linear_dose
from sublim_causal.analysis.causal.mediation import mediate
from sublim_causal.analysis.estimates.settings import Settings
from sublim_causal.analysis.estimates.types import Estimate, NotEstimable, Result
from sublim_causal.analysis.plan.file import load_plan, parse_plan
from sublim_causal.analysis.plan.methods.doses import doses
from sublim_causal.analysis.plan.record import Record
from sublim_causal.analysis.plan.registry import METHODS
from sublim_causal.analysis.plan.run import _estimate
from sublim_causal.analysis.steps.ledger import explained_shares
from sublim_causal.analysis.steps.ledger_split import split_difference
from tests.analysis.small import DIRECT, N_SEEDS, N_STEPS, SLOPE, START, STUDY, make_record


@pytest.fixture(scope="module")
def record() -> Record:
    return make_record()


def estimated(record: Record, **entry: Any) -> dict[str, Result]:
    entry = {"name": "x", "sentence": "Some quantity, in one sentence.", **entry}
    (declared,) = parse_plan({"name": "mine", "estimand": [entry]}).estimands
    settings = Settings(n_boot=199, rng=np.random.default_rng(0))
    resolved = declared.resolved(record.reference)
    found = METHODS[declared.method].estimate(record, resolved, settings)
    endings = declared.endings()
    if endings is not None and not any(isinstance(one, NotEstimable) for one in found):
        names = ["x" + f"_{ending}" * bool(ending) for ending in endings]
        assert sorted(one.estimand.name for one in found) == sorted(names)
    return {one.estimand.name: one for one in found}


def number(result: Result) -> Estimate:
    assert isinstance(result, Estimate), result
    return result


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
    assert "half, whole not counted: student, channel, targets, inputs are not" in lacking.reason


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


def test_shares_by_arm_epoch_and_layer() -> None:
    record = make_record(["baseline", "yoked"], layers=True)
    by_arm = estimated(record, method="explained_share")
    assert list(by_arm) == ["x_baseline", "x_yoked"]
    assert number(by_arm["x_baseline"]).value == pytest.approx(1 / 0.95)
    mid = estimated(record, method="explained_share", term="drive_mid", arm="yoked")
    assert number(mid["x"]).value == pytest.approx(1.0)
    by_epoch = estimated(record, method="explained_share", by="epoch", arm="baseline")
    assert list(by_epoch) == ["x_baseline_0", "x_baseline_1"]
    by_layer = estimated(record, method="explained_share", by="layer", arm="baseline")
    assert number(by_layer["x_baseline_2"]).value == pytest.approx(0.75 / 0.95)
    direct = explained_shares(record.steps)
    assert [number(one).value for one in by_arm.values()] == [number(one).value for one in direct]


def test_without_recorded_layers_the_remedy_is_named(record: Record) -> None:
    lacking = estimated(record, method="explained_share", by="layer")["x"]
    assert isinstance(lacking, NotEstimable)
    assert "layers = true under [measure]" in lacking.reason


def test_the_ledger_difference_adds_up(record: Record) -> None:
    entry = {"method": "ledger_difference", "contrast": "projection - baseline"}
    found = estimated(record, **entry)
    parts = number(found["x_drive"]).value + number(found["x_remainder"]).value
    assert parts == pytest.approx(number(found["x_gain"]).value, rel=1e-12)
    same = number(split_difference(record.steps, "projection").gain)
    assert number(found["x_gain"]).value == same.value
    each = estimated(record, method="ledger_difference", contrast="each - baseline")
    assert number(each["x_gain_projection"]).value == same.value


def test_the_factors_of_the_drive_add_up(record: Record) -> None:
    found = estimated(record, method="drive_factors", contrast="half - baseline")
    parts = [number(found[f"x_{name}"]).value for name in ("cosine", "norm_trait", "norm_update")]
    assert sum(parts) == pytest.approx(number(found["x_drive"]).value, rel=1e-12)
    assert parts[1:] == pytest.approx([0, 0], abs=1e-15)


def test_cross_world_effects_are_those_of_the_estimator(record: Record) -> None:
    found = estimated(record, method="cross_world")
    same = cross_world(record.replicates, arm="projection", yoked="yoked", reverse="reverse")
    for part in ("te", "pnde", "tnie", "pnie", "tnde"):
        assert number(found[f"x_{part}"]).value == number(getattr(same, part)).value
    assert number(found["x_pnde"]).value == pytest.approx(DIRECT, abs=0.005)
    without = estimated(make_record(["baseline", "projection", "yoked"]), method="cross_world")
    assert isinstance(without["x_pnie"], NotEstimable)


def test_a_run_without_yoked_arms_names_the_study_that_has_them() -> None:
    lacking = estimated(make_record(["baseline", "projection"]), method="cross_world")["x"]
    assert isinstance(lacking, NotEstimable)
    reason, studies = lacking.reason.split("; built-in studies that have it: ")
    assert reason == "the run has no arm 'yoked'; it has baseline, projection"
    assert "yoked" in studies.split(", ")


def test_the_controlled_effect_and_the_clamp(record: Record) -> None:
    entry = {"method": "controlled_direct", "contrast": "yoked - baseline"}
    assert number(estimated(record, **entry)["x"]).value == pytest.approx(DIRECT, abs=0.005)
    loose = number(estimated(record, method="clamp_error", yoked="half")["x"])
    assert loose.value == pytest.approx(0.02, abs=0.002)
    assert loose.diagnostics["max_abs"] > loose.value
    assert loose.diagnostics["n_steps"] == N_SEEDS * N_STEPS


def test_mediation_is_that_of_the_estimator(record: Record) -> None:
    found = estimated(record, method="mediation", contrast="projection - baseline")
    entering = [arm for arm in record.arms if arm not in ("baseline", "yoked", "reverse")]
    same = mediate(record.replicates, arms=entering)[0]
    assert same.arm == "projection"
    for part in ("te", "alpha", "beta", "pnde"):
        assert number(found[f"x_{part}"]).value == number(getattr(same, part)).value
    each = estimated(record, method="mediation", contrast="each - baseline")
    assert number(each["x_alpha_half"]).value == pytest.approx(-0.02, abs=0.002)


def test_the_vanishing_correlation_has_fishers_interval(record: Record) -> None:
    entry = {"method": "mediation_sensitivity", "contrast": "projection - baseline"}
    own = number(estimated(record, **entry)["x"])
    wide = record.replicates.pivot(index="seed", columns="arm")
    change = [
        wide[name]["projection"] - wide[name]["baseline"]
        for name in ("mean_cos_update", "final_accuracy")
    ]
    r = np.corrcoef(*change)[0, 1]
    assert own.value == pytest.approx(r, abs=1e-12)
    half = 1.959963985 / np.sqrt(N_SEEDS - 3)
    assert (own.low, own.high) == pytest.approx(
        (np.tanh(np.arctanh(r) - half), np.tanh(np.arctanh(r) + half))
    )


def test_the_three_slopes_carry_the_test_that_they_agree(record: Record) -> None:
    noise = 1e-4 * np.random.default_rng(3).standard_normal(len(record.steps))
    noisy = replace(record, steps=record.steps.assign(gain=record.steps["gain"] + noise))
    within = number(estimated(noisy, method="mundlak")["x_within_run"])
    # gain is 0.95 |g| |u| cos at every level: 0.095 a unit.
    assert within.low < 0.095 < within.high
    assert within.diagnostics["equality"]["p_value"] > 0.001
    assert "levels equal: F(2, " in within.method


def test_what_an_arm_retains_is_a_ratio_of_sums(record: Record) -> None:
    own = number(estimated(record, method="retained_share", contrast="half - baseline")["x"])
    means = record.replicates.groupby("arm")["final_accuracy"].mean() - START
    assert own.value == pytest.approx(means["half"] / means["baseline"])


def test_every_built_in_estimand_says_something_about_any_run(record: Record) -> None:
    few = make_record(["baseline"])
    plan = load_plan("causal").model_copy(update={"n_boot": 199})
    for declared in plan.estimands:
        if not {"cos_gradient"} & set(declared.step_columns()):
            found = _estimate(few, declared, plan)
            assert found or "each" in str(declared)


def test_a_plan_draws_as_many_replicates_as_it_says(record: Record) -> None:
    """Seeds are skewed, so that the bootstrap enters every interval of a ratio."""
    last = N_SEEDS - 1
    factors = np.random.default_rng(0).lognormal(sigma=1.2, size=N_SEEDS)
    tall = factors[record.steps["seed"]]
    outcome = record.replicates["final_accuracy"] - 0.3 * (
        (record.replicates["seed"] == last) & (record.replicates["arm"] == "projection")
    )
    skewed = replace(
        record,
        steps=record.steps.assign(drive=record.steps["drive"] * tall),
        replicates=record.replicates.assign(final_accuracy=outcome),
    )
    for entry in (
        {"method": "explained_share", "arm": "baseline"},
        {"method": "ledger_difference", "contrast": "projection - baseline"},
        {"method": "drive_factors", "contrast": "projection - baseline"},
        {"method": "cross_world"},
        {"method": "controlled_direct", "contrast": "yoked - baseline"},
        {"method": "dose_trend"},
        {"method": "dose_trend", "shape": "changes"},
        {"method": "retained_share", "contrast": "projection - baseline"},
    ):
        found = estimated(skewed, **entry)
        draws = [n.draws for n in found.values() if isinstance(n, Estimate)]
        drawn = {len(one) for one in draws if one is not None}
        assert drawn == {199}, entry
