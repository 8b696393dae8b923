"""What pictures draw: columns of one arm over steps, seed by seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sublim_causal.analysis.estimates.distributions import t_critical
from sublim_causal.analysis.estimates.types import MIN_SEEDS, Floats
from sublim_causal.analysis.plan.ranges import ANY, FRACTION, Range, range_of
from sublim_causal.analysis.plan.record import Record

DRAWN_SEEDS = 60
"""At most so many single seeds are drawn in a picture."""
COLUMNS = (
    "cos_gradient",
    "cos_applied",
    "cos_update",
    "trait_accuracy",
    "trait_loss",
    "drive",
    "drive_end",
    "gain",
)
"""Columns of ``steps`` that pictures draw."""


@dataclass(frozen=True)
class Curve:
    """A column of one arm over steps.

    Attributes
    ----------
    steps : ndarray of shape (T,)
        Steps, rising.
    seeds : ndarray of shape (R, T)
        One row a complete seed; NaN where a step is missing.
    level : float
        Confidence level of the band.
    bounds : Range
        What the column can be; the band is cut there.
    """

    steps: NDArray[np.int64]
    seeds: Floats
    level: float
    bounds: Range = ANY

    @cached_property
    def mean(self) -> Floats:
        """Mean over seeds, shape (T,); NaN where no seed has a value."""
        return _means(np.nansum(self.seeds, axis=0), np.isfinite(self.seeds).sum(axis=0))

    @property
    def is_measured(self) -> bool:
        """Whether any seed has a value at any step."""
        return bool(np.isfinite(self.seeds).any())

    @cached_property
    def half_width(self) -> Floats:
        """Half the pointwise t interval, shape (T,); NaN where fewer than `MIN_SEEDS` are."""
        n = np.isfinite(self.seeds).sum(axis=0)
        half, enough = np.full(len(self.steps), np.nan), n >= MIN_SEEDS
        sd = np.nanstd(self.seeds[:, enough], axis=0, ddof=1)
        n_ = n[enough]
        half[enough] = t_critical(self.level, n_ - 1) * sd / np.sqrt(n_)
        return half

    @property
    def low(self) -> Floats:
        """Lower end of the band, shape (T,)."""
        return np.maximum(self.mean - self.half_width, self.bounds.low)

    @property
    def high(self) -> Floats:
        """Upper end of the band, shape (T,)."""
        return np.minimum(self.mean + self.half_width, self.bounds.high)

    @property
    def drawn(self) -> Floats:
        """At most `DRAWN_SEEDS` seeds, evenly spaced, shape (S, T)."""
        n = len(self.seeds)
        return self.seeds[np.unique(np.linspace(0, n - 1, min(n, DRAWN_SEEDS)).astype(int))]

    def scaled(self, factor: float) -> Curve:
        """Multiply by a positive `factor`."""
        return Curve(self.steps, factor * self.seeds, self.level, self.bounds.scaled(factor))

    def binned(self, width: int) -> Curve:
        """Average what is there over bins of `width` steps; a step is that of the bin's middle."""
        starts = np.arange(0, len(self.steps), width)
        sums = np.add.reduceat(np.nan_to_num(self.seeds), starts, axis=1)
        counts = np.add.reduceat(np.isfinite(self.seeds).astype(int), starts, axis=1)
        middles = np.add.reduceat(self.steps, starts) // np.diff([*starts, len(self.steps)])
        return Curve(middles, _means(sums, counts), self.level, self.bounds)

    def positive(self) -> Curve:
        """Return in percent whether a seed is above 0 at a step; NaN where it has no value."""
        is_positive = np.where(np.isfinite(self.seeds), 100.0 * (self.seeds > 0), np.nan)
        return Curve(self.steps, is_positive, self.level, FRACTION.scaled(100))

    def summed(self) -> Curve:
        """Return the sum from the start, after each step; a seed ends at a missing step."""
        return Curve(self.steps + 1, np.cumsum(self.seeds, axis=1), self.level)

    def minus(self, other: Curve) -> Curve:
        """Return the difference from a curve of the same seeds and steps."""
        return Curve(self.steps, self.seeds - other.seeds, self.level)


def _means(sums: Floats, counts: NDArray[np.integer[Any]]) -> Floats:
    """Divide; NaN where there is nothing to divide by."""
    return np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)


def curve(rows: pd.DataFrame, column: str, level: float) -> Curve:
    """Arrange `column` of one arm's `rows` as seeds by steps."""
    seeds, row = np.unique(rows["seed"], return_inverse=True)
    steps, place = np.unique(rows["step"], return_inverse=True)
    values = np.full((len(seeds), len(steps)), np.nan)
    values[row, place] = rows[column]
    return Curve(steps.astype(np.int64), values, level, range_of(column))


@dataclass(frozen=True)
class Curves:
    """What the pictures of a run draw.

    Attributes
    ----------
    steps : mapping of str to mapping of str to Curve
        The columns `COLUMNS` of ``steps``, by column and arm.
    evaluations : mapping of str to Curve
        The outcome over steps, by arm.
    outcomes : DataFrame
        The outcome at the end of training: complete seeds in rows, arms in columns.
    """

    steps: Mapping[str, Mapping[str, Curve]]
    evaluations: Mapping[str, Curve]
    outcomes: pd.DataFrame

    def ledger(self, arm: str) -> dict[str, Curve]:
        """Return gain, drive and remainder of `arm`, each summed from the start."""
        gain, drive = (self.steps[column][arm] for column in ("gain", "drive"))
        entries = {"gain": gain, "drive": drive, "remainder": gain.minus(drive)}
        return {name: entry.summed() for name, entry in entries.items()}


def read_curves(record: Record, level: float) -> Curves:
    """Arrange what `record` has read of ``steps`` and ``evaluations`` as curves.

    Parameters
    ----------
    record : Record
        With the columns `COLUMNS` of ``steps``, and ``evaluations``.
    level : float
        Confidence level of the bands, in (0, 1).
    """
    steps = dict(tuple(record.steps.groupby("arm", observed=True)))
    none = record.steps[:0]
    tests = dict(tuple(record.evaluations.groupby("arm", observed=True)))
    return Curves(
        steps={
            name: {arm: curve(steps.get(arm, none), name, level) for arm in record.complete_arms}
            for name in COLUMNS
        },
        evaluations={
            arm: curve(tests.get(arm, record.evaluations[:0]), record.outcome.curve, level)
            for arm in record.complete_arms
        },
        outcomes=record.complete.pivot(index="seed", columns="arm", values=record.outcome.name)[
            list(record.complete_arms)
        ],
    )
