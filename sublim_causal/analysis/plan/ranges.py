"""Ranges of bounded quantities: no interval and no band reaches beyond what can be."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf

from sublim_causal.analysis.estimates.types import Estimate, Result
from sublim_causal.store.own_columns import known_columns


@dataclass(frozen=True)
class Range:
    """The least and the greatest value that a quantity can have."""

    low: float = -inf
    high: float = inf

    def scaled(self, factor: float) -> Range:
        """Multiply by a positive `factor`."""
        return Range(factor * self.low, factor * self.high)


ANY, FRACTION, COSINE = Range(), Range(0.0, 1.0), Range(-1.0, 1.0)


def range_of(column: str) -> Range:
    """Return the range of a column of ``steps``, ``evaluations`` or ``replicates``."""
    own = (c for table in ("replicates", "evaluations") for c in known_columns(table) if c.own)
    if any(one.name == column and one.unit == "fraction" for one in own):
        return FRACTION
    fractions = ("accuracy", "trait_probability", "trait_answer_rate")
    if column.endswith(fractions) or column.startswith("share_positive"):
        return FRACTION
    cosine = column.removeprefix("mean_")
    return COSINE if cosine.startswith("cos_") or cosine == "coverage" else ANY


def within(result: Result, column: str) -> Result:
    """Return the mean of `column` with its interval cut at what the column can be."""
    if not isinstance(result, Estimate):
        return result
    known = range_of(column)
    return replace(result, low=max(result.low, known.low), high=min(result.high, known.high))
