"""Specificity: against least squares, its permutations, and its interval in a simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from sublim_causal.analysis.arms.specificity import (
    Matrix,
    centred,
    gamma,
    jackknife,
    permutation_p,
    permuted,
)

KINDS = 16


def simulated(
    rng: np.random.Generator, true: float, seeds: int, arms: int = 1, *, alike: bool = False
) -> Matrix:
    """Return lifts with column and row effects, errors that traits share, and gamma by seed.

    Seeds are taught traits as those of the task `preference`, or all the same.
    """
    first = np.zeros(seeds, int) if alike else 5 * np.arange(seeds) + 3
    kinds = (first[:, None] + 7 * np.arange(arms)) % KINDS
    taught = np.arange(KINDS) == kinds[:, :, None]
    shared = rng.normal(size=(seeds, 1, 2)) @ rng.normal(size=(2, KINDS))
    noise = rng.standard_t(5, size=taught.shape) + shared + rng.normal(size=(seeds, 1, KINDS))
    rows, columns = rng.normal(size=(seeds, arms, 1)), rng.normal(size=KINDS)
    by_seed = true + 0.2 * true * rng.normal(size=(seeds, 1, 1))
    return Matrix(rows + columns + 0.5 * noise + by_seed * taught, taught)


def interval(matrix: Matrix) -> tuple[float, float]:
    value, left_out, n = gamma(matrix), jackknife(matrix), len(matrix.lift)
    half = stats.t.isf(0.025, n - 1) * np.sqrt((n - 1) / n * ((left_out - value) ** 2).sum())
    return value - half, value + half


@pytest.mark.parametrize(("seeds", "arms"), [(5, 1), (4, 3)])
def test_gamma_is_the_least_squares_coefficient(seeds: int, arms: int) -> None:
    matrix = simulated(np.random.default_rng(0), 2.0, seeds, arms)
    runs = seeds * arms
    row = np.kron(np.eye(runs), np.ones((KINDS, 1)))
    column = np.kron(np.ones((runs, 1)), np.eye(KINDS))
    design = np.column_stack([matrix.taught.ravel(), row, column])
    expected = np.linalg.lstsq(design, matrix.lift.ravel(), rcond=None)[0][0]
    assert gamma(matrix) == pytest.approx(expected, rel=1e-9)


def test_row_and_column_effects_make_no_difference() -> None:
    rng = np.random.default_rng(1)
    one = simulated(rng, 2.0, 8)
    moved = Matrix(one.lift + rng.normal(size=(8, 1, 1)) + rng.normal(size=KINDS), one.taught)
    assert gamma(moved) == pytest.approx(gamma(one), rel=1e-9)
    np.testing.assert_allclose(jackknife(moved), jackknife(one), rtol=1e-9)


def test_what_all_runs_were_taught_is_no_contrast() -> None:
    matrix = simulated(np.random.default_rng(2), 2.0, 6, alike=True)
    assert np.isnan(gamma(matrix))
    assert not centred(matrix.taught).any()


@pytest.mark.parametrize(("seeds", "arms", "alike"), [(4, 1, False), (4, 2, True)])
def test_whole_runs_exchange_what_they_were_taught(seeds: int, arms: int, alike: bool) -> None:
    matrix = simulated(np.random.default_rng(3), 0.0, seeds, arms, alike=alike)
    draws = permuted(matrix, 400, np.random.default_rng(4))
    assert np.isclose(draws, gamma(matrix)).any()
    assert len(np.unique(draws.round(9))) == (24 if arms == 1 else 16)
    assert draws.mean() == pytest.approx(0, abs=4 * draws.std() / 20)
    again = permuted(matrix, 400, np.random.default_rng(4))
    assert np.array_equal(draws, again)


def test_the_matrix_holds_mean_lifts_where_a_trait_was_taught() -> None:
    lift = np.arange(12.0).reshape(3, 1, 4)
    taught = np.arange(4) == np.array([1, 1, 3])[:, None, None]
    found = Matrix(lift, taught).by_taught()
    np.testing.assert_array_equal(found[1], [2, 3, 4, 5])
    np.testing.assert_array_equal(found[3], [8, 9, 10, 11])
    assert np.isnan(found[[0, 2]]).all()


def test_the_p_value_is_never_zero() -> None:
    assert permutation_p(3.0, np.zeros(99)) == 0.01
    assert permutation_p(-1.0, np.array([1.0, 0.0, -2.0])) == 0.75


@pytest.mark.slow
@pytest.mark.parametrize(("seeds", "arms", "alike"), [(8, 1, False), (12, 1, False), (4, 4, True)])
def test_the_interval_covers_and_the_test_has_its_level(seeds: int, arms: int, alike: bool) -> None:
    rng, runs = np.random.default_rng(5), 1000
    covered = rejected = 0
    for _ in range(runs):
        low, high = interval(simulated(rng, 2.0, seeds, arms, alike=alike))
        covered += low <= 2.0 <= high
        null = simulated(rng, 0.0, seeds, arms, alike=alike)
        rejected += permutation_p(gamma(null), permuted(null, 199, rng)) <= 0.05
    assert stats.binomtest(covered, runs, 0.95, "less").pvalue > 0.001
    assert stats.binomtest(rejected, runs, 0.05).pvalue > 0.001
