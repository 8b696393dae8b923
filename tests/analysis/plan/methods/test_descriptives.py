"""What is counted of a run, against hand counts."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest

from sublim_causal.analysis.estimates.types import Estimate, NotEstimable
from sublim_causal.analysis.plan.file import parse_plan
from sublim_causal.analysis.plan.record import Record
from sublim_causal.analysis.plan.results.results import Results
from sublim_causal.analysis.plan.results.stored import read_results
from sublim_causal.analysis.plan.run import run_plan
from tests.analysis.small import N_SEEDS, N_STEPS, make_record

ENTRIES = (
    {"name": "n", "method": "replicate_counts"},
    {"name": "range", "method": "seed_range", "outcome": "final_accuracy", "published": 0.5},
    {"name": "run", "method": "run_totals"},
)
PLAN = parse_plan(
    {"name": "counts", "estimand": [{"sentence": "A description.", **one} for one in ENTRIES]}
)


@pytest.fixture(scope="module")
def record() -> Record:
    """Two arms; of baseline one seed diverged and two failed."""
    record = make_record(["baseline", "half"])
    rows = record.replicates.assign(seconds=2.0, reason="")
    of_baseline = rows["arm"] == "baseline"
    for seed, status, reason in (
        (3, "diverged", "loss"),
        (4, "failed", "disk"),
        (1, "failed", "disk"),
    ):
        hit = of_baseline & (rows["seed"] == seed)
        rows.loc[hit, ["status", "reason"]] = [status, reason]
    rows.loc[rows["seed"] == 0, "seconds"] = 5.0
    return replace(record, replicates=rows)


@pytest.fixture(scope="module")
def results(record: Record) -> Results:
    return run_plan(record, PLAN)


def test_replicates_are_counted_by_arm_status_and_reason(results: Results) -> None:
    found = {one.estimand.name: one for one in results.results if isinstance(one, Estimate)}
    counts = {name: one.value for name, one in found.items() if name.startswith("n_")}
    assert counts == {
        "n_complete_baseline": N_SEEDS - 3,
        "n_unreached_baseline": 0,
        "n_diverged_baseline": 1,
        "n_failed_baseline": 2,
        "n_complete_half": N_SEEDS,
        "n_unreached_half": 0,
        "n_diverged_half": 0,
        "n_failed_half": 0,
    }
    assert found["n_failed_baseline"].diagnostics["seeds"] == {"disk": [1, 4]}
    assert not any(one.has_interval or one.p_value for one in found.values())


def test_the_mean_of_what_arms_share_is_the_reference_arms_where_they_do_not(
    record: Record,
) -> None:
    own = record.replicates["arm"] == "half"
    rows = record.replicates.assign(teacher_accuracy=0.9 + 0.001 * record.replicates["seed"])
    rows.loc[own, "teacher_accuracy"] = 0.2
    declared = {"name": "teacher", "method": "seed_mean", "outcome": "teacher_accuracy"}
    plan = {"name": "means", "estimand": [{"sentence": "Of the study's teacher.", **declared}]}
    found = run_plan(replace(record, replicates=rows), parse_plan(plan))["teacher"]
    shared = rows[~own].query("status == 'complete'")["teacher_accuracy"].sum()
    assert found.value == pytest.approx((shared + 3 * 0.2) / N_SEEDS)


def test_the_range_is_that_of_complete_seeds(record: Record, results: Results) -> None:
    values = record.complete.query("arm == 'baseline'")["final_accuracy"]
    found = [results[f"range_{part}_baseline"].value for part in ("smallest", "largest", "below")]
    assert found == [values.min(), values.max(), (values < 0.5).sum()]


def test_totals_are_those_of_the_run(results: Results) -> None:
    parts = ("complete_seeds", "steps", "training", "median_training")
    found = [results[f"run_{part}"].value for part in parts]
    assert found == [N_SEEDS, N_STEPS, 2 * (5.0 + 2.0 * (N_SEEDS - 1)), 2.0]


def test_nothing_is_described_of_no_complete_seeds(record: Record) -> None:
    none = record.replicates.assign(status="failed")
    found = run_plan(replace(record, replicates=none), PLAN)
    assert isinstance(found["range_half"], NotEstimable)
    assert isinstance(found["run"], NotEstimable)
    assert found["n_failed_half"].value == N_SEEDS


def test_descriptions_are_read_back_from_a_file(results: Results, tmp_path) -> None:
    again = read_results(results.write(tmp_path / "results.json"))
    pd.testing.assert_frame_equal(again.frame, results.frame, check_dtype=False, check_exact=True)
    assert "[" not in results.table().partition("n_complete_baseline")[2].splitlines()[0]
