"""Which interval is the headline, t or bootstrap-t, and the warnings that go with it."""

from __future__ import annotations

import numpy as np

from sublim_causal.analysis.estimates.bootstrap import Bounds
from sublim_causal.analysis.estimates.settings import IntervalRule
from sublim_causal.analysis.estimates.types import FEW_SEEDS, Floats

SKEW_LIMIT = 1.0
"""Beyond this sample skewness of the per-seed values bootstrap-t is the headline."""
_SKEW_SEEDS = 16
WIDEST = 20.0
"""A bootstrap-t interval more than this many times as wide as the t interval is not quoted."""


def skewness(values: Floats) -> float:
    """Sample skewness m3 / m2^1.5 of per-seed values; 0 where they are all equal."""
    deviations = values - values.mean()
    scale = np.mean(deviations**2) ** 1.5
    return float(np.mean(deviations**3) / scale) if scale > 0 else 0.0


def is_skewed(values: Floats) -> bool:
    """Whether the skewness rule makes bootstrap-t the headline."""
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
        quote = ": bootstrap-t is the interval to quote"
        if n_seeds < FEW_SEEDS:
            quote = f", but bootstrap-t needs at least {FEW_SEEDS} of them"
        elif not stable:
            quote = ", but too few of them differ for a stable bootstrap-t interval"
        found.append(skew + quote)
    if skewed and n_seeds < _SKEW_SEEDS:
        found.append(
            "with so few skewed values no interval reaches its nominal coverage "
            "(at 95 %: about 92 to 93.6 %)"
        )
    return tuple(found)


def is_stable(boot: Bounds, plain: Bounds) -> bool:
    """Whether a bootstrap-t interval can be quoted: bounded, and not far wider than the t interval.

    With few seeds whose values nearly coincide, some replicates have almost no spread, and the
    limits then depend on chance draws. Both intervals have the same level.
    """
    width = boot.high - boot.low
    return bool(np.isfinite(width) and width <= WIDEST * (plain.high - plain.low))


def headline_is_bootstrap(
    rule: IntervalRule, per_seed: Floats, boot: Bounds, plain: Bounds
) -> bool:
    """Apply `rule`: ``auto`` takes bootstrap-t where values are skewed and `is_stable` holds.

    Below `FEW_SEEDS` values it does not. With 4 to 7 seeds the paired contrasts of the coverage
    study are covered in 94 to 97 % of studies by t and with the switch alike, and where bootstrap-t
    would lead it is 1.3 to 5 times as wide as usual. Heavier skew costs t more: of 7 lognormal
    values themselves it covers the mean in 83 % of samples, with the switch in 86 %.
    """
    usable = len(per_seed) >= FEW_SEEDS and is_skewed(per_seed) and is_stable(boot, plain)
    return rule == "bootstrap-t" or (rule == "auto" and usable)
