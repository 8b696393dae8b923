"""Dose-response on curves that are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from sublim_causal.analysis.causal.dose_response import (
    adjacent_changes,
    dose_slope,
    isotonic_curve,
    linear_curve,
    monotone_trend,
)
from sublim_causal.analysis.estimates.settings import Settings
from sublim_causal.analysis.estimates.types import NotEstimable
from sublim_causal.errors import RequestError

DOSES = {"baseline": 0.0, "p025": 0.25, "p05": 0.5, "p1": 1.0, "p2": 2.0}
STRENGTH = np.array(list(DOSES.values()))


def study(curve: Any, n_seeds: int = 12, noise: float = 0.02, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    level = 0.05 * rng.standard_normal((n_seeds, 1))
    y = curve(STRENGTH) + level + noise * rng.standard_normal((n_seeds, len(STRENGTH)))
    return pd.DataFrame(
        {
            "seed": np.repeat(np.arange(n_seeds), len(STRENGTH)),
            "arm": np.tile(list(DOSES), n_seeds),
            "final_accuracy": y.ravel(),
        }
    )


def line(x: np.ndarray) -> np.ndarray:
    return 0.5 - 0.15 * x


def hump(x: np.ndarray) -> np.ndarray:
    return 0.3 + 0.4 * x - 0.25 * x**2


def decay(x: np.ndarray) -> np.ndarray:
    return 0.1 + 0.4 * np.exp(-2 * x)


def test_the_slope_is_the_mean_of_the_per_seed_slopes() -> None:
    data = study(line)
    slopes = [
        np.polyfit(STRENGTH, rows["final_accuracy"], 1)[0] for _, rows in data.groupby("seed")
    ]
    estimate = dose_slope(data, DOSES, settings=Settings(interval="t"))
    assert estimate.value == pytest.approx(np.mean(slopes), rel=1e-10)
    assert estimate.se == pytest.approx(np.std(slopes, ddof=1) / np.sqrt(12), rel=1e-8)


def test_a_falling_curve_has_a_falling_trend_only() -> None:
    assert monotone_trend(study(decay), DOSES).p_value < 1e-6
    assert monotone_trend(study(decay), DOSES, direction="rising").p_value > 0.99


def test_the_trend_does_not_depend_on_the_order_of_the_mapping() -> None:
    backwards = dict(reversed(DOSES.items()))
    data = study(decay, noise=0.2)
    assert monotone_trend(data, DOSES) == monotone_trend(data, backwards)


def test_ties_switch_to_the_normal_approximation() -> None:
    data = study(decay, n_seeds=4).round({"final_accuracy": 0})
    assert monotone_trend(data, DOSES).distribution == "Page's L, normal"


def test_two_doses_have_no_trend_test() -> None:
    test = monotone_trend(study(line), {"baseline": 0.0, "p1": 1.0})
    assert test.p_value is None
    assert "2 doses" in test.reason


def test_a_line_is_fitted_and_not_rejected() -> None:
    curve = linear_curve(study(line), DOSES)
    # Seeds shift whole lines by 0.05 / sqrt(12).
    np.testing.assert_allclose(curve.fitted, line(STRENGTH), atol=0.06)
    assert (curve.low <= line(STRENGTH)).all()
    assert (line(STRENGTH) <= curve.high).all()
    assert curve.misfit.p_value > 0.05


def test_a_bent_curve_rejects_the_line() -> None:
    curve = linear_curve(study(decay), DOSES)
    assert curve.misfit.p_value < 1e-4
    assert "a straight line does not fit" in curve.warnings


def test_the_isotonic_fit_is_monotone_and_keeps_the_mean() -> None:
    curve = isotonic_curve(study(decay, noise=0.2), DOSES)
    assert (np.diff(curve.fitted) <= 1e-12).all()
    assert curve.fitted.mean() == pytest.approx(curve.mean.mean(), rel=1e-12)
    assert (curve.low <= curve.fitted + 1e-12).all()
    assert (curve.fitted <= curve.high + 1e-12).all()


def test_monotonicity_sharpens_the_band() -> None:
    curve = isotonic_curve(study(decay, noise=0.2), DOSES)
    assert (np.diff(curve.low) <= 1e-12).all()
    assert (np.diff(curve.high) <= 1e-12).all()


def test_a_hump_is_not_falling() -> None:
    curve = isotonic_curve(study(hump, n_seeds=40), DOSES)
    assert "no falling curve fits" in curve.warnings
    assert curve.misfit.reason.startswith("rejected")


def test_rising_mirrors_falling() -> None:
    data = study(decay, noise=0.1)
    mirrored = data.assign(final_accuracy=-data["final_accuracy"])
    falling = isotonic_curve(data, DOSES)
    rising = isotonic_curve(mirrored, DOSES, direction="rising")
    np.testing.assert_allclose(rising.fitted, -falling.fitted, atol=1e-14)
    np.testing.assert_allclose(rising.low, -falling.high, atol=1e-14)


@pytest.mark.parametrize("kind", ["linear", "isotonic"])
def test_bands_cover_the_whole_curve(kind: str) -> None:
    truth = line if kind == "linear" else decay
    fit = linear_curve if kind == "linear" else isotonic_curve
    covered = 0
    for seed in range(200):
        curve = fit(study(truth, n_seeds=8, seed=seed), DOSES)
        covered += bool(((curve.low <= truth(STRENGTH)) & (truth(STRENGTH) <= curve.high)).all())
    # Binomial(200, 0.95) falls below 181 with probability 0.3 %; both bands may exceed 95 %.
    assert covered >= 181


def test_adjacent_changes_add_up_to_the_whole_range() -> None:
    data = study(decay)
    steps = adjacent_changes(data, DOSES)
    means = data.groupby("arm")["final_accuracy"].mean()
    assert len(steps) == 4
    assert sum(step.value for step in steps) == pytest.approx(means["p2"] - means["baseline"])


def test_two_seeds_draw_no_curve() -> None:
    data = study(line, n_seeds=2)
    assert isinstance(linear_curve(data, DOSES), NotEstimable)
    assert isinstance(isotonic_curve(data, DOSES), NotEstimable)


def test_two_arms_of_one_strength_are_refused() -> None:
    with pytest.raises(RequestError, match="one arm for each strength"):
        dose_slope(study(line), {**DOSES, "p1": 0.5})


def test_an_unknown_direction_is_refused() -> None:
    with pytest.raises(RequestError, match="direction"):
        monotone_trend(study(line), DOSES, direction="sideways")  # type: ignore[arg-type]
