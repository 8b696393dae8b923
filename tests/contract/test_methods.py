"""What every method of a plan must keep, whatever it estimates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sublim_causal.analysis.estimates.types import Estimate, NotEstimable, Result
from sublim_causal.analysis.plan.file import Plan, parse_plan
from sublim_causal.analysis.plan.record import Record
from sublim_causal.analysis.plan.registry import METHODS
from sublim_causal.analysis.plan.run import _estimate
from tests.analysis.small import N_SEEDS, make_record

Entry = dict[str, Any]
PAIR = {"contrast": "projection - baseline"}
EACH = {"contrast": "each - baseline"}
ACCURACY = {"outcome": "final_accuracy"}
GAIN = {"outcome": "gain", "predictor": "cos_update"}

EXAMPLES: dict[str, list[Entry]] = {
    "paired_contrast": [ACCURACY | PAIR, ACCURACY | EACH],
    "predictive_validity": [{"predictor": "mean_cos_update"}],
    "specificity": [{}, {"arms": ["half", "whole"]}],
    "arm_mean": [ACCURACY | {"arm": "baseline"}, ACCURACY | {"start": "initial_accuracy"}],
    "seed_mean": [ACCURACY],
    "replicate_counts": [{}, {"arm": "baseline"}],
    "seed_range": [ACCURACY, ACCURACY | {"arm": "baseline", "published": 0.5}],
    "run_totals": [{}],
    "collapsed_seeds": [ACCURACY, ACCURACY | {"arm": "baseline"}],
    "equivalence": [ACCURACY | PAIR | {"margin": 0.1}],
    "seed_summary": [
        {"outcome": "cos_update", "summary": "mean", "arm": "baseline"},
        {"outcome": "cos_update", "summary": "mean", "window": "early - late"},
    ],
    "step_slope": [
        GAIN,
        GAIN | {"split": "by_arm"},
        GAIN | {"adjust": "none"},
        GAIN | {"adjust": "none", "split": "by_arm"},
        GAIN | {"split": "levels"},
    ],
    "slope_model": [GAIN],
    "mixed_model": [
        {"formula": "gain ~ arm + cos_update + (1 | seed)", "contrast": "arm[T.projection]"},
        {
            "table": "replicates",
            "formula": "final_accuracy ~ arm + (1 | seed)",
            "contrast": "arm[T.half]",
        },
    ],
    "reliability": [{"arm": "baseline"}, {"adjust": "none"}],
    "corrected_slope": [{"outcome": "gain"}, {"outcome": "gain", "adjust": "none"}],
    "explained_share": [
        {"arm": "baseline"},
        {"by": "epoch", "term": "drive_mid", "arm": "baseline"},
        {"by": "layer", "arm": "baseline"},
    ],
    "ledger_difference": [PAIR, EACH | {"mid": True}],
    "drive_factors": [PAIR, EACH],
    "iv_linear_dose": [{}],
    "plausibly_exogenous": [{}],
    "weakest_epoch": [{"outcome": "cos_update"}, {"outcome": "cos_update", "arm": "half"}],
    "retained_bound": [PAIR, EACH],
    "similar_seeds": [PAIR | {"margin": 0.1}, EACH | {"margin": 0.05}],
    "collapse_loss": [{"arms": ["half"]}, {"arms": ["half", "no such arm"]}],
    "iv_2sls": [{}, {"instruments": "linear"}, {"instruments": "arms"}],
    "anderson_rubin": [{}],
    "wald_by_dose": [{}],
    "egger_intercept": [{}],
    "dose_trend": [{"shape": shape} for shape in ("slope", "changes", "linear", "isotonic")],
    "mediation": [PAIR, PAIR | {"interaction": True}],
    "mediation_sensitivity": [PAIR],
    "cross_world": [{}],
    "controlled_direct": [{"contrast": "yoked - baseline"}],
    "clamp_error": [{"yoked": "half"}],
    "mundlak": [{}],
    "retained_share": [PAIR, EACH],
    "removed_share": [PAIR, EACH],
    "published": [ACCURACY | {"arm": "half", "reference": "baseline", "published": -0.1}],
}
OF_TWO_RUNS: dict[str, list[Entry]] = {
    "common_seeds": [{}],
    "run_difference": [ACCURACY, ACCURACY | {"arms": ["projection"], "paired": False}],
    "run_equivalence": [ACCURACY | {"margin": 0.1, "reference": "baseline", "arms": ["half"]}],
}
EXAMPLES |= OF_TWO_RUNS
ABSENT: dict[str, Entry] = {
    "contrast": {"contrast": "liminal - baseline"},
    "arms": {"arms": ["liminal"]},
    **{field: {field: "liminal"} for field in ("arm", "undosed", "yoked")},
}
"""By field of a declaration: the value that names an arm which the run does not have."""
ASSUMPTION = "An assumption of the plan."
DESCRIPTIVE = ("replicate_counts", "seed_range", "run_totals", "common_seeds")
"""Methods that count, so that they have no interval and need no three seeds."""
ALL_ARMS = {
    *("seed_mean", "slope_model", "step_slope", "corrected_slope", "mundlak"),
    *("run_totals", "common_seeds", "predictive_validity"),
}
"""Methods that take the arms as they come and name none."""


def cases(*, without: Sequence[str] = ()) -> list[Any]:
    """Return a parameter for each example of each method."""
    return [
        pytest.param({"method": method, **example}, id=f"{method}-{i}")
        for method, examples in EXAMPLES.items()
        if method not in without
        for i, example in enumerate(examples)
    ]


def plan_of(entry: Entry, **fields: object) -> Plan:
    """Return the plan that declares `entry` and a mean with a bootstrap interval."""
    other = {"method": "seed_summary", "outcome": "cos_update", "summary": "mean"}
    named = [
        {"name": name, "sentence": "Some quantity, in one sentence.", **one}
        for name, one in (("x", entry), ("other", {**other, "interval": "bootstrap-t"}))
    ]
    return parse_plan({"name": "mine", "n_boot": 199, "estimand": named, **fields})


def results_of(record: Record, entry: Entry, **fields: object) -> Sequence[Result]:
    """Return the results of `entry` in a plan with `fields`."""
    plan = plan_of(entry, **fields)
    return _estimate(record_for(record, entry), plan.estimands[0], plan)


def record_for(record: Record, entry: Entry) -> Record:
    """Return `record`, beside another run where `entry` compares two."""
    return twice(record) if entry["method"] in OF_TWO_RUNS else record


def twice(record: Record) -> Record:
    """Return `record` beside another run of the same seeds."""
    first = record.replicates
    shift = 0.01 * np.random.default_rng(3).standard_normal(len(first))
    second = first.assign(run="second", final_accuracy=first["final_accuracy"] + shift)
    both = pd.concat([first.assign(run="first"), second], ignore_index=True)
    return replace(record, replicates=both)


def estimates_of(record: Record, entry: Entry, **fields: object) -> list[Estimate]:
    """Return the same, all of which are numbers."""
    return estimates(results_of(record, entry, **fields))


def estimates(found: Sequence[Result]) -> list[Estimate]:
    """Return `found`, all of which are numbers."""
    for one in found:
        assert isinstance(one, Estimate), one
    return [one for one in found if isinstance(one, Estimate)]


def shown(results: Sequence[Result]) -> list[tuple[str, bytes | None]]:
    """Return all there is of results: their fields, NaN included, and their draws."""
    draws = (one.draws if isinstance(one, Estimate) else None for one in results)
    return [
        (repr(one), None if drawn is None else drawn.tobytes())
        for one, drawn in zip(results, draws, strict=True)
    ]


@pytest.fixture(scope="module")
def record() -> Record:
    """A record that every example can be estimated from, and with an interval of some width."""
    record = make_record(layers=True)
    rng = np.random.default_rng(5)
    steps, replicates = record.steps, record.replicates
    copies = ("cos_gradient", "cos_half_a", "cos_half_b")
    steps = steps.assign(**dict.fromkeys(copies, steps["cos_update"]))
    for column in (*copies, "cos_update", "norm_trait", "norm_update", "drive_end", "gain"):
        noise = 0.05 * steps[column].std() + 0.005 * steps[column].abs().mean()
        steps[column] += noise * rng.standard_normal(len(steps))
    shift = 1e-3 * rng.standard_normal(len(replicates))
    replicates = replicates.assign(mean_cos_update=replicates["mean_cos_update"] + shift)
    return replace(record, steps=steps, replicates=replicates)


@dataclass(frozen=True)
class Tried:
    """An example of a method, estimated once; what else that has changed."""

    entry: Entry
    results: Sequence[Result]
    same_tables: bool
    same_random_state: bool


@pytest.fixture(scope="module", params=cases())
def tried(request: pytest.FixtureRequest, record: Record) -> Tried:
    entry = {**request.param, "assumptions": [ASSUMPTION]}
    tables = (record.replicates, record.steps, record.layers)
    copies, state = [table.copy(deep=True) for table in tables], random_state()
    results = results_of(record, entry)
    same = all(table.equals(copy) for table, copy in zip(tables, copies, strict=True))
    return Tried(entry, results, same, random_state() == state)


def random_state() -> bytes:
    """Return where numpy's global random numbers are."""
    return np.random.get_state()[1].tobytes()  # type: ignore[index]


