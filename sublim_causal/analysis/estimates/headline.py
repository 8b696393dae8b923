"""Which interval is quoted (t, bootstrap-t or the hull of both), and its warnings."""

from __future__ import annotations

from typing import Literal

import numpy as np

from sublim_causal.analysis.estimates.bootstrap import Bounds
from sublim_causal.analysis.estimates.settings import IntervalRule
from sublim_causal.analysis.estimates.types import FEW_SEEDS, Floats

SKEW_LIMIT = 1.0
"""Beyond this sample skewness of the per-seed values the hull of t and bootstrap-t is quoted."""
Quoted = Literal["t", "bootstrap-t", "hull"]
SKEW_SEEDS = 16
"""With fewer skewed values no interval reaches its nominal coverage."""
SKEWED_COVERAGE = (82, 94)
"""Coverage, in percent, that ``docs/coverage.csv`` has for fewer: exponential, log-normal."""
WIDEST = 20.0
"""A bootstrap-t interval more than this many times as wide as the t interval is not quoted."""


def skewness(values: Floats) -> float:
    """Sample skewness m3 / m2^1.5 of per-seed values; 0 where they are all equal."""
    deviations = values - values.mean()
    scale = np.mean(deviations**2) ** 1.5
    return float(np.mean(deviations**3) / scale) if scale > 0 else 0.0


def is_skewed(values: Floats) -> bool:
    """Whether the skewness rule asks for the hull of t and bootstrap-t."""
    return abs(skewness(values)) > SKEW_LIMIT


def seed_warnings(n_seeds: int, skewed: bool = False, stable: bool = True) -> tuple[str, ...]:
    """Return the warnings that go with an interval from `n_seeds` seeds.

    Parameters
    ----------
    n_seeds : int
        Number of seeds.
    skewed : bool
        Whether the per-seed values are, by `is_skewed`.
    stable : bool
        Whether the bootstrap-t interval is, by `is_stable`.
    """
    found = []
    if n_seeds < FEW_SEEDS:
        found.append(f"only {n_seeds} seeds: the t interval relies on normal per-seed values")
    if skewed:
        skew = f"per-seed values are skewed (|skewness| > {SKEW_LIMIT:g})"
        quote = ": the hull of t and bootstrap-t is the interval to quote"
        if n_seeds < FEW_SEEDS:
            quote = f", but bootstrap-t needs at least {FEW_SEEDS} of them"
        elif not stable:
            quote = ", but too few of them differ for a stable bootstrap-t interval"
        found.append(skew + quote)
    if skewed and n_seeds < SKEW_SEEDS:
        found.append(
            "with so few skewed values no interval reaches its nominal coverage "
            f"(at 95 %: {SKEWED_COVERAGE[0]} to {SKEWED_COVERAGE[1]} %)"
        )
    return tuple(found)


def is_stable(boot: Bounds, plain: Bounds) -> bool:
    """Whether a bootstrap-t interval can be quoted: bounded, and not far wider than the t interval.

    With few seeds whose values nearly coincide, some replicates have almost no spread, and the
    limits then depend on chance draws. Both intervals have the same level.
    """
    width = boot.high - boot.low
    return bool(np.isfinite(width) and width <= WIDEST * (plain.high - plain.low))


def quoted_interval(rule: IntervalRule, per_seed: Floats, boot: Bounds, plain: Bounds) -> Quoted:
    """Apply `rule`: ``auto`` takes the hull where values are skewed and `is_stable` holds.

    The hull reaches from the smaller of both lower limits to the larger of both upper ones: of
    heavy-tailed values, which look skewed by chance, bootstrap-t alone covers less than t. Below
    `FEW_SEEDS` values ``auto`` takes t, because bootstrap-t is several times as wide there.
    """
    if rule != "auto":
        return rule
    usable = len(per_seed) >= FEW_SEEDS and is_skewed(per_seed) and is_stable(boot, plain)
    return "hull" if usable else "t"
