"""Slopes within runs and steps refitted with statsmodels' ``OLS``, as an independent check."""

from __future__ import annotations

import numpy as np
import pandas as pd

from sublim_causal.analysis.mixed.crosscheck import AGREES, CrossCheck
from sublim_causal.analysis.steps.two_way import two_way, within_run_and_step


def check_slope(steps: pd.DataFrame, outcome: str, predictor: str) -> CrossCheck:
    """Refit a slope within runs and steps with ``OLS``, clustered by seed without correction.

    The slope is compared, and the CR0 standard error, which CR2 adjusts.

    Raises
    ------
    RequestError, DataError
        As in `two_way`.
    """
    import statsmodels.api as sm

    ours = two_way(steps, outcome, predictor)
    scores = ours.xy - ours.slope * ours.xx
    own = float(np.sqrt((scores**2).sum()) / ours.xx.sum())
    within = within_run_and_step(steps, outcome, predictor)
    groups = {"groups": within.places[0], "use_correction": False}
    found = sm.OLS(within.y[within.places], within.x[within.places]).fit(
        cov_type="cluster", cov_kwds=groups
    )
    shift = abs(float(found.params[0]) - ours.slope) / own
    change = abs(float(found.bse[0]) / own - 1)
    verdict = "agrees" if max(shift, change) <= AGREES else "differs"
    return CrossCheck("statsmodels OLS, clustered by seed", shift, change, None, verdict)
