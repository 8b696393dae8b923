"""Paired contrasts against R's t.test and p.adjust, and their rules."""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from sublim_causal.analysis.arms.contrasts import arm_contrasts, paired_arms, paired_contrast
from sublim_causal.analysis.arms.multiplicity import holm, sign_flip_max_t
from sublim_causal.analysis.estimates.settings import Settings
from sublim_causal.analysis.estimates.types import NotEstimable
from sublim_causal.errors import DataError, RequestError

ARMS = ["projection", "liminal", "shuffled"]
EXACT = 1e-8  # closed forms: only the rounding of the committed CSV (10 digits) differs


@pytest.mark.parametrize("arm", ARMS)
def test_paired_t_equals_r(golden_runs, arm):
    r = golden_runs.r["paired_vs_baseline"][arm]
    ours = paired_contrast(golden_runs.data, "gain", arm, settings=Settings(interval="t"))
    assert ours.value == pytest.approx(r["mean"], rel=EXACT)
    assert ours.se == pytest.approx(r["se"], rel=EXACT)
    assert (ours.low, ours.high) == pytest.approx(r["ci95"], rel=EXACT)
    assert ours.df == r["df"]
    assert ours.p_value == pytest.approx(
        r["p"], rel=1e-7
    )  # far tail: relative error grows with t^2
    assert ours.diagnostics["cohen_dz"] == pytest.approx(r["dz"], rel=EXACT)
    assert ours.n_seeds == r["n"]
    assert ours.method == "paired t"


def test_ninety_percent_interval_equals_r(golden_runs):
    ours = paired_contrast(golden_runs.data, "gain", "liminal", settings=Settings(0.9, "t"))
    r = golden_runs.r["paired_vs_baseline"]["liminal"]["ci90"]
    assert (ours.low, ours.high) == pytest.approx(r, rel=EXACT)


def test_holm_equals_r(golden_runs):
    results = arm_contrasts(
        golden_runs.data, "gain", ARMS, adjust="holm", settings=Settings(interval="t")
    )
    for arm, ours in zip(ARMS, results, strict=True):
        assert ours.diagnostics["p_adjusted"] == pytest.approx(golden_runs.r["holm"][arm], rel=1e-7)


def test_holm_ignores_what_has_no_p():
    adjusted = holm(np.array([0.01, np.nan, 0.04, 0.03]))
    assert np.isnan(adjusted[1])
    assert adjusted[[0, 2, 3]] == pytest.approx([0.03, 0.06, 0.06])


def test_hedges_factor_is_the_exact_one():
    frame = two_arms(np.array([1.0, 2.0, 4.0, 5.0, 7.0]))
    d = paired_contrast(frame, "y", "a", "b").diagnostics
    assert d["hedges_gz"] / d["cohen_dz"] == pytest.approx(0.7978845608)  # sqrt(2 / pi), df 4


def two_arms(differences: np.ndarray) -> pd.DataFrame:
    seeds = np.arange(len(differences))
    base = np.sin(seeds)
    return pd.concat(
        [
            pd.DataFrame({"seed": seeds, "arm": "a", "y": base + differences}),
            pd.DataFrame({"seed": seeds, "arm": "b", "y": base}),
        ]
    )


def test_exact_sign_flips_equal_plain_enumeration():
    rng = np.random.default_rng(3)
    d = rng.normal(0.4, 1, size=(6, 3))

    def t(x):
        return np.abs(x.mean(0) / (x.std(0, ddof=1) / np.sqrt(len(x))))

    observed = t(d)
    order = np.argsort(-observed)
    flips = [t(d * np.array(s)[:, None]) for s in itertools.product([1, -1], repeat=6)]
    expected, floor = np.empty(3), 0.0
    for i, k in enumerate(order):
        largest = np.array([f[order[i:]].max() for f in flips])
        floor = max(floor, np.mean(largest >= observed[k] - 1e-9))
        expected[k] = floor
    assert sign_flip_max_t(d) == pytest.approx(expected)


