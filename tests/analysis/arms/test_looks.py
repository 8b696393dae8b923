"""Looks of a stopping rule: p and interval agree, and the error over all looks is kept."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from sublim_causal.analysis.arms.looks import (
    Mean,
    judged_level,
    look_bounds,
    look_p_equivalence,
    look_p_value,
    reached,
    take_look,
)
from sublim_causal.analysis.arms.sequential import nominal_levels
from sublim_causal.analysis.arms.stopping import Stopping, StoppingRule, resolve_rule
from sublim_causal.analysis.estimates.bootstrap import Bounds

STUDIES = 400
BOUNDARIES = ("obrien-fleming", "anytime")


def rule(until: str = "excludes 0", boundary: str = "obrien-fleming", **fields) -> StoppingRule:
    stopping = Stopping(until=until, boundary=boundary, **fields)
    return resolve_rule(stopping, ["baseline", "projection"], "baseline")


def replicates(differences: np.ndarray) -> pd.DataFrame:
    """Return a table of two arms with these paired differences."""
    seeds = np.arange(len(differences))
    return pd.DataFrame(
        {
            "seed": np.tile(seeds, 2),
            "arm": np.repeat(["baseline", "projection"], len(seeds)),
            "status": "complete",
            "final_accuracy": np.concatenate([np.zeros(len(seeds)), differences]),
        }
    )


def at_the_stop(by: StoppingRule, values: np.ndarray) -> Bounds:
    """Return the interval of the look that ends a study with these differences."""
    for place, n in enumerate(by.looks):
        mean = Mean(values[:n].mean(), values[:n].std(ddof=1), n)
        bounds = look_bounds(by, place, mean, judged_level(by))
        if reached(by, bounds):
            break
    return bounds


def stops_with_goal(by: StoppingRule, values: np.ndarray) -> bool:
    """Return whether some look reaches the goal."""
    return reached(by, at_the_stop(by, values))


def below(share: float, hits: int) -> bool:
    """Return whether `hits` of `STUDIES` are no evidence for more than `share`."""
    return hits <= stats.binom.ppf(0.999, STUDIES, share)


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("place", [0, 2, 4])
def test_p_is_the_error_at_which_the_interval_reaches_the_null(boundary, place):
    by, mean = rule(boundary=boundary), Mean(0.4, 0.6, 16)
    p = look_p_value(by, place, mean, 0.1)
    bounds = look_bounds(by, place, mean, 1 - p)
    assert bounds.low == pytest.approx(0.1, abs=1e-9)
    p = look_p_equivalence(by, place, mean, 0.9)
    assert look_bounds(by, place, mean, 1 - 2 * p).high == pytest.approx(0.9, abs=1e-9)
    assert look_p_equivalence(by, place, mean, 0.3) == 1.0


def test_one_look_is_the_usual_test():
    values = np.random.default_rng(0).normal(0.5, 1, 12)
    by, mean = rule(at=(12,)), Mean(values.mean(), values.std(ddof=1), 12)
    expected = stats.ttest_1samp(values, 0)
    assert look_p_value(by, 0, mean) == pytest.approx(expected.pvalue, rel=1e-9)
    interval = expected.confidence_interval()
    assert look_bounds(by, 0, mean, 0.95) == pytest.approx((interval.low, interval.high), rel=1e-9)


def test_a_look_holds_what_was_seen_and_ignores_later_seeds():
    values = np.random.default_rng(1).normal(3, 1, 30)
    by = rule(at=(8, 12, 30))
    look = take_look(by, replicates(values), 1)
    assert look == take_look(by, replicates(values[:12]), 1)
    assert (look.seeds, look.n_pairs, look.value) == (12, 12, values[:12].mean())
    assert look.nominal == nominal_levels(by.looks)[1]
    assert look.reached
    assert look.stop


def test_too_few_pairs_go_on_to_the_last_look():
    by = rule(at=(3, 4))
    table = replicates(np.ones(4)).assign(status="diverged")
    first, last = (take_look(by, table, place) for place in (0, 1))
    assert (first.value, first.stop, last.stop, last.reached) == (None, False, True, False)


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_differences_that_do_not_vary_have_no_p(boundary):
    assert look_p_value(rule(boundary=boundary), 0, Mean(0.1, 0.0, 8)) is None


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_a_null_study_is_stopped_by_chance_as_often_as_the_level_says(boundary):
    rng, by = np.random.default_rng(2), rule(boundary=boundary)
    assert below(0.055, sum(stops_with_goal(by, rng.normal(size=30)) for _ in range(STUDIES)))


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_arms_that_differ_by_the_margin_are_rarely_called_equivalent(boundary):
    rng, by = np.random.default_rng(3), rule("equivalent 0.6", boundary)
    found = sum(stops_with_goal(by, rng.normal(0.6, 1, 30)) for _ in range(STUDIES))
    assert below(0.055, found)


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_the_interval_at_the_stop_covers_where_precision_is_the_goal(boundary):
    rng, by = np.random.default_rng(4), rule("width < 1.3", boundary)
    missed = 0
    for _ in range(STUDIES):
        last = at_the_stop(by, rng.normal(size=30))
        missed += not last.low <= 0 <= last.high
    assert below(0.055, missed)
