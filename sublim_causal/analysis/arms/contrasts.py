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

from sublim_causal.analysis.arms.multiplicity import holm, p_values, sign_flip_max_t, with_adjusted
from sublim_causal.analysis.estimates.intervals import mean_interval
from sublim_causal.analysis.estimates.panel import Panel, paired_panel, seeds_and_arms
from sublim_causal.analysis.estimates.settings import Settings
from sublim_causal.analysis.estimates.types import Estimand, Estimate, Floats, Result
from sublim_causal.errors import RequestError, nearest


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