def test_one_arm_sign_flip_is_the_plain_permutation_test():
    d = np.random.default_rng(5).normal(0.5, 1, size=(10, 1))
    scipy = stats.permutation_test(
        (d[:, 0],), np.mean, permutation_type="samples", n_resamples=np.inf
    )
    assert sign_flip_max_t(d)[0] == pytest.approx(scipy.pvalue)


def test_monte_carlo_flips_agree_with_t_and_are_never_zero():
    d = np.random.default_rng(7).normal(0.35, 1, size=(40, 1))
    p = sign_flip_max_t(d, n_flips=9999)[0]
    assert p == pytest.approx(stats.ttest_1samp(d[:, 0], 0).pvalue, abs=0.02)
    assert sign_flip_max_t(d + 10)[0] == pytest.approx(1 / 10000)


def test_sign_flip_skips_what_cannot_be_tested():
    d = np.array([[1.0, np.nan, 0.0], [2.0, np.nan, 0.0], [1.5, 3.0, 0.0]])
    p = sign_flip_max_t(d)
    assert np.isfinite(p[0])
    assert np.isnan(p[1:]).all()


def test_family_wise_error_of_sign_flips_is_bounded():
    rng = np.random.default_rng(11)
    false = sum(
        sign_flip_max_t(rng.normal(size=(8, 3)) + rng.normal(size=(8, 1))).min() <= 0.05
        for _ in range(400)
    )
    assert false <= stats.binom.ppf(0.999, 400, 0.05)


def test_seeds_that_cannot_be_paired_are_dropped_and_counted():
    frame = two_arms(np.arange(6.0)).reset_index(drop=True)
    frame["status"] = "complete"
    frame.loc[0, "status"] = "diverged"
    frame.loc[7, "y"] = np.nan
    frame = frame.drop(index=2)
    panel = paired_arms(frame, "y", "a", "b")
    assert list(panel.seeds) == [3, 4, 5]
    assert panel.difference("y", "a", "b") == pytest.approx([3, 4, 5])
    assert panel.dropped == {"a diverged": 1, "a missing": 1, "b without outcome": 1}
    assert paired_contrast(frame, "y", "a", "b").n_dropped == 3


def test_two_seeds_are_not_estimable():
    result = paired_contrast(two_arms(np.array([1.0, 2.0])), "y", "a", "b")
    assert isinstance(result, NotEstimable)
    assert "2 complete seeds" in result.reason


def test_unknown_arm_names_the_nearest():
    with pytest.raises(RequestError, match="did you mean 'projection'"):
        paired_contrast(
            pd.DataFrame({"seed": [0, 0], "arm": ["baseline", "projection"], "y": [0.0, 1.0]}),
            "y",
            "projektion",
        )


def test_a_seed_twice_in_an_arm_is_refused():
    frame = two_arms(np.arange(4.0))
    with pytest.raises(DataError, match="one row per seed and arm"):
        paired_arms(pd.concat([frame, frame]), "y", "a", "b")


@given(
    arrays(float, (7, 3), elements=st.floats(-10, 10).map(lambda x: round(x, 3))),
    st.floats(0.1, 100),
)
def test_sign_flip_p_ignores_scale_and_direction(d, scale):
    p = sign_flip_max_t(d)
    np.testing.assert_allclose(sign_flip_max_t(-scale * d), p, equal_nan=True)
    assert ((p[np.isfinite(p)] >= 2 / 2**7) & (p[np.isfinite(p)] <= 1)).all()


@settings(max_examples=20, deadline=None)
@given(arrays(float, 5, elements=st.floats(0, 1)))
def test_holm_lies_between_p_and_bonferroni_and_keeps_the_order(p):
    adjusted = holm(p)
    assert (adjusted >= p).all()
    assert (adjusted <= np.minimum(5 * p, 1) + 1e-15).all()
    assert (np.diff(adjusted[np.argsort(p, kind="stable")]) >= 0).all()
