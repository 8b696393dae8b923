"""All methods: something is said of any run, by as many draws as the plan declares."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sublim_causal.analysis.estimates.types import Estimate
from sublim_causal.analysis.plan.file import load_plan
from sublim_causal.analysis.plan.record import Record
from sublim_causal.analysis.plan.run import _estimate
from tests.analysis.small import N_SEEDS, estimated, make_record


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
