r"""Arm contrasts at run level: paired by seed, because every seed is run under every arm.

With :math:`D_s = Y_s(a) - Y_s(0)` the total effect is :math:`E[D_s]`, estimated by the mean with
a paired t interval on N - 1 degrees of freedom. A pooled mixed-model contrast is not the default:
where the noise differs between arms, it covers too little for the noisier one and too much for the
others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from sublim_causal.analysis.estimates.intervals import mean_interval
from sublim_causal.analysis.estimates.panel import Panel, paired_panel, seeds_and_arms
from sublim_causal.analysis.estimates.settings import Settings
from sublim_causal.analysis.estimates.types import Estimand, Estimate, Floats, NotEstimable, Result
from sublim_causal.errors import RequestError, nearest

N_FLIPS = 9999
_EXACT_SEEDS = 13
_TIE = 1e-10


def paired_arms(
    replicates: pd.DataFrame,
    outcome: str,
    arm: object,
    reference: object = "baseline",
    *,
    cluster: str = "seed",
    arm_column: str = "arm",
) -> Panel:
    """Return `outcome` of the seeds that are complete under both arms.

    Raises
    ------
    RequestError
        If a column or an arm is not there.
    DataError
        If a seed has two complete rows under one arm.
    """
    frame = labelled_rows(
        replicates, outcome, (arm, reference), cluster=cluster, arm_column=arm_column
    )
    return paired_panel(frame, [outcome], [str(arm), str(reference)])


def labelled_rows(
    replicates: pd.DataFrame, outcome: str, arms: Sequence[object], *, cluster: str, arm_column: str
) -> pd.DataFrame:
    """Return `replicates` with its seeds and arms in ``seed`` and ``arm``; check what is asked.

    Raises
    ------
    RequestError
        If a column or an arm is not there.
    """
    known = list(map(str, replicates.columns))
    for field, column in (("outcome", outcome), ("cluster", cluster), ("arm_column", arm_column)):
        validate_choice(field, column, known)
    frame = seeds_and_arms(replicates, cluster, arm_column)
    for arm in arms:
        validate_choice("arm", str(arm), list(frame["arm"].unique()))
    return frame


def validate_choice(field: str, value: str, known: Sequence[str]) -> None:
    """Refuse a `value` that is none of `known`.

    Raises
    ------
    RequestError
    """
    if value not in known:
        raise RequestError(field, value, ", ".join(known), nearest(value, known))


def paired_contrast(
    replicates: pd.DataFrame,
    outcome: str,
    arm: object,
    reference: object = "baseline",
    *,
    settings: Settings = Settings(),
    estimand: Estimand | None = None,
    cluster: str = "seed",
    arm_column: str = "arm",
) -> Result:
    r"""Mean paired difference :math:`\bar D`, paired t interval, hull with bootstrap-t if skewed.

    Parameters
    ----------
    replicates : DataFrame
        One row per seed and arm: seed, arm, `outcome`, and where there is one, status.
    outcome : str
        Column that is compared.
    arm, reference : str or number
        The contrast is arm - reference.
    settings : Settings
        How the interval is computed.
    estimand : Estimand, optional
        What is estimated; the default names outcome and arms.
    cluster, arm_column : str
        Columns that hold the seeds, numbers or text, and the arms.

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
    panel = paired_arms(replicates, outcome, arm, reference, cluster=cluster, arm_column=arm_column)
    estimand = estimand or Estimand(
        name=f"{outcome}_{arm}",
        sentence=f"Mean difference of {outcome} between {arm!r} and {reference!r}.",
        outcome=outcome,
        contrast=f"{arm} - {reference}",
    )
    result = mean_interval(
        panel.difference(outcome, *panel.arms),
        estimand=estimand,
        n_dropped=panel.n_dropped,
        diagnostics=_paired_diagnostics(panel, outcome),
        settings=settings,
    )
    return (
        replace(result, method=f"paired {result.method}")
        if isinstance(result, Estimate)
        else result
    )


def _paired_diagnostics(panel: Panel, outcome: str) -> dict[str, Any]:
    kept: dict[str, Any] = {"dropped": dict(panel.dropped)}
    n = len(panel.seeds)
    if n < 2:
        return kept
    arm, reference = panel.columns[outcome].T
    d = panel.difference(outcome, *panel.arms)
    sd = float(d.std(ddof=1))
    kept |= {
        "mean_arm": float(arm.mean()),
        "mean_reference": float(reference.mean()),
        "share_of_seeds_positive": float(np.mean(d > 0)),
    }
    if np.ptp(d) > 0:
        dz = float(d.mean()) / sd
        kept |= {"cohen_dz": dz, "hedges_gz": dz * hedges_factor(n - 1)}
    if arm.std() > 0 and reference.std() > 0:
        kept["correlation"] = float(np.corrcoef(arm, reference)[0, 1])
    return kept


def hedges_factor(df: int) -> float:
    """Exact small-sample factor of a standardised mean (Hedges, 1981, equation 6e)."""
    return float(
        np.exp(special.gammaln(df / 2) - special.gammaln((df - 1) / 2)) / np.sqrt(df / 2)
        if df > 1
        else np.nan
    )


def arm_contrasts(
    replicates: pd.DataFrame,
    outcome: str,
    arms: Sequence[object],
    reference: object = "baseline",
    *,
    adjust: str = "sign_flip",
    settings: Settings = Settings(),
    cluster: str = "seed",
    arm_column: str = "arm",
) -> tuple[Result, ...]:
    """`paired_contrast` of each of `arms`, with p adjusted over them in ``p_adjusted``.

    Parameters
    ----------
    replicates, outcome, reference, settings, cluster, arm_column
        As in `paired_contrast`.
    arms : sequence of str or numbers
        The family.
    adjust : {"sign_flip", "holm"}
        `sign_flip_max_t` on the differences, or `holm` on the p-values.

    Raises
    ------
    RequestError
        If `adjust`, a column or an arm is unknown.
    """
    validate_choice("adjust", adjust, ("sign_flip", "holm"))
    known = list(map(str, replicates.columns))
    for field, column in (("cluster", cluster), ("arm_column", arm_column)):
        validate_choice(field, column, known)
    replicates = seeds_and_arms(replicates, cluster, arm_column)
    names, reference = [str(arm) for arm in arms], str(reference)
    results = [
        paired_contrast(replicates, outcome, arm, reference, settings=settings) for arm in names
    ]
    if adjust == "holm":
        return with_adjusted(results, holm(p_values(results)), adjust)
    contrasts = [(outcome, arm, reference) for arm in names]
    flipped = sign_flip_max_t(family_differences(replicates, contrasts), rng=settings.rng)
    return with_adjusted(results, flipped, adjust)


def family_differences(
    replicates: pd.DataFrame, contrasts: Sequence[tuple[str, str, str] | None]
) -> Floats:
    """Paired differences of several contrasts on common seeds, for `sign_flip_max_t`.

    Parameters
    ----------
    replicates : DataFrame
        As in `paired_contrast`.
    contrasts : sequence of (outcome, arm, reference), or None for one that has no differences

    Returns
    -------
    ndarray of shape (N, K)
        NaN where a seed is not complete under both arms.
    """
    columns = {}
    for k, contrast in enumerate(contrasts):
        columns[k] = pd.Series(dtype=float)
        if contrast is not None:
            panel = paired_arms(replicates, *contrast)
            columns[k] = pd.Series(panel.difference(*contrast), index=panel.seeds)
    return pd.DataFrame(columns).to_numpy(dtype=float)


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
