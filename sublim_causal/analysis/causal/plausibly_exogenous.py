r"""The instrumented effect of alignment where the dose may also act directly.

In ``Y_sa = c_s + beta M_sa + gamma Z_a + e_sa`` the exclusion restriction says gamma = 0. Here
gamma may be anything in ``[-direct, direct]``: given gamma the ratio of per-seed dose slopes

``beta(gamma) = mean_s(slope(Y_s on Z) - gamma) / mean_s slope(M_s on Z)``

has Fieller's set, and the union of these sets over gamma covers beta at the level of each.

References
----------
Conley, Hansen and Rossi (2012), Plausibly exogenous. Review of Economics and Statistics 94,
260-272: the union of confidence intervals, section III.A.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from sublim_causal.analysis.causal.doses import OUTCOME, TREATMENT, dose_panel, effect_estimand
from sublim_causal.analysis.estimates.intervals import t_bounds
from sublim_causal.analysis.estimates.ratios import ratio_of_sums
from sublim_causal.analysis.estimates.settings import Settings
from sublim_causal.analysis.estimates.types import Estimate, Floats, Result

_N_DIRECT = 41
"""Direct effects at which the set is taken; between them its ends move by Fieller's formula."""


def plausibly_exogenous(
    frame: pd.DataFrame,
    doses: Mapping[str, float],
    *,
    direct: float,
    treatment: str = TREATMENT,
    outcome: str = OUTCOME,
    level: float = 0.95,
) -> Result:
    """Return the union of Fieller's sets over direct effects of the dose up to `direct`.

    Parameters
    ----------
    frame, doses, treatment, outcome, level
        As in `iv_linear_dose`.
    direct : float
        Largest direct change of the outcome per unit of strength, at least 0.

    Returns
    -------
    Estimate or NotEstimable
        `value` is the effect without a direct path. ``diagnostics["sign_lost"]`` is the smallest
        direct change per unit of strength, in the direction of the dose's effect, with which the
        set contains 0; 0 where it contains 0 without a direct change. ``["sign_lost_share"]`` is
        that relative to the whole effect of the dose.
    """
    dosed = dose_panel(frame, doses, [treatment, outcome])
    estimand = effect_estimand(
        "plausibly_exogenous",
        treatment,
        outcome,
        f"the dose changing {outcome} directly by up to {direct:g} per unit",
    )
    if refusal := dosed.refusal(estimand, treatment):
        return refusal
    on_outcome, on_treatment = dosed.slopes(outcome), dosed.slopes(treatment)

    def effect(gamma: float) -> Result:
        return ratio_of_sums(
            estimand,
            on_outcome - gamma,
            on_treatment,
            settings=Settings(level, interval="t"),
            n_dropped=dosed.panel.n_dropped,
            null=0.0,
        )

    plain = effect(0.0)
    if not isinstance(plain, Estimate):
        return plain
    sets = [effect(float(gamma)) for gamma in np.linspace(-direct, direct, _N_DIRECT)]
    found = [one for one in sets if isinstance(one, Estimate)]
    lost = _sign_lost(on_outcome, level)
    share = lost / abs(float(on_outcome.mean()))
    return replace(
        plain,
        low=min(one.low for one in found),
        high=max(one.high for one in found),
        p_value=None,
        method=(
            f"union of Fieller's sets, direct path up to {direct:g}; the sign is lost at "
            f"{lost:.2g} per unit of dose, {100 * share:.0f} % of its effect"
        ),
        diagnostics={
            **plain.diagnostics,
            "direct": direct,
            "sign_lost": lost,
            "sign_lost_share": share,
        },
    )


def _sign_lost(on_outcome: Floats, level: float) -> float:
    """Distance from 0 of the t interval of the dose's effect on the outcome."""
    n = len(on_outcome)
    se = float(on_outcome.std(ddof=1)) / np.sqrt(n)
    bounds = t_bounds(float(on_outcome.mean()), float(se), n - 1, level)
    return max(bounds.low, -bounds.high, 0.0)
