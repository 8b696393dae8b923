"""Three slopes against lme4, and the test that they are one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sublim_causal.analysis.estimates.types import Estimand, NotEstimable
from sublim_causal.analysis.steps.mundlak import mundlak
from sublim_causal.analysis.steps.slopes import slope_estimates, slope_model

GOLDEN = Path(__file__).parents[2] / "golden"
COLUMNS: dict[str, Any] = {"outcome": "gain", "predictor": "alignment"}
NAMES = ("within_run", "between_arms", "between_seeds")


def steps(*, between: float = 0.8, n_seeds: int = 10, seed: int = 0) -> pd.DataFrame:
    """Slope 0.8 within runs and between seeds, `between` between the arms of a seed."""
    rng = np.random.default_rng(seed)
    n_arms, n_steps = 3, 30
    move = np.array([0.1, 0.0, 0.05])[None, :, None]
    own = 0.03 * rng.standard_normal((n_seeds, 1, 1))
    x = move + own + 0.05 * rng.standard_normal((n_seeds, n_arms, n_steps))
    run_mean = x.mean(axis=2, keepdims=True)
    arm_part = run_mean - run_mean.mean(axis=1, keepdims=True)
    y = 0.8 * x + (between - 0.8) * arm_part + 0.01 * rng.standard_normal((n_seeds, 1, 1))
    y = y + 0.02 * rng.standard_normal(x.shape)
    index = pd.MultiIndex.from_product([range(n_seeds), list("abc"), range(n_steps)])
    frame = index.to_frame(index=False, name=["seed", "arm", "step"])
    return frame.assign(alignment=x.ravel(), gain=y.ravel())


@pytest.mark.parametrize("name", ["steps_iid", "steps_ar1het", "steps_missing"])
@pytest.mark.parametrize("position", range(3))
def test_slopes_and_errors_agree_with_lme4_and_clubsandwich(name: str, position: int) -> None:
    expected = json.loads((GOLDEN / f"{name}.json").read_text())["mundlak"]
    found = getattr(mundlak(pd.read_csv(GOLDEN / f"{name}.csv"), **COLUMNS), NAMES[position])
    k = position + 1
    # Both optimise the same criterion: coefficients differ by how far each got.
    assert abs(found.value - expected["estimate"][k]) < 2e-5 * expected["se"][k]
    # The square root in CR2 is not unique in mixed models: ours is taken after whitening,
    # clubSandwich's before. Between seeds, where one seed has leverage, that is half a percent.
    assert found.se == pytest.approx(expected["se_cr2"][k], rel=6e-3)
    assert found.df == pytest.approx(expected["df_cr2"][k], rel=1e-3)


def test_equal_slopes_are_not_rejected() -> None:
    found = mundlak(steps(), **COLUMNS)
    assert found.equality.p_value > 0.05
    assert found.equality.df[0] == 2.0


def test_another_slope_between_arms_is_rejected() -> None:
    found = mundlak(steps(between=-0.2), **COLUMNS)
    assert found.equality.p_value < 1e-3
    assert found.between_arms.value == pytest.approx(-0.2, abs=0.1)
    assert found.within_run.value == pytest.approx(0.8, abs=0.05)


def test_a_level_without_variation_is_left_out() -> None:
    one_arm = steps().query("arm == 'a'")
    found = mundlak(one_arm, **COLUMNS)
    assert isinstance(found.between_arms, NotEstimable)
    assert found.equality.df[0] == 1.0


def test_two_seeds_estimate_nothing() -> None:
    found = mundlak(steps(n_seeds=2), **COLUMNS)
    assert isinstance(found.within_run, NotEstimable)
    assert found.equality.p_value is None


def test_two_slopes_are_compared_by_t() -> None:
    found = mundlak(steps().query("arm == 'a'"), **COLUMNS)
    assert found.equality.df[1] > 1
    assert 0 < found.equality.p_value <= 1


def test_one_level_alone_has_nothing_to_compare() -> None:
    data = steps()
    means = data.groupby(["seed", "arm"])["alignment"].transform("mean")
    flat = data.assign(alignment=data["alignment"] - means)
    found = mundlak(flat, **COLUMNS)
    assert isinstance(found.between_seeds, NotEstimable)
    assert "one slope" in found.equality.reason


def test_the_slopes_have_the_intervals_of_a_slope() -> None:
    """One seed's slope stands out: the hull is quoted here as in `step_slope`."""
    data = steps()
    steep = data.assign(gain=data["gain"] + 3 * data["alignment"] * (data["seed"] == 0))
    own = mundlak(steep, **COLUMNS).within_run
    model = slope_model(steep, "gain", "alignment", "levels")
    same = slope_estimates(model, {name: Estimand(name, "A slope.") for name in NAMES})
    assert own.method == "mixed model, hull of CR2 and bootstrap-t"
    assert (own.low, own.high) == (same["within_run"].low, same["within_run"].high)


@pytest.mark.slow
def test_the_wald_test_keeps_its_size() -> None:
    rejected = []
    for k in range(200):
        data = steps(n_seeds=16, seed=1000 + k)
        rng = np.random.default_rng(k)
        own = 0.2 * rng.standard_normal(16)[data["seed"]]
        runs = 0.005 * rng.standard_normal((16, 3))[data["seed"], data["arm"].map("abc".index)]
        noisy = data.assign(gain=data["gain"] + own * data["alignment"] + runs)
        rejected.append(mundlak(noisy, **COLUMNS).equality.p_value < 0.05)
    # Binomial(200, 0.05) exceeds 19 with probability 0.3 %.
    assert sum(rejected) <= 19
