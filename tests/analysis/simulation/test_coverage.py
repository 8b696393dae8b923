"""The default intervals cover what they claim; the whole table is `coverage_study.py`."""

from dataclasses import replace

import pytest
from scipy import stats

from tests.analysis.simulation.coverage_study import SCENARIOS, SEEDS, SYMMETRIC, TARGETS, covered

CLAIMED = {"equivalence (90 %)": (0.885, 0.915)}
CASES = [
    (name, scenario)
    for name, target in TARGETS.items()
    for scenario in target.scenarios
    if scenario in SYMMETRIC
]


def assert_covers(name: str, scenario: str, n_seeds: int, studies: int) -> None:
    """Judge coverage by the binomial bounds of the claimed range."""
    found = covered(TARGETS[name], replace(SCENARIOS[scenario], n_seeds=n_seeds), studies)
    low, high = CLAIMED.get(name, (0.935, 0.965))
    hits = int(found["covers"].sum())
    least, most = stats.binom.ppf(0.001, studies, low), stats.binom.ppf(0.999, studies, high)
    assert least <= hits <= most, f"{hits} of {studies} cover"


@pytest.mark.parametrize("scenario", ["normal", "unequal arm noise"])
def test_arm_contrasts_cover(scenario):
    assert_covers("arm contrast", scenario, 8, 500)


def test_corrected_slopes_cover():
    assert_covers("corrected slope", "noisy alignment", 16, 150)


@pytest.mark.slow
def test_mixed_slopes_cover():
    assert_covers("slope, CR2", "normal", 8, 100)


@pytest.mark.slow
@pytest.mark.parametrize("n_seeds", SEEDS)
@pytest.mark.parametrize(("name", "scenario"), CASES)
def test_every_symmetric_scenario_covers(name, scenario, n_seeds):
    assert_covers(name, scenario, n_seeds, 1000 if "slope" in name else 2000)
