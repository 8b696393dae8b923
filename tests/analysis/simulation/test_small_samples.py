"""The texts that quote coverage hold the numbers of the coverage file."""

import numpy as np
import pandas as pd

from sublim_causal.analysis.estimates.headline import SKEW_SEEDS, SKEWED_COVERAGE
from tests.analysis.simulation.small_samples import (
    FILE,
    PAGE,
    WORLDS,
    page,
    sign_bounds,
    trimmed_bounds,
)


def test_the_page_is_that_of_the_file():
    assert PAGE.read_text() == page(pd.read_csv(FILE))


def test_the_warning_of_skewed_seeds_has_the_numbers_of_the_file():
    table = pd.read_csv(FILE)
    skewed = table[
        (table["quantity"] == "coverage")
        & table["world"].isin(["exponential", "log-normal"])
        & (table["seeds"] < SKEW_SEEDS)
    ]["percent"]
    assert (round(skewed.min()), round(skewed.max())) == SKEWED_COVERAGE


def test_the_other_intervals_of_an_equivalence_are_the_textbook_ones():
    x = WORLDS["normal"](np.random.default_rng(0), 20)
    assert sign_bounds(x, 0.95) == (sorted(x)[5], sorted(x)[14])  # Conover, 1999: ranks 6 and 15
    low, high = trimmed_bounds(x, 0.9)
    assert low < high
