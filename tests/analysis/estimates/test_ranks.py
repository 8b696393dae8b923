"""Rank statistics against scipy and scikit-learn, and their bootstrap by cluster."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from sublim_causal.analysis.estimates.ranks import auroc, ranked_by_cluster, spearman


def test_they_equal_those_of_other_packages() -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 8, 60).astype(float)  # with ties
    y = x + rng.normal(0, 3, 60)
    assert spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic)
    assert auroc(x, y > 4) == pytest.approx(roc_auc_score(y > 4, x))
    assert np.isnan(spearman(np.ones(5), np.arange(5.0)))
    assert np.isnan(auroc(x, np.ones(60, dtype=bool)))


def test_clusters_are_drawn_whole() -> None:
    rng = np.random.default_rng(1)
    clusters = np.repeat(np.arange(8), 20)
    shared = np.repeat(rng.normal(size=8), 20)
    x, y = shared + 0.01 * rng.normal(size=160), shared + 0.01 * rng.normal(size=160)
    whole = ranked_by_cluster(x, y, clusters, binary=False, n_boot=300, rng=rng)
    apart = ranked_by_cluster(x, y, np.arange(160), binary=False, n_boot=300, rng=rng)
    assert whole.se > 2 * apart.se
    low, high = whole.interval(0.9)
    assert low < whole.value <= 1
    assert high <= 1
