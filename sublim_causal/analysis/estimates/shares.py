"""The interval of a share near 0 or 1, on the logit scale."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from sublim_causal.analysis.estimates.bootstrap import ClusterMean, cluster_bootstrap
from sublim_causal.analysis.estimates.intervals import (
    MEAN,
    beside_bootstrap,
    mean_interval,
    t_bounds,
    t_p_value,
)
from sublim_causal.analysis.estimates.settings import Settings
from sublim_causal.analysis.estimates.types import Estimand, Estimate, Result


def share_interval(
    values: ArrayLike,
    *,
    settings: Settings = Settings(),
    estimand: Estimand = MEAN,
    null: float = 0.5,
    diagnostics: Mapping[str, Any] | None = None,
) -> Result:
    r"""Mean of per-seed shares, with a t interval of its logit, hull with bootstrap-t if skewed.

    .. math:: \operatorname{logit}^{-1}\left(\operatorname{logit} \bar x \pm t_{n-1}
              \frac{s / \sqrt n}{\bar x (1 - \bar x)}\right)

    Parameters
    ----------
    values : array_like of shape (R,)
        One share per seed, in [0, 1].
    settings, estimand, diagnostics
        As in `mean_interval`.
    null : float
        Null value of the p-value, in (0, 1).

    Returns
    -------
    Estimate or NotEstimable
        That of `mean_interval` where all shares are equal.

    Raises
    ------
    DataError
        If a value is missing or infinite.
    """
    plain = mean_interval(
        values,
        settings=replace(settings, interval="t", n_boot=1),
        estimand=estimand,
        null=null,
        diagnostics=diagnostics,
    )
    if not isinstance(plain, Estimate) or plain.se == 0:
        return plain
    x = np.asarray(values, dtype=float).ravel()
    df, se = len(x) - 1, plain.se / (plain.value * (1 - plain.value))
    centre = float(special.logit(plain.value))
    low, high = special.expit(t_bounds(centre, se, df, settings.level))
    on_logits = replace(
        plain,
        low=float(low),
        high=float(high),
        p_value=t_p_value(centre, se, df, float(special.logit(null))),
        method="t of the logit",
        warnings=(),
        diagnostics={
            name: value
            for name, value in plain.diagnostics.items()
            if name not in ("skewness", "also")
        },
    )
    drawn = cluster_bootstrap(ClusterMean(x), n_boot=settings.n_boot, rng=settings.rng)
    return beside_bootstrap(on_logits, drawn, x, settings.interval, null)
