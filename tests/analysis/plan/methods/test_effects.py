"""Effects across worlds, of the clamp, of three levels, and what an arm retains."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sublim_causal.analysis.causal.crossworld import cross_world
from sublim_causal.analysis.estimates.types import NotEstimable
from sublim_causal.analysis.plan.record import Record
from tests.analysis.small import DIRECT, N_SEEDS, N_STEPS, START, estimated, make_record, number


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
    assert reason == "the run has no arm 'yoked'; it has 'baseline', 'projection'"
    assert "yoked" in studies.split(", ")


def test_the_controlled_effect_and_the_clamp(record: Record) -> None:
    entry = {"method": "controlled_direct", "contrast": "yoked - baseline"}
    assert number(estimated(record, **entry)["x"]).value == pytest.approx(DIRECT, abs=0.005)
    loose = number(estimated(record, method="clamp_error", yoked="half")["x"])
    assert loose.value == pytest.approx(0.02, abs=0.002)
    assert loose.diagnostics["max_abs"] > loose.value
    assert loose.diagnostics["n_steps"] == N_SEEDS * N_STEPS


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
