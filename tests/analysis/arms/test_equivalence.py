"""Equivalence against R's one-sided t.test, and its size at the margin."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from sublim_causal.analysis.arms.equivalence import tost
from sublim_causal.analysis.estimates.settings import Settings
from sublim_causal.errors import RequestError


def two_arms(differences: np.ndarray) -> pd.DataFrame:
    seeds = np.arange(len(differences))
    return pd.concat(
        [
            pd.DataFrame({"seed": seeds, "arm": "shuffled", "y": differences}),
            pd.DataFrame({"seed": seeds, "arm": "baseline", "y": 0.0}),
        ]
    )


@pytest.mark.parametrize("arm", ["projection", "liminal", "shuffled"])
def test_tost_equals_r(golden_runs, arm):
    r = golden_runs.r["paired_vs_baseline"][arm]["tost"]
    ours = tost(golden_runs.data, "gain", arm, margin=r["margin"], settings=Settings(interval="t"))
    assert ours.diagnostics["t_lower"] == pytest.approx(r["t_lower"], rel=1e-8)
    assert ours.diagnostics["t_upper"] == pytest.approx(r["t_upper"], rel=1e-8)
    assert ours.diagnostics["p_lower"] == pytest.approx(r["p_lower"], rel=1e-7)
    assert ours.diagnostics["p_upper"] == pytest.approx(r["p_upper"], rel=1e-7)
    assert ours.p_value == pytest.approx(r["p"], rel=1e-7)
    assert (ours.low, ours.high) == pytest.approx(
        golden_runs.r["paired_vs_baseline"][arm]["ci90"], rel=1e-8
    )
    assert not ours.diagnostics["equivalent"]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("interval", ["t", "bootstrap-t", "auto"])
def test_the_verdict_of_p_and_of_the_interval_agree(seed, interval):
    rng = np.random.default_rng(seed)
    skewed = 0.4 * (rng.exponential(size=14) - 1)
    frame = two_arms(skewed if interval == "auto" else rng.normal(0.0, 1, size=14))
    ours = tost(frame, "y", "shuffled", margin=0.55, settings=Settings(interval=interval))
    assert ours.level == pytest.approx(0.9)
    assert (ours.p_value < 0.05) == ours.diagnostics["equivalent"]


def test_the_wide_interval_is_the_usual_one():
    d = np.random.default_rng(0).normal(size=12)
    ours = tost(
        two_arms(d), "y", "shuffled", margin=1.0, settings=Settings(interval="t")
    ).diagnostics
    expected = stats.ttest_1samp(d, 0).confidence_interval(0.95)
    assert (ours["wide_low"], ours["wide_high"]) == pytest.approx(tuple(expected))


def test_size_at_the_margin_is_the_level():
    rng = np.random.default_rng(1)
    rejected = sum(
        tost(
            two_arms(rng.normal(0.8, 1, size=30)),
            "y",
            "shuffled",
            margin=0.8,
            settings=Settings(interval="t", n_boot=19),
        ).p_value
        < 0.05
        for _ in range(300)
    )
    low, high = stats.binom.ppf([0.0005, 0.9995], 300, 0.05)
    assert low <= rejected <= high


def test_arms_that_never_differ_are_equivalent():
    ours = tost(two_arms(np.zeros(9)), "y", "shuffled", margin=0.01)
    assert ours.diagnostics["equivalent"]
    assert ours.value == 0.0


def test_the_summary_says_the_verdict():
    same = tost(two_arms(np.linspace(-0.01, 0.01, 9)), "y", "shuffled", margin=0.05)
    far = tost(two_arms(np.linspace(-1, 1, 9)), "y", "shuffled", margin=0.05)
    assert same.summary().endswith(": equivalent within a margin of 0.05")
    assert far.summary().endswith(": not shown to be equivalent within a margin of 0.05")


def test_wrong_requests_are_refused():
    frame = two_arms(np.arange(5.0))
    with pytest.raises(RequestError, match="margin"):
        tost(frame, "y", "shuffled", margin=0.0)
    with pytest.raises(RequestError, match="alpha"):
        tost(frame, "y", "shuffled", margin=1.0, alpha=0.5)
