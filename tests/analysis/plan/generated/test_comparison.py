from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from sublim_causal.analysis.estimates.types import Estimate, NotEstimable, Result
from sublim_causal.analysis.plan.file import parse_plan
from sublim_causal.analysis.plan.generated.comparison import MARGINS, comparison_plan, join_runs
from sublim_causal.analysis.plan.record import Record
from sublim_causal.analysis.plan.run import run_plan

NAMES = ("fp32", "bf16")
ARMS = ("baseline", "projection")


PLAN = parse_plan(
    {
        "name": "any",
        "estimand": [
            {"name": "x", "sentence": "Reliability of alignment.", "method": "reliability"}
        ],
    }
)


def agreement(first: pd.DataFrame, second: pd.DataFrame) -> list[Result]:
    """Return the equivalence tests of two runs of the same arms and draws."""
    records = [
        Record(
            name="run",
            run_id="",
            arms=ARMS,
            replicates=rows.assign(status="complete", reason=""),
            steps=pd.DataFrame(),
            layers=pd.DataFrame(),
            interventions={},
        )
        for rows in (first, second)
    ]
    plan = comparison_plan(PLAN, ARMS, "baseline", paired=True)
    found = run_plan(join_runs(*records, NAMES, paired=True), plan)
    return [one for one in found.results if one.estimand.declared.startswith("agreement")]


def equal(result: Result) -> bool:
    return isinstance(result, Estimate) and result.diagnostics["equivalent"]


def replicates(shift: float = 0.0, *, rounding: float = 0.0) -> pd.DataFrame:
    """Return 12 seeds under two arms; `shift` is added to projection's accuracy."""
    draw, noise = np.random.default_rng(0), np.random.default_rng(1)
    parts = []
    for arm, mean in zip(ARMS, (0.5, 0.12), strict=True):
        accuracy = mean + shift * (arm == "projection") + 0.1 * draw.standard_normal(12)
        parts.append(
            pd.DataFrame(
                {
                    "seed": range(12),
                    "arm": arm,
                    "final_accuracy": accuracy + rounding * noise.standard_normal(12),
                    "mean_cos_gradient": 0.008,
                    "mean_cos_update": 0.05,
                }
            )
        )
    return pd.concat(parts)


def test_every_column_of_every_arm_and_every_effect_is_held_against_its_margin() -> None:
    found = agreement(replicates(), replicates(rounding=0.005))
    assert [one.estimand.name for one in found] == [
        *(f"agreement_{column}_{arm}" for column in MARGINS for arm in ARMS),
        "agreement_effect_projection - baseline",
    ]
    assert all(map(equal, found))


def test_pairing_leaves_out_what_the_seeds_share() -> None:
    accuracy = agreement(replicates(), replicates(rounding=0.005))[0]
    assert accuracy.tidy()["conf_high"] - accuracy.tidy()["conf_low"] < 0.015


@pytest.mark.parametrize(("shift", "same"), [(0.01, True), (0.03, False)])
def test_a_shift_beyond_the_margin_is_no_agreement(shift: float, same: bool) -> None:
    shifted = replicates(shift, rounding=0.005)
    found = {one.estimand.name: one for one in agreement(shifted, replicates())}
    assert equal(found["agreement_final_accuracy_projection"]) == same
    assert equal(found["agreement_effect_projection - baseline"]) == same
    assert equal(found["agreement_final_accuracy_baseline"])


def test_an_arm_without_complete_seeds_says_so() -> None:
    first = replicates()
    found = agreement(first, first[first["arm"] == "baseline"])
    assert isinstance(found[1], NotEstimable)
    assert not equal(found[1])
