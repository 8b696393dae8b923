"""Figures of mixed models."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from sublim_causal.report.elements import Picture
from sublim_causal.report.figures.mixed import influence
from sublim_causal.report.figures.style import settings
from sublim_causal.report.material import Material
from sublim_causal.report.sections import BODY


@pytest.mark.parametrize("n_seeds", [3, 4, 12, 30])
def test_seeds_are_counted_in_whole_numbers(n_seeds: int) -> None:
    left_out = pd.Series(np.linspace(0, 1, n_seeds))
    ticks = influence(left_out, 0.5, 0.2, 0.8, "slope").axes[0].get_xticks()
    np.testing.assert_array_equal(ticks, np.round(ticks))


def test_a_slope_is_per_unit_of_cosine(demo_material: Material) -> None:
    with settings():
        blocks = BODY["mixed"](demo_material).blocks
    drawn = {one.name: one for one in blocks if isinstance(one, Picture)}
    for name in ("mixed_random_slopes", "mixed_influence"):
        assert "nats per unit of cosine" in drawn[name].figure.axes[0].get_ylabel()
