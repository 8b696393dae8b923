"""P-values of a family of tests: Holm, sign flips of whole seeds, and a fixed sequence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from sublim_causal.analysis.estimates.types import Estimate, Floats, NotEstimable, Result

N_FLIPS = 9999
_EXACT_SEEDS = 13
_TIE = 1e-10


def p_values(results: Sequence[Result]) -> Floats:
    """The p-value of each result; NaN where there is none."""
    found = [r.p_value if isinstance(r, Estimate) else None for r in results]
    return np.array([np.nan if p is None else p for p in found])


def with_adjusted(results: Sequence[Result], adjusted: Floats, adjust: str) -> tuple[Result, ...]:
    """Return `results` with `adjusted` p-values, where there are any, in their diagnostics."""
    return tuple(
        replace(r, diagnostics={**r.diagnostics, "p_adjusted": float(p), "adjustment": adjust})
        if isinstance(r, Estimate) and np.isfinite(p)
        else r
        for r, p in zip(results, adjusted, strict=True)
    )


def fixed_sequence(results: Sequence[Result]) -> tuple[Result, ...]:
    """Adjust the p-values of a fixed sequence of tests: each becomes the largest up to it.

    At level alpha a hypothesis is rejected only if all before it are, and the family-wise error is
    at most alpha without further adjustment (Maurer, Hothorn and Lehmacher, 1995).

    Parameters
    ----------
    results : sequence of Estimate or NotEstimable
        In the order of the tests.

    Returns
    -------
    tuple of Estimate or NotEstimable
        From the first without a p-value on, estimates get no adjusted one, and a warning says so.
    """
    found: list[Result] = []
    largest, closed_by = 0.0, ""
    for one in results:
        p = one.p_value if isinstance(one, Estimate) else None
        if p is None and not closed_by:
            closed_by = one.estimand.name
        if isinstance(one, NotEstimable):
            found.append(one)
        elif p is None or closed_by:
            note = f"not tested: {closed_by} has no p-value, and the sequence ends there"
            found.append(replace(one, warnings=(*one.warnings, note)))
        else:
            largest = max(largest, p)
            found += with_adjusted([one], np.array([largest]), "gate")
    return tuple(found)


def holm(p: Floats) -> Floats:
    """Holm (1979) step-down adjustment; NaN stays NaN and does not count.

    That of statsmodels gives the same numbers, but runs the garbage collector at every call.
    """
    adjusted = np.full(len(p), np.nan)
    order = np.argsort(p, kind="stable")[: np.isfinite(p).sum()]
    stepped = np.arange(len(order), 0, -1) * p[order]
    adjusted[order] = np.minimum(np.maximum.accumulate(stepped), 1)
    return adjusted


def sign_flip_max_t(
    differences: Floats, *, n_flips: int = N_FLIPS, rng: np.random.Generator | int = 0
) -> Floats:
    r"""Step-down max-T p-values over arms from sign flips of whole seeds.

    Under the null that a seed's vector of differences is symmetric about 0, flipping its sign
    does not change the joint distribution of the t statistics. An arm's p is the share of flips
    whose largest :math:`|t|` over this arm and all with smaller :math:`|t|` reaches its own
    (Westfall and Young, 1993, algorithm 4.1); it controls the family-wise error.

    Parameters
    ----------
    differences : ndarray of shape (N, K)
        Paired differences of N seeds in K arms; NaN where a seed has no pair.
    n_flips : int
        Random flips; up to 13 seeds all 2^N are taken and the p-values are exact.
    rng : Generator or int
        Source of the random flips.

    Returns
    -------
    ndarray of shape (K,)
        Adjusted p, never 0; NaN for an arm with fewer than 2 pairs or without spread.
    """
    signs, observed_too = flip_signs(len(differences), n_flips, np.random.default_rng(rng))
    filled = np.nan_to_num(differences)
    n = np.isfinite(differences).sum(axis=0)
    observed = np.abs(flipped_t(np.ones((1, len(filled))), filled, n))[0]
    pairs = [column[np.isfinite(column)] for column in differences.T]
    varies = np.array([column.size > 0 and np.ptp(column) > 0 for column in pairs], dtype=bool)
    usable = np.flatnonzero(np.isfinite(observed) & varies)
    order = usable[np.argsort(observed[usable])]
    largest = np.maximum.accumulate(np.abs(flipped_t(signs, filled[:, order], n[order])), axis=1)
    # The tolerance keeps flips that tie with the observed statistic up to rounding.
    reached = (largest >= observed[order] * (1 - _TIE)).sum(axis=0)
    p = (reached + observed_too) / (len(signs) + observed_too)
    adjusted = np.full(differences.shape[1], np.nan)
    adjusted[order] = np.maximum.accumulate(p[::-1])[::-1]
    return adjusted


def flip_signs(n_seeds: int, n_flips: int, rng: np.random.Generator) -> tuple[Floats, int]:
    """Return all sign vectors, or random ones, and the number of observed vectors to add."""
    if n_seeds <= _EXACT_SEEDS:
        bits = np.arange(2**n_seeds)[:, None] >> np.arange(n_seeds) & 1
        return 1.0 - 2.0 * bits.astype(np.float64), 0
    bits = rng.integers(2, size=(n_flips, n_seeds))
    return 1.0 - 2.0 * bits.astype(np.float64), 1


def flipped_t(signs: Floats, differences: Floats, n: np.ndarray) -> Floats:
    """Compute t statistics of flipped differences; flips do not change the sums of squares."""
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = signs @ differences / n
        variance = np.maximum((differences**2).sum(axis=0) / n - mean**2, 0.0) / (n - 1)
        t = mean / np.sqrt(variance)
    return np.where(n < 2, np.nan, t)
