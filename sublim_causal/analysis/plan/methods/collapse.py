"""What a plan can ask of an arm's worst seeds: which collapsed, and how many may."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite

import numpy as np

from sublim_causal.analysis.estimates.collapse import widest_gap
from sublim_causal.analysis.estimates.distributions import beta_isf, beta_ppf
from sublim_causal.analysis.estimates.panel import validate_columns
from sublim_causal.analysis.estimates.settings import Settings
from sublim_causal.analysis.estimates.types import FRACTION, Estimand, Estimate, Result, too_few
from sublim_causal.analysis.plan.declaration import OfArm, ReplicateColumn, with_unit
from sublim_causal.analysis.plan.method import Method, absent
from sublim_causal.analysis.plan.record import Record


class CollapsedSeeds(OfArm):
    """Share of an arm's seeds that lie below a wide gap in a run-level column."""

    outcome: ReplicateColumn
    """Column of ``replicates`` that is low in a collapsed seed."""

    def about(self) -> dict[str, str]:
        """Arm, column and unit."""
        return {**super().about(), "column": self.outcome, "unit": FRACTION}


def _collapsed_seeds(
    record: Record, declared: CollapsedSeeds, settings: Settings
) -> Sequence[Result]:
    results: list[Result] = []
    outcome = with_unit("replicates", declared.outcome)
    complete = record.complete
    validate_columns(complete, [declared.outcome])
    for arm in declared.chosen(record.arms):
        estimand = declared.estimand(outcome, f"arm {arm}", arm if declared.each else "", arm=arm)
        rows = complete[complete["arm"] == arm].dropna(subset=[declared.outcome])
        refusal = absent(record, estimand, arm) or too_few(estimand, len(rows))
        values = rows[declared.outcome].to_numpy(dtype=float)
        results.append(
            refusal or collapsed_share(values, rows["seed"].tolist(), estimand, settings.level)
        )
    return results


def collapsed_share(
    values: np.ndarray, seeds: Sequence[object], estimand: Estimand, level: float
) -> Estimate:
    """Return the share of `values` below a wide gap, with its exact binomial interval.

    Where there is none the upper limit is one-sided: of 8 seeds without one, up to 31 % of new
    seeds could collapse.

    Parameters
    ----------
    values : ndarray of shape (n,)
        One per seed, n at least 3.
    seeds : sequence of length n
        Their names.
    estimand : Estimand
        What is estimated.
    level : float
        Confidence level.
    """
    gap, n = widest_gap(values), len(values)
    named = [seed for seed, low in zip(seeds, gap.below, strict=True) if low and gap.is_wide]
    k = len(named)
    tail = 1 - level if k == 0 else (1 - level) / 2
    high = beta_isf(tail, k + 1, n - k)
    if k:
        listed = ", ".join(map(str, named))
        where = (
            f"a gap of {gap.ratio:.1f} standard deviations of the others"
            if isfinite(gap.ratio)
            else "the others, which are all equal"
        )
        subject = f"seed {listed} of {n} lies" if k == 1 else f"seeds {listed} of {n} lie"
        warning = f"{subject} below {where}: a mean over both describes neither"
    else:
        warning = f"0 of {n} seeds collapsed: up to {100 * high:.0f} % may collapse"
    return Estimate(
        estimand=estimand,
        value=k / n,
        se=float(np.sqrt(k * (n - k) / n**3)),
        low=beta_ppf(tail, k, n - k + 1) if k else 0.0,
        high=high,
        level=level,
        df=None,
        p_value=None,
        method="exact binomial" if k else "exact binomial, one-sided",
        n_seeds=n,
        warnings=(warning,),
        diagnostics={"collapsed": named, "gap": gap.ratio, "limit": gap.limit},
    )


COLLAPSE_METHODS: Mapping[str, Method] = {
    "collapsed_seeds": Method(CollapsedSeeds, _collapsed_seeds)
}
