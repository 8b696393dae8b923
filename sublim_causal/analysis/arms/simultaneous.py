r"""Simultaneous intervals of a family: with the stated probability all of them cover.

Each is :math:`\hat\theta_k \mp c\, se_k` with one critical value c for the family.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from sublim_causal.analysis.arms.multiplicity import N_FLIPS, flip_signs, flipped_t
from sublim_causal.analysis.estimates.distributions import t_isf
from sublim_causal.analysis.estimates.types import Estimate, Floats, Result

FEWEST_FLIPPED = 6
"""Seeds below which sign flips are too few for a quantile, and Bonferroni's t is taken."""
MAX_T = "max-t by sign flips"
BONFERRONI = "Bonferroni t"


def with_simultaneous(
    results: Sequence[Result], level: float, *, differences: Floats | None = None
) -> tuple[Result, ...]:
    r"""Give each estimate of a family its simultaneous interval, in ``simultaneous``.

    Parameters
    ----------
    results : sequence of Estimate or NotEstimable
        The K members of the family.
    level : float
        Probability that all intervals cover, in (0, 1).
    differences : ndarray of shape (N, K), optional
        Paired differences of N seeds, for the critical value :func:`max_t`; without them, and
        with fewer than 6 seeds, :math:`t_{df, 1 - (1 - level) / 2K}` (Bonferroni).

    Returns
    -------
    tuple of Estimate or NotEstimable
        The diagnostic ``simultaneous`` holds `method`, `low` and `high`. Members without a
        standard error have none.
    """
    members = [k for k, one in enumerate(results) if isinstance(one, Estimate) and one.se > 0]
    critical = None
    if differences is not None and len(differences) >= FEWEST_FLIPPED and members:
        critical = max_t(differences[:, members], level)
    found = list(results)
    for k in members:
        one = results[k]
        assert isinstance(one, Estimate)
        df = one.n_seeds - 1 if one.df is None else one.df
        alone = float(t_isf((1 - level) / (2 * len(members)), df))
        half = one.se * (alone if critical is None else critical)
        bounds = {
            "method": BONFERRONI if critical is None else MAX_T,
            "low": one.value - half,
            "high": one.value + half,
        }
        found[k] = replace(one, diagnostics={**one.diagnostics, "simultaneous": bounds})
    return tuple(found)


def max_t(
    differences: Floats, level: float, *, n_flips: int = N_FLIPS, rng: np.random.Generator | int = 0
) -> float:
    r"""Critical value of :math:`\max_k |t_k|`: its quantile over sign flips of whole seeds.

    The differences are centred first, and a seed's vector is flipped as one, so that correlation
    between the members is kept. The level holds for symmetric differences; for skewed ones the
    joint coverage is lower.

    Parameters
    ----------
    differences : ndarray of shape (N, K)
        Paired differences; NaN where a seed has no pair.
    level : float
        In (0, 1).
    n_flips, rng
        As in `multiplicity.sign_flip_max_t`.
    """
    signs, _ = flip_signs(len(differences), n_flips, np.random.default_rng(rng))
    centred = np.nan_to_num(differences - np.nanmean(differences, axis=0))
    n = np.isfinite(differences).sum(axis=0)
    largest = np.nanmax(np.abs(flipped_t(signs, centred, n)), axis=1)
    return float(np.quantile(largest, level, method="higher"))
