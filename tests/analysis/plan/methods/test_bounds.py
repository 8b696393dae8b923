"""Every epoch and every seed: what a mean over steps and seeds does not say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sublim_causal.analysis.estimates.settings import Settings
from sublim_causal.analysis.estimates.types import Estimate, NotEstimable, Result
from sublim_causal.analysis.plan.file import parse_plan
from sublim_causal.analysis.plan.record import Record
from sublim_causal.analysis.plan.registry import METHODS
from tests.analysis.small import make_record

N = 10


def estimated(record: Record, **entry: Any) -> dict[str, Result]:
    whole = {"name": "x", "sentence": "Some quantity, in one sentence.", **entry}
    (declared,) = parse_plan({"name": "mine", "estimand": [whole]}).estimands
    settings = Settings(n_boot=199, rng=np.random.default_rng(0))
    return {
        one.estimand.name: one
        for one in METHODS[declared.method].estimate(record, declared, settings)
    }


def with_epochs(levels: list[float]) -> Record:
    rng = np.random.default_rng(2)
    steps = [
        pd.DataFrame({"seed": s, "arm": "baseline", "epoch": epoch, "cos_update": x})
        for epoch, level in enumerate(levels)
        for s in range(N)
        for x in [level + 0.01 * rng.standard_normal(4)]
    ]
    return replace(make_record(["baseline"]), steps=pd.concat(steps, ignore_index=True))


def number(one: Result) -> Estimate:
    assert isinstance(one, Estimate)
    return one


def test_the_weakest_epoch_is_judged_by_its_own_limits_and_the_first_does_not_count() -> None:
    found = estimated(
        with_epochs([-1.0, 0.1, 0.02, 0.05]),
        method="weakest_epoch",
        outcome="cos_update",
        arm="baseline",
    )
    weakest, last = number(found["x_weakest"]), number(found["x_last"])
    assert weakest.value == pytest.approx(0.02, abs=0.01)
    assert 0 < weakest.low < weakest.value <= weakest.high < 0.04
    assert last.value == pytest.approx(0.05, abs=0.01)
    assert "epoch 2" in weakest.method


def test_alignment_that_ends_is_not_held_by_its_mean() -> None:
    levels = with_epochs([0.2, 0.2, 0.0])
    found = estimated(levels, method="weakest_epoch", outcome="cos_update", arm="baseline")
    assert number(found["x_weakest"]).low < 0 < number(found["x_weakest"]).high


def test_one_epoch_has_no_later_one() -> None:
    single = with_epochs([0.2])
    found = estimated(single, method="weakest_epoch", outcome="cos_update", arm="baseline")
    assert all(isinstance(one, NotEstimable) for one in found.values())


def test_a_share_of_seeds_counts_differences_inside_the_margin() -> None:
    record = make_record(["baseline", "yoked"])
    found = number(
        estimated(record, method="similar_seeds", contrast="yoked - baseline", margin=0.2)["x"]
    )
    assert found.value == 1
    assert found.low == pytest.approx(0.025 ** (1 / found.n_seeds))
    none = number(
        estimated(record, method="similar_seeds", contrast="yoked - baseline", margin=1e-6)["x"]
    )
    assert (none.value, none.low) == (0, 0)


def test_a_retained_share_leaves_room_for_seeds_that_collapse() -> None:
    record = make_record(["baseline", "half"])
    entry = {"contrast": "half - baseline"}
    bound = number(estimated(record, method="retained_bound", **entry)["x"])
    share = number(estimated(record, method="retained_share", **entry)["x"])
    assert bound.value == pytest.approx(share.value, abs=0.01)
    assert bound.low < 0.8 * share.low
    assert bound.low == pytest.approx(share.value * 0.025 ** (1 / bound.n_seeds), abs=0.03)


def with_collapsed(record: Record, arm: str, n: int) -> Record:
    runs = record.replicates.copy()
    hit = (runs["arm"] == arm) & (runs["seed"] < n)
    runs.loc[hit, "final_accuracy"] = runs.loc[hit, "initial_accuracy"]
    return replace(record, replicates=runs)


def test_collapses_that_were_not_seen_are_limited_over_all_runs_of_the_arms() -> None:
    record = make_record(["baseline", "yoked", "half"])
    entry = {"method": "collapse_loss", "reference": "baseline"}
    one = number(estimated(record, arms=["yoked"], **entry)["x"])
    acquired = one.diagnostics["acquired"]
    assert (one.value, one.low) == (0, 0)
    # Of n runs without a collapse, up to 1 - 0.05^(1/n) of new ones may: exact and one-sided.
    assert one.high == pytest.approx(acquired * (1 - 0.05 ** (1 / one.n_seeds)))
    both = number(estimated(record, arms=["yoked", "half", "no such arm"], **entry)["x"])
    assert both.high == pytest.approx(acquired * (1 - 0.05 ** (1 / (2 * both.n_seeds))))
    seen = number(
        estimated(with_collapsed(record, "yoked", 3), arms=["yoked", "half"], **entry)["x"]
    )
    assert seen.value == pytest.approx(acquired * 3 / (2 * both.n_seeds))
    assert 0 < seen.low < seen.value < seen.high
    assert isinstance(estimated(record, arms=["no such arm"], **entry)["x"], NotEstimable)