def test_every_method_has_an_example() -> None:
    assert set(EXAMPLES) == set(METHODS)


def test_the_results_have_the_declared_endings(tried: Tried) -> None:
    endings = plan_of(tried.entry).estimands[0].endings()
    names = [one.estimand.name for one in estimates(tried.results)]
    assert len(set(names)) == len(names) > 0
    if endings is None:
        assert all(name.startswith("x_") for name in names)
    else:
        assert sorted(names) == sorted(f"x_{ending}" if ending else "x" for ending in endings)


def test_results_carry_the_plans_words(tried: Tried) -> None:
    for one in estimates(tried.results):
        assert ASSUMPTION in one.estimand.assumptions
        assert one.estimand.sentence
        assert one.estimand.outcome
        assert one.method


def test_a_result_does_not_depend_on_what_was_estimated_before(
    tried: Tried, record: Record
) -> None:
    plan, record = plan_of(tried.entry), record_for(record, tried.entry)
    one, other = plan.estimands
    _estimate(record, other, plan)
    assert shown(_estimate(record, one, plan)) == shown(tried.results)


def test_the_record_and_numpys_random_numbers_are_left_as_they_are(tried: Tried) -> None:
    assert tried.same_tables
    assert tried.same_random_state


def lacking() -> list[Any]:
    """Return a parameter for each field of each method that names an arm."""
    found = []
    for method, examples in EXAMPLES.items():
        fields = METHODS[method].declaration.model_fields
        for field, absent in ABSENT.items():
            if field in fields and method != "mixed_model":
                entry = {"method": method, **examples[0], **absent}
                found.append(pytest.param(entry, id=f"{method}-{field}"))
    formula = {"method": "mixed_model", **EXAMPLES["mixed_model"][0]}
    return [*found, pytest.param({**formula, "contrast": "arm[T.liminal]"}, id="mixed_model")]


