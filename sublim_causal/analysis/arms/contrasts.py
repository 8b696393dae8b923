r"""Arm contrasts at run level: paired by seed, because every seed is run under every arm.

With :math:`D_s = Y_s(a) - Y_s(0)` the total effect is :math:`E[D_s]`, estimated by the mean with
a paired t interval on N - 1 degrees of freedom. A pooled mixed-model contrast is no default: where
one arm is noisier it covers 84 to 86 % for that arm and 100 % for a quiet one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from sublim_causal.analysis.estimates.bootstrap import Floats
from sublim_causal.analysis.estimates.intervals import mean_interval
from sublim_causal.analysis.estimates.settings import Settings
from sublim_causal.analysis.estimates.types import Estimand, Estimate, Result
from sublim_causal.errors import RequestError, nearest

N_FLIPS = 9999
_EXACT_SEEDS = 13
_TIE = 1e-10


@dataclass(frozen=True)
class PairedDifferences:
    """Outcome under an arm minus under the reference, one number a complete seed.

    Attributes
    ----------
    values : Series of shape (N,), indexed by seed
        Differences in the outcome's unit.
    arm, reference : Series of shape (N,)
        The outcome under each.
    dropped : mapping of str to int
        Seeds left out, counted by reason.
    """

    values: pd.Series
    arm: pd.Series
    reference: pd.Series
    dropped: Mapping[str, int]


def paired_differences(
    replicates: pd.DataFrame, outcome: str, arm: str, reference: str = "baseline"
) -> PairedDifferences:
    """Return the differences arm - reference of the seeds that are complete in both.

    Parameters
    ----------
    replicates : DataFrame
        One row a seed and arm: seed, arm, `outcome`, and where there is one, status.
    outcome : str
        Column that is compared.
    arm, reference : str
        Arms that are compared.

    Raises
    ------
    RequestError
        If a column or an arm is not there.
    """
    _validate_choice("outcome", outcome, list(replicates.columns))
    for name in (arm, reference):
        _validate_choice("arm", name, list(replicates["arm"].unique()))
    sides = [_side(replicates, outcome, name) for name in (arm, reference)]
    seeds = np.sort(replicates["seed"].unique())
    reasons = [
        _reasons(side, seeds, name) for side, name in zip(sides, (arm, reference), strict=True)
    ]
    why = reasons[0].where(reasons[0] != "", reasons[1])
    complete = why.index[why == ""]
    a, r = (side.loc[complete, outcome].astype(float) for side in sides)
    counts = why[why != ""].value_counts().sort_index()
    return PairedDifferences(a - r, a, r, {str(k): int(v) for k, v in counts.items()})


def _validate_choice(field: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise RequestError(field, value, ", ".join(known), nearest(value, known))


def _side(replicates: pd.DataFrame, outcome: str, arm: str) -> pd.DataFrame:
    rows = replicates.loc[replicates["arm"] == arm].set_index("seed")
    if not rows.index.is_unique:
        raise RequestError("replicates", arm, "one row a seed and arm")
    status = rows.get("status", "complete")
    return rows[[outcome]].assign(status=status)


def _reasons(side: pd.DataFrame, seeds: np.ndarray, arm: str) -> pd.Series:
    """Why each seed cannot enter on this side; empty where it can."""
    aligned = side.reindex(seeds)
    status = aligned["status"].fillna("missing").astype(str)
    finite = np.isfinite(aligned.iloc[:, 0].to_numpy(dtype=float, na_value=np.nan))
    status = status.where((status != "complete") | finite, "without outcome")
    return (arm + " " + status).where(status != "complete", "")


def paired_contrast(
    replicates: pd.DataFrame,
    outcome: str,
    arm: str,
    reference: str = "baseline",
    *,
    settings: Settings = Settings(),
    estimand: Estimand | None = None,
) -> Result:
    r"""Mean paired difference :math:`\bar D`, paired t interval, bootstrap-t where skewed.

    Parameters
    ----------
    replicates : DataFrame
        One row a seed and arm: seed, arm, `outcome`, and where there is one, status.
    outcome : str
        Column that is compared.
    arm, reference : str
        The contrast is arm - reference.
    settings : Settings
        How the interval is computed.
    estimand : Estimand, optional
        What is estimated; the default names outcome and arms.

    Returns
    -------
    Estimate or NotEstimable
        With diagnostics: means of both arms, effect sizes (`cohen_dz` = mean / sd of the
        differences, `hedges_gz` the same without small-sample bias), share of seeds with a
        positive difference, correlation of the arms, seeds dropped by reason.

    Raises
    ------
    RequestError
        If a column or an arm is not there.
    """
    pairs = paired_differences(replicates, outcome, arm, reference)
    estimand = estimand or Estimand(
        name=f"{outcome}_{arm}",
        sentence=f"Mean difference of {outcome} between {arm} and {reference}.",
        outcome=outcome,
        contrast=f"{arm} - {reference}",
    )
    result = mean_interval(
        pairs.values,
        estimand=estimand,
        n_dropped=sum(pairs.dropped.values()),
        diagnostics=_paired_diagnostics(pairs),
        settings=settings,
    )
    return (
        replace(result, method=f"paired {result.method}")
        if isinstance(result, Estimate)
        else result
    )


def _paired_diagnostics(pairs: PairedDifferences) -> dict[str, Any]:
    kept: dict[str, Any] = {"dropped": dict(pairs.dropped)}
    n = len(pairs.values)
    if n < 2:
        return kept
    d = pairs.values.to_numpy()
    sd = float(d.std(ddof=1))
    kept |= {
        "mean_arm": float(pairs.arm.mean()),
        "mean_reference": float(pairs.reference.mean()),
        "share_of_seeds_positive": float(np.mean(d > 0)),
    }
    if sd > 0:
        dz = float(d.mean()) / sd
        kept |= {"cohen_dz": dz, "hedges_gz": dz * _hedges(n - 1)}
    if pairs.arm.std() > 0 and pairs.reference.std() > 0:
        kept["correlation"] = float(np.corrcoef(pairs.arm, pairs.reference)[0, 1])
    return kept


def _hedges(df: int) -> float:
    """Exact small-sample factor of a standardised mean (Hedges, 1981, equation 6e)."""
    return float(
        np.exp(special.gammaln(df / 2) - special.gammaln((df - 1) / 2)) / np.sqrt(df / 2)
        if df > 1
        else np.nan
    )


def arm_contrasts(
    replicates: pd.DataFrame,
    outcome: str,
    arms: Sequence[str],
    reference: str = "baseline",
    *,
    adjust: str = "sign_flip",
    settings: Settings = Settings(),
) -> tuple[Result, ...]:
    """`paired_contrast` of each of `arms`, with p adjusted over them in ``p_adjusted``.

    Parameters
    ----------
    replicates, outcome, reference, settings
        As in `paired_contrast`.
    arms : sequence of str
        The family.
    adjust : {"sign_flip", "holm"}
        `sign_flip_max_t` on the differences, or `holm` on the p-values.

    Raises
    ------
    RequestError
        If `adjust`, a column or an arm is unknown.
    """
    _validate_choice("adjust", adjust, ("sign_flip", "holm"))
    results = [
        paired_contrast(replicates, outcome, arm, reference, settings=settings) for arm in arms
    ]
    if adjust == "holm":
        return with_adjusted(results, holm(p_values(results)), adjust)
    columns = {arm: paired_differences(replicates, outcome, arm, reference).values for arm in arms}
    flipped = sign_flip_max_t(pd.DataFrame(columns).to_numpy(), rng=settings.rng)
    return with_adjusted(results, flipped, adjust)


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


def holm(p: Floats) -> Floats:
    """Holm (1979) step-down adjustment; NaN stays NaN and does not count."""
    from statsmodels.stats.multitest import multipletests

    adjusted = np.full(len(p), np.nan)
    known = np.isfinite(p)
    if known.any():
        adjusted[known] = multipletests(p[known], method="holm")[1]
    return adjusted


def sign_flip_max_t(
    differences: Floats,
    *,
    n_flips: int = N_FLIPS,
    rng: np.random.Generator | int = 0,
) -> Floats:
    r"""Step-down max-T p-values over arms from sign flips of whole seeds.

    Under the null that a seed's vector of differences is symmetric about 0, flipping its sign
    leaves the joint distribution of the t statistics as it is. An arm's p is the share of flips
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
    signs, observed_too = _signs(len(differences), n_flips, np.random.default_rng(rng))
    filled = np.nan_to_num(differences)
    n = np.isfinite(differences).sum(axis=0)
    observed = np.abs(_flipped_t(np.ones((1, len(filled))), filled, n))[0]
    usable = np.flatnonzero(np.isfinite(observed))
    order = usable[np.argsort(observed[usable])]
    largest = np.maximum.accumulate(np.abs(_flipped_t(signs, filled[:, order], n[order])), axis=1)
    # The tolerance keeps flips that tie with the observed statistic up to rounding.
    reached = (largest >= observed[order] * (1 - _TIE)).sum(axis=0)
    p = (reached + observed_too) / (len(signs) + observed_too)
    adjusted = np.full(differences.shape[1], np.nan)
    adjusted[order] = np.maximum.accumulate(p[::-1])[::-1]
    return adjusted


def _signs(n_seeds: int, n_flips: int, rng: np.random.Generator) -> tuple[Floats, int]:
    """All sign vectors, or random ones to which the observed one is to be added."""
    if n_seeds <= _EXACT_SEEDS:
        bits = np.arange(2**n_seeds)[:, None] >> np.arange(n_seeds) & 1
        return 1.0 - 2.0 * bits.astype(np.float64), 0
    bits = rng.integers(2, size=(n_flips, n_seeds))
    return 1.0 - 2.0 * bits.astype(np.float64), 1


def _flipped_t(signs: Floats, differences: Floats, n: np.ndarray) -> Floats:
    """Compute t statistics of flipped differences; flips leave the sums of squares alone."""
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = signs @ differences / n
        variance = np.maximum((differences**2).sum(axis=0) / n - mean**2, 0.0) / (n - 1)
        t = mean / np.sqrt(variance)
    return np.where(n < 2, np.nan, t)
