"""The yoked estimator on runs whose cross-world outcomes are known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from sublim_causal.analysis.causal.crossworld import clamp_error, controlled_direct, cross_world
from sublim_causal.analysis.estimates.types import NotEstimable
from sublim_causal.errors import DataError

DIRECT, SLOPE, GAP = -0.05, 4.0, -0.04


def runs(n_seeds: int = 12, *, gap_left: float = 0.0, noise: float = 0.01) -> pd.DataFrame:
    """Y = c_s + DIRECT [procedure a] + SLOPE M + noise, the seed's confounder moving M and Y."""
    rng = np.random.default_rng(5)
    seed_part = rng.standard_normal(n_seeds)
    shift = {"baseline": 0.0, "projection": GAP, "yoked": gap_left * GAP, "reverse": GAP}
    rows = []
    for arm, move in shift.items():
        m = 0.05 + 0.01 * seed_part + move
        procedure = arm in ("projection", "yoked")
        y = 0.4 + 0.1 * seed_part + DIRECT * procedure + SLOPE * m
        rows.append(
            pd.DataFrame(
                {
                    "seed": np.arange(n_seeds),
                    "arm": arm,
                    "mean_cos_update": m,
                    "final_accuracy": y + noise * rng.standard_normal(n_seeds),
                }
            )
        )
    return pd.concat(rows, ignore_index=True)


def test_the_parts_recover_the_truth_without_noise() -> None:
    world = cross_world(runs(noise=0.0), arm="projection", yoked="yoked", reverse="reverse")
    assert world.te.value == pytest.approx(DIRECT + SLOPE * GAP, abs=1e-12)
    assert world.pnde.value == pytest.approx(DIRECT, abs=1e-12)
    assert world.tnie.value == pytest.approx(SLOPE * GAP, abs=1e-12)
    assert world.pnie.value == pytest.approx(SLOPE * GAP, abs=1e-12)
    assert world.tnde.value == pytest.approx(DIRECT, abs=1e-12)
    assert world.proportion_mediated.value == pytest.approx(SLOPE * GAP / (DIRECT + SLOPE * GAP))


def test_the_parts_add_up_exactly_with_noise() -> None:
    world = cross_world(runs(), arm="projection", yoked="yoked", reverse="reverse")
    assert world.pnde.value + world.tnie.value == pytest.approx(world.te.value)
    assert world.tnde.value + world.pnie.value == pytest.approx(world.te.value)


def test_without_a_reverse_yoke_its_parts_are_not_estimable() -> None:
    world = cross_world(runs(), arm="projection", yoked="yoked")
    assert isinstance(world.pnie, NotEstimable)
    assert isinstance(world.tnde, NotEstimable)


def test_all_parts_use_the_same_seeds() -> None:
    data = runs()
    data = data.loc[~((data["arm"] == "yoked") & (data["seed"] == 3))]
    world = cross_world(data, arm="projection", yoked="yoked")
    assert (world.te.n_seeds, world.te.n_dropped) == (11, 1)
    assert world.pnde.value + world.tnie.value == pytest.approx(world.te.value)


def test_a_perfect_clamp_leaves_no_gap() -> None:
    world = cross_world(runs(), arm="projection", yoked="yoked")
    assert world.residual_mediator_gap.value == pytest.approx(0.0, abs=1e-12)
    assert not any("clamp left" in warning for warning in world.tnie.warnings)


def test_the_gap_that_a_clamp_leaves_is_measured_and_named() -> None:
    world = cross_world(runs(gap_left=0.3), arm="projection", yoked="yoked")
    assert world.residual_mediator_gap.value == pytest.approx(0.3, rel=1e-9)
    assert "the clamp left 30 % of the alignment gap open" in world.tnie.warnings
    assert "the clamp left 30 % of the alignment gap open" not in world.te.warnings


def test_the_controlled_effect_is_the_paired_difference_of_clamped_arms() -> None:
    effect = controlled_direct(runs(), arm_clamped="projection", baseline_clamped="reverse")
    assert effect.low < DIRECT < effect.high
    means = [v for k, v in effect.diagnostics.items() if k.startswith("mean_mean_cos_update")]
    assert means[0] == pytest.approx(means[1])


def test_clamp_error_is_taken_step_by_step() -> None:
    steps = pd.DataFrame(
        {
            "seed": [0, 0, 0, 0, 1, 1],
            "arm": ["baseline", "baseline", "yoked", "yoked", "baseline", "yoked"],
            "step": [0, 1, 0, 1, 0, 0],
            "cos_update": [0.1, 0.2, 0.1, 0.25, 0.3, 0.3],
        }
    )
    error = clamp_error(steps, yoked="yoked")
    assert error.max_abs == pytest.approx(0.05)
    assert error.by_seed == pytest.approx([0.025, 0.0])
    assert error.n_steps == 3


def test_arms_without_a_common_step_cannot_be_compared() -> None:
    steps = pd.DataFrame(
        {"seed": [0, 0], "arm": ["baseline", "yoked"], "step": [0, 1], "cos_update": [0.1, 0.1]}
    )
    with pytest.raises(DataError, match="share no step"):
        clamp_error(steps, yoked="yoked")


def test_two_seeds_estimate_nothing() -> None:
    world = cross_world(runs(2), arm="projection", yoked="yoked")
    assert isinstance(world.tnie, NotEstimable)


def test_clamp_error_of_each_seed_with_both_arms() -> None:
    steps = pd.DataFrame(
        [
            {"seed": seed, "arm": arm, "step": step, "cos_update": shift * (seed + 1)}
            for seed in range(3)
            for arm, shift in (("baseline", 0.0), ("yoked", 0.01))
            for step in range(4)
            if (seed, arm) != (2, "yoked")
        ]
    )
    error = clamp_error(steps, yoked="yoked")
    assert error.by_seed == pytest.approx([0.01, 0.02])
    assert error.n_steps == 8
