"""The slope within runs and steps is free of training time, and its interval covers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from sublim_causal.analysis.estimates.types import Estimate, NotEstimable
from sublim_causal.analysis.steps.two_way import two_way, two_way_slope
from sublim_causal.errors import DataError, RequestError


def simulate(
    rng: np.random.Generator,
    *,
    seeds: int = 8,
    arms: int = 3,
    steps: int = 60,
    slope: float = 0.0,
    shared: float = 0.0,
) -> pd.DataFrame:
    """Alignment and gain that decline together; `shared` is the minibatch that arms share."""
    time = np.arange(steps)
    decay = 20 * np.exp(0.3 * rng.standard_normal((seeds, arms, 1)))
    trend = np.exp(-time / decay)
    batch = shared * rng.standard_normal((seeds, 1, steps))
    x = 0.04 + 0.06 * trend + batch + 0.03 * rng.standard_normal((seeds, arms, steps))
    noise = 0.006 * rng.standard_normal(x.shape)
    common = 0.001 + 0.009 * np.exp(-time / 20) + 0.2 * batch
    seed, arm, step = (index.ravel() for index in np.indices(x.shape))
    y = (common + slope * x + noise).ravel()
    return pd.DataFrame(
        {"seed": seed, "arm": np.char.add("arm", arm.astype(str)), "step": step}
        | {"x": x.ravel(), "y": y}
    )


@pytest.mark.parametrize("complete", [True, False])
def test_agrees_with_dummies_for_every_effect(complete: bool) -> None:
    rng = np.random.default_rng(1)
    steps = simulate(rng, seeds=4, arms=2, steps=6, slope=0.3)
    if not complete:
        steps = steps[rng.random(len(steps)) > 0.2]
    pairs = (["seed", "arm"], ["arm", "step"], ["seed", "step"])
    dummies = [pd.get_dummies(steps[pair].astype(str).agg(" ".join, axis=1)) for pair in pairs]
    design = np.column_stack([steps["x"], *dummies]).astype(float)
    params = np.linalg.lstsq(design, steps["y"], rcond=None)[0]
    assert two_way(steps, "y", "x").slope == pytest.approx(params[0], rel=1e-7)


def test_one_arm_agrees_with_cr2_of_the_full_design() -> None:
    """CR2 by its definition, on a design with dummies for runs and steps."""
    steps = simulate(np.random.default_rng(2), seeds=5, arms=1, steps=4)
    dummies = pd.get_dummies(steps["seed"], prefix="r"), pd.get_dummies(steps["step"], prefix="t")
    design = pd.concat([steps[["x"]], *(d.iloc[:, i:] for i, d in enumerate(dummies))], axis=1)
    X, y = design.to_numpy(float), steps["y"].to_numpy()
    bread = np.linalg.inv(X.T @ X)
    residual = y - X @ (bread @ X.T @ y)
    variance, a_of, maker = 0.0, [], np.eye(len(y)) - X @ bread @ X.T
    for seed in range(5):
        rows = np.flatnonzero(steps["seed"] == seed)
        values, vectors = np.linalg.eigh(maker[np.ix_(rows, rows)])
        root = np.where(values > 1e-9, 1 / np.sqrt(np.maximum(values, 1e-9)), 0.0)
        adjust = vectors * root @ vectors.T
        a = np.zeros(len(y))
        a[rows] = adjust @ X[rows] @ bread[:, 0]
        a_of.append(a)
        variance += float(a @ residual) ** 2
    omega = np.array([[one @ maker @ other for other in a_of] for one in a_of])
    se, df = two_way(steps, "y", "x").robust()
    assert se == pytest.approx(np.sqrt(variance), rel=1e-9)
    assert df == pytest.approx(np.trace(omega) ** 2 / (omega**2).sum(), rel=1e-9)


@pytest.mark.parametrize(("slope", "shared"), [(0.0, 0.0), (0.08, 0.0), (0.0, 0.03)])
def test_covers_where_training_time_or_a_minibatch_moves_both(slope: float, shared: float) -> None:
    rng = np.random.default_rng(3)
    covered = 0
    for _ in range(200):
        found = two_way_slope(simulate(rng, slope=slope, shared=shared), "y", "x")
        assert isinstance(found, Estimate)
        covered += found.low <= slope <= found.high
    assert stats.binomtest(covered, 200, 0.95).pvalue > 1e-3


def test_what_cannot_be_estimated() -> None:
    rng = np.random.default_rng(4)
    steps = simulate(rng, seeds=2)
    assert isinstance(two_way_slope(steps, "y", "x"), NotEstimable)
    steps = simulate(rng, arms=1)
    with pytest.raises(DataError, match="does not vary"):
        two_way_slope(steps.assign(x=steps["step"] / 7 + steps["seed"] / 3), "y", "x")
    with pytest.raises(RequestError, match="z"):
        two_way_slope(steps, "y", "z")
    steps.loc[3, "y"] = np.nan
    with pytest.raises(DataError, match="1 in y"):
        two_way_slope(steps, "y", "x")
