"""Least squares within seeds: the estimate does not depend on the units of a regressor."""

from __future__ import annotations

import numpy as np
import pytest

from sublim_causal.analysis.causal.fixed_effects import fit_within

SEEDS = np.repeat(np.arange(6), 8)


@pytest.mark.parametrize("unit", [1e-9, 1e-4, 1e6])
def test_units_of_a_regressor_change_no_digit_that_counts(unit: float) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(len(SEEDS), 3))
    y = x @ [1.0, 2.0, 0.5] + rng.normal(size=len(SEEDS))
    plain = fit_within(y, x, SEEDS).contrast([0.0, 1.0, 1.0])
    other = fit_within(y, x * [1.0, 1.0, unit], SEEDS).contrast([0.0, 1.0, unit])
    np.testing.assert_allclose(other[:3], plain[:3], rtol=1e-10)
    np.testing.assert_allclose(other.scores, plain.scores, rtol=1e-9)
