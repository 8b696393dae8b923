"""The power of a per-step slope follows from the seeds of a pilot."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from sublim_causal.analysis.arms.power import power_of_contrast
from sublim_causal.analysis.plan.power import power_of_slope
from sublim_causal.analysis.simulation.slopes import SLOPE_WORLDS, simulate_steps
from sublim_causal.analysis.steps.two_way import TwoWay, two_way
from sublim_causal.errors import RequestError


@pytest.fixture(scope="module")
def pilot() -> TwoWay:
    return two_way(simulate_steps(SLOPE_WORLDS[3], np.random.default_rng(3)), "y", "x")


def sd_of(pilot: TwoWay) -> float:
    """Standard deviation of one seed's slope about the true one; here seeds weigh alike.

    The slope and the steps' means cost a degree of freedom each.
    """
    return float((pilot.xy / pilot.xx).std(ddof=2))


def power(pilot: TwoWay, slope: float, *seeds: int, **options) -> list[float]:
    found = power_of_slope(pilot, slope, seeds, n_studies=2000, **options)
    return found.loc[found["sd"] == "pilot", "power"].tolist()


def test_without_a_slope_the_error_is_the_level(pilot: TwoWay) -> None:
    # Draws from twelve seeds have lighter tails than normal ones, so the error is a little off.
    for error in (
        *power(pilot, 0.0, 8, 16),
        power(pilot, 0.0, 8, 16, boundary="obrien-fleming")[-1],
    ):
        assert 0.02 <= error <= 0.08


def test_power_is_that_of_a_t_test_on_the_slopes_of_seeds(pilot: TwoWay) -> None:
    slope = 0.8 * sd_of(pilot)
    for n, found in zip((8, 16, 30), power(pilot, slope, 8, 16, 30), strict=True):
        assert found == pytest.approx(power_of_contrast(sd_of(pilot), slope, n), abs=0.06)


def test_the_cautious_sd_asks_for_more_and_looks_cost_power(pilot: TwoWay) -> None:
    slope = 0.8 * sd_of(pilot)
    found = power_of_slope(pilot, slope, (8, 16), n_studies=2000)
    wide = found.pivot(index="n_seeds", columns="sd", values="power")
    assert (wide["cautious"] < wide["pilot"]).all()
    plain, looked = (power(pilot, slope, 8, 16, boundary=one) for one in (None, "obrien-fleming"))
    assert looked[0] < plain[0]
    hits = stats.binom.ppf(0.001, 2000, plain[1] - 0.02)
    assert 2000 * looked[1] >= hits
    assert power(pilot, slope, 8, 16, boundary="anytime")[1] < plain[1]


def test_numbers_of_seeds_must_rise(pilot: TwoWay) -> None:
    with pytest.raises(RequestError, match="rise from at least 3"):
        power_of_slope(pilot, 1.0, [12, 8])
