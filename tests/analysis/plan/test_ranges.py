"""Ranges of what is measured."""

from __future__ import annotations

import pytest

from sublim_causal.analysis.plan.ranges import ANY, COSINE, FRACTION, Range, range_of
from sublim_causal.store.schema import TABLES


@pytest.mark.parametrize(
    ("column", "known"),
    [
        ("final_accuracy", FRACTION),
        ("share_positive", FRACTION),
        ("mean_cos_update", COSINE),
        ("cos_half_a", COSINE),
        ("accuracy_gain", ANY),
        ("gain", ANY),
    ],
)
def test_a_column_has_the_range_of_what_it_measures(column: str, known: Range) -> None:
    assert column in {one.name for name in ("replicates", "steps") for one in TABLES[name]}
    assert range_of(column) == known
