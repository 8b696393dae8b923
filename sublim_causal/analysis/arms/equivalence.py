r"""Equivalence of two arms: two one-sided t tests against a margin fixed in advance.

A p-value above 0.05 does not show equivalence; a 90 % interval that lies wholly inside
:math:`(-\Delta, \Delta)` does.
"""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pandas as pd

from sublim_causal.analysis.arms.contrasts import paired_arms, paired_contrast
from sublim_causal.analysis.arms.independent import welch_contrast
from sublim_causal.analysis.estimates.bootstrap import ClusterMean, cluster_bootstrap
from sublim_causal.analysis.estimates.distributions import t_sf
from sublim_causal.analysis.estimates.intervals import t_bounds
from sublim_causal.analysis.estimates.settings import Settings
from sublim_causal.analysis.estimates.types import Estimand, Estimate, Result
from sublim_causal.errors import RequestError


def tost(
    replicates: pd.DataFrame,
    outcome: str,
    arm: object,
    reference: object = "baseline",
    *,
    margin: float,
    alpha: float = 0.05,
    settings: Settings = Settings(),
    estimand: Estimand | None = None,
    cluster: str = "seed",
    arm_column: str = "arm",
    paired: bool = True,
) -> Result:
    r"""Paired TOST: :math:`p = \max(P(T > (\bar D + \Delta)/se), P(T < (\bar D - \Delta)/se))`.

    Parameters
    ----------
    replicates, outcome, arm, reference, cluster, arm_column
        As in `paired_contrast`.
    margin : float
        Delta > 0 in the outcome's unit, chosen before the data were read.
    alpha : float
        Level of each one-sided test; the interval has level 1 - 2 alpha.
    settings : Settings
        How the interval is computed; its level follows from `alpha`.
    estimand : Estimand, optional
        What is estimated; the default names outcome, arms and margin.
    paired : bool
        Whether arms share their seeds; else the tests are Welch's (`welch_contrast`).

    Returns
    -------
    Estimate or NotEstimable
        `p_value` is that of the null "the arms differ by the margin or more". Diagnostics hold
        `margin`, `equivalent` (the headline interval lies inside the margin), the statistics
        and p-values of both tests, and the 1 - alpha interval (`wide_low`, `wide_high`). Under
        the skewness rule the hull of the t and the bootstrap-t interval decides, and the larger
        p of both.

    Raises
    ------
    RequestError
        If `margin` is not positive, `alpha` not in (0, 0.5), or a column or arm unknown.
    """
    if not (np.isfinite(margin) and margin > 0):
        raise RequestError("margin", margin, f"a positive number in the unit of {outcome}")
    if not 0 < alpha < 0.5:
        raise RequestError("alpha", alpha, "a number between 0 and 0.5")
    again = copy.deepcopy(settings.rng)
    contrast = paired_contrast if paired else welch_contrast
    result = contrast(
        replicates,
        outcome,
        arm,
        reference,
        settings=replace(settings, level=1 - 2 * alpha),
        estimand=estimand or _estimand(outcome, str(arm), str(reference), margin),
        cluster=cluster,
        arm_column=arm_column,
    )
    if not isinstance(result, Estimate):
        return result
    if "bootstrap" not in result.method:
        return _judged(result, margin, alpha, None)
    panel = paired_arms(replicates, outcome, arm, reference, cluster=cluster, arm_column=arm_column)
    differences = panel.difference(outcome, *panel.arms)
    # The same draws that made the interval, so that p and interval cannot disagree.
    drawn = cluster_bootstrap(ClusterMean(differences), n_boot=settings.n_boot, rng=again)
    p = max(drawn.one_sided(-margin).greater, drawn.one_sided(margin).less)
    return _judged(result, margin, alpha, p)


def _estimand(outcome: str, arm: str, reference: str, margin: float) -> Estimand:
    return Estimand(
        name=f"equivalence_{outcome}_{arm}",
        sentence=f"{arm!r} and {reference!r} differ in mean {outcome} by less than {margin:g}.",
        outcome=outcome,
        contrast=f"{arm} - {reference}",
    )


def _judged(result: Estimate, margin: float, alpha: float, p: float | None) -> Estimate:
    """Add the verdict and the t tests; `p` of bootstrap-t replaces or, in a hull, joins theirs."""
    kept = {**result.diagnostics, "margin": margin}
    kept["equivalent"] = bool(-margin < result.low and result.high < margin)
    if result.se > 0:
        df = result.n_seeds - 1 if result.df is None else result.df
        tests = _one_sided_tests(result.value, result.se, df, margin)
        wide = t_bounds(result.value, result.se, df, 1 - alpha)
        kept |= tests | {"wide_low": wide.low, "wide_high": wide.high}
        own = max(tests["p_lower"], tests["p_upper"])
        p = own if p is None else max(p, own) if "hull" in result.method else p
    method = result.method.replace("paired", "paired TOST,").replace("Welch", "TOST, Welch")
    return replace(result, p_value=p, method=method, diagnostics=kept)


def _one_sided_tests(value: float, se: float, df: float, margin: float) -> dict[str, float]:
    """Statistics and p-values of the tests against -margin (lower) and margin (upper)."""
    lower, upper = (value + margin) / se, (value - margin) / se
    return {
        "t_lower": lower,
        "t_upper": upper,
        "p_lower": float(t_sf(lower, df)),
        "p_upper": float(t_sf(-upper, df)),
    }
