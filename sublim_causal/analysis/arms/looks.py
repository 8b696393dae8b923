r"""Intervals and p-values at the looks of a stopping rule, valid over all looks together.

At look k an O'Brien-Fleming rule gives the t interval at the nominal level of that look, a repeated
confidence interval (Jennison and Turnbull, 1989), and the p-value is the smallest error at which
its boundary would have been crossed there. An anytime-valid rule gives the confidence sequence of
`sequential.anytime_half_width`, and the p-value that inverts it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from sublim_causal.analysis.arms.contrasts import paired_arms
from sublim_causal.analysis.arms.sequential import (
    PRIOR_SCALE,
    anytime_half_width,
    crossing_probability,
    nominal_levels,
)
from sublim_causal.analysis.arms.stopping import StoppingRule
from sublim_causal.analysis.estimates.bootstrap import Bounds
from sublim_causal.analysis.estimates.distributions import norm_isf, t_sf
from sublim_causal.analysis.estimates.intervals import t_bounds
from sublim_causal.analysis.estimates.types import MIN_SEEDS


@dataclass(frozen=True)
class Look:
    """A look: the estimate at a number of seeds, and the decision.

    Attributes
    ----------
    seeds : int
        Seeds of the study at the look.
    n_pairs : int
        Seeds that are complete under both arms.
    value, low, high : float or None
        Mean paired difference with the interval that the rule is judged by; None below 3 pairs,
        or where a limit is infinite.
    nominal : float or None
        Level of the t interval with these limits; None for an anytime-valid interval.
    reached : bool
        Whether the goal is reached.
    stop : bool
        Whether no more seeds are added: the goal is reached, or this is the last look.
    """

    seeds: int
    n_pairs: int
    value: float | None
    low: float | None
    high: float | None
    nominal: float | None
    reached: bool
    stop: bool

    def record(self) -> dict[str, Any]:
        """Return the look as the manifest holds it."""
        return asdict(self)


def judged_level(rule: StoppingRule) -> float:
    """Return the level over all looks of the interval that decides.

    That of an equivalence holds two one-sided tests at 1 - level each.
    """
    return 2 * rule.level - 1 if rule.kind == "equivalent" else rule.level


def take_look(rule: StoppingRule, replicates: pd.DataFrame, place: int) -> Look:
    """Judge `rule` at look `place`, counted from 0, by the table of replicates.

    Seeds beyond the look are left out, so that a look repeated later finds the same.

    Raises
    ------
    RequestError
        If the outcome or an arm is not there.
    """
    seeds = rule.looks[place]
    there = replicates[replicates["seed"] < seeds]
    panel = paired_arms(there, rule.outcome, rule.arm, rule.reference)
    d = panel.difference(rule.outcome, rule.arm, rule.reference)
    last = place == len(rule.looks) - 1
    if len(d) < MIN_SEEDS:
        return Look(seeds, len(d), None, None, None, None, reached=False, stop=last)
    level = judged_level(rule)
    mean = Mean(float(d.mean()), float(d.std(ddof=1)), len(d))
    bounds = look_bounds(rule, place, mean, level)
    low, high = (float(one) if np.isfinite(one) else None for one in bounds)
    group = rule.boundary == "obrien-fleming"
    found = reached(rule, bounds)
    return Look(
        seeds,
        len(d),
        mean.value,
        low,
        high,
        float(nominal_levels(rule.looks, level)[place]) if group else None,
        reached=found,
        stop=found or last,
    )


def reached(rule: StoppingRule, bounds: Bounds) -> bool:
    """Return whether an interval with these limits reaches the goal of `rule`."""
    if rule.kind == "width":
        return bool(bounds.high - bounds.low < rule.bound)
    if rule.kind == "excludes":
        return not bounds.low <= rule.bound <= bounds.high
    return -rule.bound < bounds.low and bounds.high < rule.bound


@dataclass(frozen=True)
class Mean:
    """Mean, standard deviation and number of the paired differences."""

    value: float
    sd: float
    n: int

    @property
    def se(self) -> float:
        """Standard error of the mean."""
        return float(self.sd / np.sqrt(self.n))


def look_bounds(rule: StoppingRule, place: int, mean: Mean, level: float) -> Bounds:
    """Return the limits at look `place` that hold over all looks at `level`."""
    if rule.boundary == "anytime":
        half = anytime_half_width(mean.sd, mean.n, level)
        return Bounds(mean.value - half, mean.value + half)
    return t_bounds(mean.value, mean.se, mean.n - 1, nominal_levels(rule.looks, level)[place])


def look_p_value(rule: StoppingRule, place: int, mean: Mean, null: float = 0.0) -> float | None:
    """Return the two-sided p of `null` over all looks; None where the differences do not vary."""
    if mean.se == 0:
        return None
    t = abs(mean.value - null) / mean.se
    if rule.boundary == "anytime":
        return _anytime_p(t, mean.n)
    return _overall(rule.looks, place, 2 * float(t_sf(t, mean.n - 1)))


def look_p_equivalence(rule: StoppingRule, place: int, mean: Mean, margin: float) -> float | None:
    """Return the p over all looks of the null that the arms differ by the margin or more."""
    if mean.se == 0:
        return None
    t = (margin - abs(mean.value)) / mean.se
    if t <= 0:
        return 1.0
    if rule.boundary == "anytime":
        return _anytime_p(t, mean.n) / 2
    return _overall(rule.looks, place, 2 * float(t_sf(t, mean.n - 1))) / 2


def _overall(looks: Sequence[int], place: int, nominal: float) -> float:
    """Return the two-sided error of the O'Brien-Fleming rule whose look `place` has `nominal`."""
    growth = np.sqrt(looks[-1] / np.asarray(looks, dtype=float))
    z = float(norm_isf(nominal / 2))
    return min(1.0, crossing_probability(looks, z / growth[place] * growth)) if z > 0 else 1.0


def _anytime_p(t: float, n: int) -> float:
    """Return the alpha at which the confidence sequence after n values just reaches the null."""
    c2 = PRIOR_SCALE**2
    q = ((n - 1) + t**2 * (1 - n / (n + c2))) / (n - 1 + t**2)
    return float(min(1.0, q ** (n / 2) * np.sqrt((n + c2) / c2)))
