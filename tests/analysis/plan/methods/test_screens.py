"""How well a screen predicts what replicates acquire."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

from sublim_causal.analysis.estimates.types import Estimate, NotEstimable
from sublim_causal.analysis.plan.declaration import Declared
from sublim_causal.analysis.plan.file import load_plan, parse_plan
from sublim_causal.analysis.plan.record import Record
from sublim_causal.analysis.plan.run import run_plan


def record_of(coverage: np.ndarray, acquired: np.ndarray) -> Record:
    """Return 8 seeds under three arms, given what each has, shape ``(8, 3)``."""
    arms = ("baseline", "some", "none")
    rows = pd.DataFrame(
        {
            "seed": np.repeat(range(8), 3),
            "arm": np.tile(arms, 8),
            "status": "complete",
            "reason": "",
            "coverage": coverage.ravel(),
            "initial_accuracy": 0.1,
            "final_accuracy": 0.1 + acquired.ravel(),
        }
    )
    nothing = pd.DataFrame(columns=["seed", "arm"])
    return Record("run", "0", arms, rows, nothing, nothing, {}, reference="baseline")


PLAN = parse_plan(
    {
        "name": "screens",
        "n_boot": 199,
        "estimand": [
            {
                "name": "coverage",
                "sentence": "How well coverage predicts what is acquired.",
                "method": "predictive_validity",
            }
        ],
    }
)


def test_a_screen_that_tells_arms_apart_and_no_seeds() -> None:
    rng = np.random.default_rng(0)
    levels = np.array([0.4, 0.2, 0.0])
    record = record_of(
        levels + 0.01 * rng.normal(size=(8, 3)), levels + 0.01 * rng.normal(size=(8, 3))
    )
    results = run_plan(record, PLAN)
    over, within, area = (
        results[f"coverage_{part}"] for part in ("spearman", "spearman_within_arms", "auroc")
    )
    assert isinstance(over, Estimate)
    assert over.value > 0.8
    assert over.low > 0.5
    assert isinstance(within, Estimate)
    assert within.low < 0 < within.high
    assert isinstance(area, Estimate)
    assert area.value == pytest.approx(1.0, abs=0.1)
    assert area.diagnostics["n_replicates"] == 24


def test_what_cannot_be_told_says_why() -> None:
    same = record_of(np.full((8, 3), 0.1), np.full((8, 3), 0.3))
    for one in run_plan(same, PLAN).results:
        assert isinstance(one, NotEstimable)
    few = same.replicates[same.replicates["seed"] < 2]
    for one in run_plan(
        Record("run", "0", same.arms, few, same.steps, same.layers, {}), PLAN
    ).results:
        assert isinstance(one, NotEstimable)
        assert "2 complete seeds" in one.reason


def test_the_first_step_as_a_screen() -> None:
    """The value of the first step predicts, whatever comes after it."""
    rng = np.random.default_rng(0)
    levels = np.array([0.4, 0.2, 0.0]) + 0.01 * rng.normal(size=(8, 3))
    record = record_of(levels, levels)
    first = record.replicates[["seed", "arm"]].assign(step=1, cos_update=levels.ravel())
    later = first.assign(step=2, cos_update=-levels.ravel())
    steps = pd.concat([first, later]).sort_values(["seed", "arm", "step"], ignore_index=True)
    declared = PLAN.estimands[0].model_copy(update={"first_step": "cos_update"})
    assert declared.step_columns() == ("cos_update",)
    plan = PLAN.model_copy(update={"estimands": (*PLAN.estimands, _named(declared, "first"))})
    results = run_plan(dataclasses.replace(record, steps=steps), plan)
    for part in ("spearman", "spearman_within_arms", "auroc"):
        same, found = results[f"coverage_{part}"], results[f"first_{part}"]
        assert isinstance(same, Estimate)
        assert isinstance(found, Estimate)
        assert (found.value, found.low, found.high) == (same.value, same.low, same.high)
        assert found.estimand.column == "cos_update"
        assert "cos_update of the first step" in found.estimand.contrast


def _named(declared: Declared, name: str) -> Declared:
    return declared.model_copy(update={"name": name})


def test_the_plan_of_screens_is_built_in() -> None:
    plan = load_plan("screens")
    assert {one.method for one in plan.estimands} == {"predictive_validity"}
    assert len(plan.estimands) == 5
