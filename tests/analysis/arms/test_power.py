"""Sample sizes against published numbers, statsmodels and simulation."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.power import TTestPower

from sublim_causal.analysis.arms import power
from sublim_causal.errors import DataError, RequestError


@pytest.mark.parametrize(
    ("margin", "at_80", "at_90"), [(0.5, 36, 45), (0.6, 26, 32), (0.75, 17, 21), (1.0, 11, 13)]
)
def test_equivalence_needs_the_published_seeds(margin, at_80, at_90):
    assert power.seeds_for_equivalence(1.0, margin, 0.8) == at_80
    assert power.seeds_for_equivalence(1.0, margin, 0.9) == at_90


@pytest.mark.parametrize("n_seeds", [5, 8, 30])
@pytest.mark.parametrize("effect", [0.3, -0.8, 1.5])
def test_power_equals_statsmodels(n_seeds, effect):
    expected = TTestPower().power(effect, n_seeds, 0.05)
    assert power.power_of_contrast(2.0, 2 * effect, n_seeds) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("n_seeds", "level", "shift"), [(4, 0.8, 10.0), (3, 0.999, 30.25)])
def test_power_of_a_large_difference_is_that_of_the_integral(n_seeds, level, shift):
    """Here statsmodels' lower tail is NaN."""
    df, critical = n_seeds - 1, stats.t.isf((1 - level) / 2, n_seeds - 1)
    scaled = stats.chi(df, scale=1 / np.sqrt(df))
    rejected = stats.norm.sf(critical * scaled.ppf((np.arange(200_000) + 0.5) / 200_000) - shift)
    found = power.power_of_contrast(1.0, shift / np.sqrt(n_seeds), n_seeds, level)
    assert found == pytest.approx(rejected.mean(), abs=1e-6)


def test_power_at_no_difference_is_the_level():
    assert power.power_of_contrast(1.0, 0.0, 12) == pytest.approx(0.05)
    assert power.power_of_contrast(1.0, 50.0, 12) == 1.0


def test_equivalence_at_the_margin_has_at_most_its_level():
    at_margin = power.power_of_equivalence(1.0, 0.8, 30, difference=0.8)
    assert at_margin == pytest.approx(0.05, abs=1e-4)  # the other test costs less than that


def test_equivalence_power_is_what_simulation_finds():
    d = np.random.default_rng(0).normal(0.1, 1, size=(20_000, 16))
    half = stats.t.isf(0.05, 15) * d.std(axis=1, ddof=1) / 4
    found = np.mean(np.abs(d.mean(axis=1)) + half < 0.6)
    exact = power.power_of_equivalence(1.0, 0.6, 16, difference=0.1)
    assert found == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 20_000))


@pytest.mark.parametrize("wanted", [2.0, 0.5, 0.1])
def test_half_width_is_reached_and_not_before(wanted):
    n = power.seeds_for_half_width(1.3, wanted)
    assert power.half_width(1.3, n) <= wanted
    assert n == 3 or power.half_width(1.3, n - 1) > wanted


@pytest.fixture
def replicates():
    rng = np.random.default_rng(2)
    frames = [
        pd.DataFrame({"seed": range(12), "arm": arm, "y": rng.normal(shift, 1, size=12)})
        for arm, shift in (("baseline", 0), ("projection", 1.5))
    ]
    return pd.concat(frames)


def test_a_pilot_gives_table_and_curve(replicates):
    one = power.pilot(replicates, "y", "projection")
    assert one.sd_upper > one.sd
    table = power.power_table([one], difference=0.5)
    assert list(table["sd"]) == ["pilot", "cautious"]
    assert table["seeds_half_width"].is_monotonic_increasing
    assert table.loc[0, "seeds_power"] == power.seeds_for_power(one.sd, 0.5)
    curve = power.power_curve(one, [8, 16, 32], difference=0.5, margin=1.0)
    pilot = curve[curve["sd"] == "pilot"]
    assert pilot["half_width"].is_monotonic_decreasing
    assert pilot["power"].is_monotonic_increasing
    assert pilot["power_equivalence"].is_monotonic_increasing


def test_every_usable_arm_is_a_pilot(replicates):
    single = pd.DataFrame({"seed": [0], "arm": ["liminal"], "y": [1.0]})
    found = power.pilots(pd.concat([replicates, single]), "y")
    assert [one.contrast for one in found] == ["projection - baseline"]
    assert found[0] == power.pilot(replicates, "y", "projection")


def test_seeds_for_equivalence_stand_in_the_table_if_a_margin_is_given(replicates):
    one = power.pilot(replicates, "y", "projection")
    table = power.power_table([one], difference=0.5, margin=1.0)
    assert list(table["seeds_equivalence"]) == [
        power.seeds_for_equivalence(sd, 1.0) for sd in (one.sd, one.sd_upper)
    ]
    assert power.power_table([one], difference=0.5)["seeds_equivalence"].isna().all()


def test_an_outcome_must_be_measured(replicates):
    for column in ("seed", "arm"):
        with pytest.raises(RequestError, match="a measured column: y"):
            power.pilots(replicates, column)


def test_what_no_number_of_seeds_reaches_is_empty_in_the_table(replicates):
    one = power.pilot(replicates, "y", "projection")
    table = power.power_table([one], difference=0.5, wanted=1e-6)
    assert table["seeds_half_width"].isna().all()
    with pytest.raises(RequestError, match="half-width"):
        power.seeds_for_half_width(one.sd, 1e-6)


def test_the_upper_limit_covers_four_times_in_five():
    rng = np.random.default_rng(4)
    covered = sum(
        power.Pilot("y", "", 0.0, float(rng.normal(size=8).std(ddof=1)), 8).sd_upper > 1
        for _ in range(2000)
    )
    assert stats.binom.ppf(0.001, 2000, 0.8) <= covered <= stats.binom.ppf(0.999, 2000, 0.8)


def test_useless_pilots_and_wishes_are_refused(replicates):
    with pytest.raises(DataError, match="2 complete seeds"):
        power.pilot(replicates[replicates["seed"] < 2], "y", "projection")
    with pytest.raises(RequestError, match="difference"):
        power.seeds_for_power(1.0, 0.0)
    with pytest.raises(RequestError, match="margin"):
        power.seeds_for_equivalence(1.0, 0.5, difference=0.5)
    with pytest.raises(RequestError, match="power"):
        power.seeds_for_power(1.0, 1.0, power=80)
