"""The cluster bootstrap against R's boot, and against what must not change it."""

import numpy as np
import pytest

from sublim_causal.analysis.arms.contrasts import paired_arms
from sublim_causal.analysis.estimates.bootstrap import (
    ClusterMean,
    ClusterRatio,
    cluster_bootstrap,
    multiplicities,
)
from sublim_causal.errors import RequestError


@pytest.mark.parametrize("arm", ["projection", "liminal", "shuffled"])
def test_intervals_agree_with_r_boot(golden_runs, arm):
    r = golden_runs.r["paired_vs_baseline"][arm]
    d = paired_arms(golden_runs.data, "gain", arm).difference("gain", arm, "baseline")
    drawn = cluster_bootstrap(ClusterMean(d), n_boot=9999)
    # Both are Monte Carlo with 9999 draws: a 2.5 % quantile errs by 0.04 se at most, so 0.22 se is
    # four standard errors of their difference.
    assert drawn.interval(0.95) == pytest.approx(r["boot_mc"]["stud"], abs=0.22 * r["se"])
    assert drawn.se == pytest.approx(r["se"], rel=1e-8)
    d_bar = drawn.jackknife.mean() - drawn.jackknife
    acceleration = (d_bar**3).sum() / (6 * (d_bar**2).sum() ** 1.5)
    assert acceleration == pytest.approx(r["accel"], abs=1e-8)


@pytest.mark.parametrize("batch", [1, 7, 500, 10_000])
def test_batch_changes_memory_and_not_one_number(batch):
    statistic = ClusterMean(np.random.default_rng(0).normal(size=12))
    whole = cluster_bootstrap(statistic, n_boot=501, rng=3)
    parts = cluster_bootstrap(statistic, n_boot=501, rng=3, batch=batch)
    # A matrix product may sum in another order in another shape.
    np.testing.assert_allclose(parts.values, whole.values, rtol=1e-13)
    np.testing.assert_allclose(parts.ses, whole.ses, rtol=1e-12)


def test_a_generator_moves_on():
    rng = np.random.default_rng(1)
    statistic = ClusterMean(np.arange(9.0))
    first, second = (cluster_bootstrap(statistic, n_boot=50, rng=rng) for _ in range(2))
    assert (first.values != second.values).any()


def test_one_sided_p_values_share_the_draws_that_tie():
    drawn = cluster_bootstrap(ClusterMean(np.random.default_rng(3).normal(size=9)), n_boot=199)
    more, less = drawn.one_sided(0.3)
    assert more + less == pytest.approx(201 / 200)  # no pivot ties with a value off the data
    assert drawn.p_value(0.3) == 2 * min(more, less)


def test_multiplicities_add_up_to_the_clusters():
    drawn = multiplicities(np.random.default_rng(0), 200, 9)
    assert (drawn.sum(axis=1) == 9).all()
    assert drawn.mean(axis=0) == pytest.approx(np.ones(9), abs=0.3)  # sd of a mean is 0.067


def test_mean_is_safe_from_cancellation():
    far = cluster_bootstrap(ClusterMean(np.arange(8.0) + 1e8), n_boot=99)
    near = cluster_bootstrap(ClusterMean(np.arange(8.0)), n_boot=99)
    assert far.se == pytest.approx(near.se, rel=1e-12)
    np.testing.assert_allclose(far.ses, near.ses, atol=1e-8)


def test_ratio_with_constant_denominators_is_the_mean():
    x = np.random.default_rng(2).normal(size=10)
    ratio, mean = ClusterRatio(3 * x, np.full(10, 3.0)), ClusterMean(x)
    weights = multiplicities(np.random.default_rng(0), 50, 10)
    np.testing.assert_allclose(ratio(weights).values, mean(weights).values, rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(ratio(weights).ses, mean(weights).ses, rtol=1e-10)


@pytest.mark.parametrize("denominators", [[1.0, -1.0, 0.0, 1.0], [1e-320, -1e-320, 0, 1.0]])
def test_a_replicate_whose_denominator_is_near_zero_has_no_value(denominators):
    ratio = ClusterRatio(np.array([1.0, 2.0, 3.0, 4.0]), np.array(denominators))
    weights = np.array([[2.0, 2.0, 0.0, 0.0], [0.0, 0.0, 4.0, 0.0], [1.0, 1.0, 1.0, 1.0]])
    drawn = ratio(weights)
    np.testing.assert_array_equal(np.isnan(drawn.values), [True, True, False])
    np.testing.assert_array_equal(np.isnan(drawn.ses), [True, True, False])
    assert cluster_bootstrap(ratio, n_boot=99).n_failed > 0


def test_p_is_never_zero_and_one_at_the_estimate():
    drawn = cluster_bootstrap(
        ClusterMean(np.random.default_rng(0).normal(9, 1, size=20)), n_boot=999
    )
    assert drawn.p_value(0.0) == pytest.approx(2 / 1000)
    assert drawn.p_value(drawn.value) > 0.9


def test_three_clusters_leave_the_interval_unbounded():
    low, high = cluster_bootstrap(ClusterMean(np.array([1.0, 2.0, 4.0]))).interval()
    assert (low, high) == (-np.inf, np.inf)


def test_wrong_requests_are_refused():
    drawn = cluster_bootstrap(ClusterMean(np.arange(5.0)), n_boot=10)
    with pytest.raises(RequestError, match="level"):
        drawn.interval(95)
    with pytest.raises(RequestError, match="n_boot"):
        cluster_bootstrap(ClusterMean(np.arange(5.0)), n_boot=0)
    with pytest.raises(RequestError, match="batch"):
        cluster_bootstrap(ClusterMean(np.arange(5.0)), batch=0)


class Singular:
    """A mean that cannot be computed where cluster 0 was not drawn."""

    n_clusters = 6

    def __call__(self, weights):
        if (weights[:, 0] == 0).any():
            raise np.linalg.LinAlgError
        return ClusterMean(np.array([1.0, 2.0, 4.0, 5.0, 7.0, 9.0]))(weights)


def test_singular_replicates_are_left_out_and_counted():
    drawn = cluster_bootstrap(Singular(), n_boot=2000)
    absent = (5 / 6) ** 6
    assert drawn.n_failed == pytest.approx(2000 * absent, abs=4 * np.sqrt(2000 * absent / 3))
    assert np.isnan(drawn.jackknife[0])
    assert drawn.interval().low < drawn.value < drawn.interval().high
    assert len(drawn.pivots) == 2000 - drawn.n_failed
