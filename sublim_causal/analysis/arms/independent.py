r"""Contrasts of arms that share no seeds: independent samples, compared by Welch.

With :math:`v_a = s_a^2 / n_a` the interval is
:math:`\bar y_a - \bar y_0 \pm t_\nu \sqrt{v_a + v_0}`, where
:math:`\nu = (v_a + v_0)^2 / (v_a^2 / (n_a - 1) + v_0^2 / (n_0 - 1))` (Welch, 1947).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from sublim_causal.analysis.arms.contrasts import hedges_factor, labelled_rows
from sublim_causal.analysis.estimates.headline import SKEW_LIMIT, is_skewed
from sublim_causal.analysis.estimates.intervals import t_estimate
from sublim_causal.analysis.estimates.panel import complete_runs
from sublim_causal.analysis.estimates.settings import Settings
from sublim_causal.analysis.estimates.types import (
    FEW_SEEDS,
    MIN_SEEDS,
    Estimand,
    Estimate,
    Floats,
    NotEstimable,
    Result,
)

UNPAIRED = "independent samples: seeds are not paired between the arms"
"""Warning of estimates of unpaired arms."""


def samples(
    replicates: pd.DataFrame,
    outcome: str,
    arm: object,
    reference: object = "baseline",
    *,
    cluster: str = "seed",
    arm_column: str = "arm",
) -> tuple[Floats, Floats]:
    """Return `outcome` of the complete replicates of both arms.

    Raises
    ------
    RequestError, DataError
        As in `paired_arms`.
    """
    frame = labelled_rows(
        replicates, outcome, (arm, reference), cluster=cluster, arm_column=arm_column
    )
    runs = complete_runs(frame[frame["arm"].isin([str(arm), str(reference)])], [outcome])
    one, other = (
        runs.loc[runs["arm"] == str(name), outcome].to_numpy(float) for name in (arm, reference)
    )
    return one, other


def welch_contrast(
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
    r"""Difference of means of arms that share no seeds, with Welch's interval.

    Parameters
    ----------
    replicates, outcome, arm, reference, settings, estimand, cluster, arm_column
        As in `paired_contrast`; of the settings the level alone is used.

    Returns
    -------
    Estimate or NotEstimable
        `n_seeds` counts the replicates of both arms. With diagnostics: means of both arms, their
        numbers and standard deviations, and `hedges_g`, the difference in units of the pooled
        standard deviation, without small-sample bias. Not estimable with fewer than 3 in one arm.

    Raises
    ------
    RequestError
        If a column or an arm is not there.

    References
    ----------
    Welch (1947), The generalization of "Student's" problem when several different population
    variances are involved, Biometrika 34, equation 28.
    """
    one, other = samples(
        replicates, outcome, arm, reference, cluster=cluster, arm_column=arm_column
    )
    estimand = estimand or Estimand(
        name=f"{outcome}_{arm}",
        sentence=f"Difference of mean {outcome} between {arm} and {reference}.",
        outcome=outcome,
        contrast=f"{arm} - {reference}",
    )
    for name, count in ((arm, len(one)), (reference, len(other))):
        if count < MIN_SEEDS:
            reason = f"{count} complete seeds of {name}; at least {MIN_SEEDS} are needed"
            return NotEstimable(estimand, reason)
    found = welch_interval(estimand, one, other, settings.level)
    if found is None:
        return NotEstimable(estimand, "all values of each arm are equal, so they have no spread")
    n = len(one) + len(other)
    pooled = np.sqrt((one.var() * len(one) + other.var() * len(other)) / (n - 2))
    return replace(
        found,
        warnings=(UNPAIRED, *_warnings(one, other)),
        diagnostics={
            "mean_arm": float(one.mean()),
            "mean_reference": float(other.mean()),
            "n_arm": len(one),
            "n_reference": len(other),
            "sd_arm": float(one.std(ddof=1)),
            "sd_reference": float(other.std(ddof=1)),
            "hedges_g": found.value / float(pooled) * hedges_factor(n - 2),
        },
    )


def welch_interval(estimand: Estimand, one: Floats, other: Floats, level: float) -> Estimate | None:
    """Difference of the means of two independent samples; None where neither varies.

    Parameters
    ----------
    estimand : Estimand
        What the difference estimates.
    one, other : ndarray of shape (n,)
        A value by replicate, at least two of each; the second mean is subtracted.
    level : float
        Confidence level in (0, 1).
    """
    n = np.array([len(one), len(other)])
    parts = np.array([one.var(ddof=1), other.var(ddof=1)]) / n
    se = float(np.sqrt(parts.sum()))
    if se == 0:
        return None
    df = float(parts.sum() ** 2 / (parts**2 / (n - 1)).sum())
    value = float(one.mean() - other.mean())
    return t_estimate(estimand, value, se, df, level=level, method="Welch t", n_seeds=int(n.sum()))


def _warnings(one: Floats, other: Floats) -> list[str]:
    found = []
    if (fewest := min(len(one), len(other))) < FEW_SEEDS:
        found.append(f"only {fewest} seeds in an arm: the t interval relies on normal values")
    if is_skewed(one) or is_skewed(other):
        found.append(f"the values of an arm are skewed (|skewness| > {SKEW_LIMIT:g})")
    return found
