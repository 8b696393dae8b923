"""Models whose variance components the data cannot tell apart, and those they can."""

import numpy as np
import pandas as pd
import pytest

from sublim_causal.analysis.mixed.design.chunks import column_kinds
from sublim_causal.analysis.mixed.design.crossproducts import accumulate
from sublim_causal.analysis.mixed.design.identifiability import gram_matrices
from sublim_causal.analysis.mixed.design.model import build_design
from sublim_causal.analysis.mixed.fit import fit_mixed
from sublim_causal.analysis.mixed.formula.terms import parse_formula
from sublim_causal.errors import DataError
from tests.analysis.mixed.test_fit import SLOPE, gappy, simulate


def dense_gram(data: pd.DataFrame, *, arm_variances: bool) -> np.ndarray:
    """tr(M G_r M G_s) of `SLOPE` from n x n matrices, columns in the data's units."""
    n = len(data)
    dummies = [data["arm"] == arm for arm in ("liminal", "projection")]
    x = np.column_stack([np.ones(n), *dummies, data["alignment"]]).astype(float)
    same_seed = np.equal.outer(data["seed"].to_numpy(), data["seed"].to_numpy())
    same_run = same_seed & np.equal.outer(data["arm"].to_numpy(), data["arm"].to_numpy())
    z = x[:, [0, -1]]
    entries = [(0, 0), (1, 0), (1, 1)]
    patterns = [
        same_seed * (np.outer(z[:, i], z[:, j]) + (i != j) * np.outer(z[:, j], z[:, i]))
        for i, j in entries
    ]
    patterns.append(same_run.astype(float))
    arms = ["baseline", "liminal", "projection"]
    patterns += [np.diag((data["arm"] == a).astype(float)) for a in arms] * arm_variances
    patterns += [np.eye(n)] * (not arm_variances)
    m = np.eye(n) - x @ np.linalg.solve(x.T @ x, x.T)
    projected = [m @ g @ m for g in patterns]
    return np.array([[np.trace(a @ b) for b in projected] for a in projected])


@pytest.mark.parametrize("arm_variances", [False, True])
def test_the_gram_matrix_is_that_of_the_covariance_patterns(arm_variances: bool) -> None:
    data = gappy(simulate(5, 6))
    parsed = parse_formula(SLOPE, column_kinds(data))
    design = build_design(accumulate(data, parsed), parsed, arm_variances=arm_variances)
    _, found = gram_matrices(design)
    expected = dense_gram(data, arm_variances=arm_variances)
    # Entries of a block change with its scaled columns: the raw patterns in terms of those.
    inverse = np.linalg.inv(design.blocks[0].back)
    size = len(found)
    change = np.eye(size)
    pairs = [(0, 0), (1, 0), (1, 1)]
    for row, (i, j) in enumerate(pairs):
        e = np.zeros((2, 2))
        e[i, j] = e[j, i] = 1.0
        scaled = inverse @ e @ inverse.T
        change[row, :3] = [scaled[k, m] for k, m in pairs]
    np.testing.assert_allclose(change @ found @ change.T, expected, rtol=1e-8, atol=1e-8)


def frame(seeds: int, arms: str, steps: int) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = [(s, a, t) for s in range(seeds) for a in arms for t in range(steps)]
    data = pd.DataFrame(rows, columns=["seed", "arm", "step"])
    n = len(data)
    return data.assign(
        x=rng.normal(size=n),
        between=rng.normal(size=seeds)[data["seed"]],
        y=rng.normal(size=n) + rng.normal(size=seeds)[data["seed"]],
    )


@pytest.mark.parametrize(
    ("data", "formula", "says"),
    [
        (frame(18, "a", 2), "y ~ x + (x | seed)", "36 random effects .* for 36 rows"),
        (frame(18, "a", 2), "y ~ x + (x || seed)", "36 random effects"),
        (frame(18, "a", 1), "y ~ 1 + (1 | seed)", "18 random effects"),
        (frame(8, "ab", 1), "y ~ arm + (1 | seed) + (1 | seed:arm)", "16 random effects"),
        (frame(8, "ab", 1), "y ~ arm + (1 | seed/arm)", "16 random effects"),
        (frame(8, "a", 9), "y ~ x + (1 | seed/arm)", "variance of seed:arm apart"),
        (frame(8, "ab", 9), "y ~ x + (between | seed)", "between does not vary within"),
        (frame(8, "ab", 9), "y ~ x + (between || seed)", "between does not vary within"),
        (frame(8, "a", 9), "y ~ x + (C(arm) + x | seed)", "arm has one level"),
        (frame(8, "a", 9), "y ~ arm * x + (1 | seed)", "arm has one level"),
        (frame(8, "ab", 9), "y ~ C(seed) + x + (1 | seed)", "from the fixed effects"),
        (frame(2, "ab", 9), "y ~ between + (1 | seed)", "from the fixed effects"),
        (frame(8, "ab", 9).query("arm == 'a' or seed == 0"), "y ~ x + (arm | seed)", "vary"),
    ],
)
def test_what_the_data_cannot_tell_apart_is_refused(
    data: pd.DataFrame, formula: str, says: str
) -> None:
    with pytest.raises(DataError, match=says):
        fit_mixed(data, formula)


@pytest.mark.parametrize(
    ("data", "formula"),
    [
        (frame(18, "ab", 2), "y ~ x + (x | seed)"),
        (frame(18, "ab", 2), "y ~ x + (1 | seed/arm)"),
        (frame(8, "ab", 1), "y ~ arm + (1 | seed)"),
        (frame(8, "a", 9), "y ~ x + (1 | seed:arm)"),
        (frame(8, "a", 9), "y ~ 0 + arm + (1 | seed)"),
        (frame(18, "ab", 2), "y ~ x + (x | seed) + (1 | seed:arm)"),
        (frame(8, "ab", 9), "y ~ between + (x || seed)"),
        (frame(8, "abc", 3).query("seed % 3 != step"), "y ~ arm + (arm | seed)"),
        (frame(3, "ab", 9), "y ~ between + (1 | seed)"),
    ],
)
def test_what_the_data_can_tell_apart_is_fitted(data: pd.DataFrame, formula: str) -> None:
    assert np.isfinite(fit_mixed(data, formula).se).all()


def test_serial_correlation_needs_runs_of_two_rows() -> None:
    with pytest.raises(DataError, match="no run has two rows"):
        fit_mixed(frame(8, "ab", 1), "y ~ x + (1 | seed:arm)", residual="ar1")
    with pytest.raises(DataError, match="three rows"):
        fit_mixed(frame(8, "ab", 2), "y ~ x + (1 | seed:arm)", residual="ar1")