def test_every_method_that_names_an_arm_is_tried_without_it() -> None:
    tried = {parameter.values[0]["method"] for parameter in lacking()}
    assert tried | ALL_ARMS == set(METHODS)


@pytest.mark.parametrize("entry", lacking())
def test_an_absent_arm_is_a_result_with_a_reason(entry: Entry, record: Record) -> None:
    (found,) = results_of(record, entry)
    assert isinstance(found, NotEstimable)
    assert "liminal" in found.reason or found.estimand.arm == "liminal"
    assert found.reason


@pytest.fixture(scope="module", params=["one arm", "no complete run", "two seeds"])
def little(request: pytest.FixtureRequest, record: Record) -> tuple[str, Record]:
    """Return what is left of a record, in words and as a record."""
    left: str = request.param
    replicates, steps, layers = record.replicates, record.steps, record.layers
    if left == "no complete run":
        replicates = replicates.assign(status="diverged")
        steps, layers = steps[:0], layers[:0]
    else:
        column, kept = ("arm", ["baseline"]) if left == "one arm" else ("seed", [0, 1])
        replicates, steps, layers = (
            table[table[column].isin(kept)].reset_index(drop=True)
            for table in (replicates, steps, layers)
        )
    arms = tuple(arm for arm in record.arms if arm in set(replicates["arm"]))
    return left, replace(record, arms=arms, replicates=replicates, steps=steps, layers=layers)


@pytest.mark.parametrize("entry", cases(without=DESCRIPTIVE))
def test_too_little_data_raises_nothing(entry: Entry, little: tuple[str, Record]) -> None:
    left, few = little
    found = results_of(few, entry)
    if left != "one arm":
        assert found
        assert all(isinstance(one, NotEstimable) for one in found)
    assert all(one.reason for one in found if isinstance(one, NotEstimable))


@pytest.mark.parametrize("entry", cases(without=("equivalence", "run_equivalence", *DESCRIPTIVE)))
def test_the_interval_has_the_plans_level(entry: Entry, record: Record) -> None:
    narrow, wide = (estimates_of(record, entry, level=level) for level in (0.9, 0.99))
    assert {one.level for one in narrow} == {0.9}
    assert {one.level for one in wide} == {0.99}
    for one, other in zip(narrow, wide, strict=True):
        assert one.value == other.value
        assert other.low <= one.low <= one.high <= other.high
        assert other.width > one.width


def test_the_interval_of_an_equivalence_has_the_level_of_its_tests(record: Record) -> None:
    entry = {"method": "equivalence", **EXAMPLES["equivalence"][0]}
    (narrow,) = estimates_of(record, {**entry, "alpha": 0.05})
    (wide,) = estimates_of(record, {**entry, "alpha": 0.005})
    assert (narrow.level, wide.level) == pytest.approx((0.9, 0.99))
    assert wide.width > narrow.width


@pytest.fixture(scope="module")
def diverged(record: Record) -> Record:
    """Return a record of which one seed diverged in every arm."""
    lost = record.replicates["seed"] == 3
    status = record.replicates["status"].mask(lost, "diverged")
    return replace(
        record,
        replicates=record.replicates.assign(status=status),
        steps=record.steps[record.steps["seed"] != 3].reset_index(drop=True),
        layers=record.layers[record.layers["seed"] != 3].reset_index(drop=True),
    )


@pytest.mark.parametrize("entry", cases(without=DESCRIPTIVE))
def test_a_diverged_seed_is_counted_as_dropped(entry: Entry, diverged: Record) -> None:
    runs = 1 if entry.get("paired", True) else 2
    for one in estimates_of(diverged, entry):
        assert (one.n_seeds, one.n_dropped) == (runs * (N_SEEDS - 1), runs)
