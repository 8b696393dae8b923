r"""How strong confounding must be to explain away the indirect effect.

Two arms, no interaction, seed effects. With ``rho = corr(e_M, e_Y)`` the correlation that an
unmeasured common cause of alignment and outcome would leave, s_Y and s_M the residual standard
deviations of outcome and alignment given arm and seed, and ``rt`` the correlation of those
residuals, ``TNIE(rho) = alpha (s_Y / s_M) (rt - rho sqrt((1 - rt^2) / (1 - rho^2)))``: it vanishes
exactly at ``rho = rt``.

References
----------
Imai, Keele and Yamamoto (2010), Identification, inference and sensitivity analysis for causal
mediation effects. Stat. Sci. 25, 51-71, theorem 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from sublim_causal.analysis.causal.doses import OUTCOME, TREATMENT
from sublim_causal.analysis.estimates.bootstrap import Bounds
from sublim_causal.analysis.estimates.distributions import norm_isf, t_critical
from sublim_causal.analysis.estimates.panel import paired_panel
from sublim_causal.analysis.estimates.settings import validate_level
from sublim_causal.analysis.estimates.types import MIN_SEEDS, Floats
from sublim_causal.errors import DataError, RequestError

RHO = tuple(np.round(np.arange(-0.95, 0.96, 0.05), 2).tolist())
"""Default grid of correlations."""


@dataclass(frozen=True)
class Sensitivity:
    """The indirect effect as a function of confounding.

    Attributes
    ----------
    rho : ndarray of shape (K,)
        Correlations of the two error terms, in (-1, 1).
    indirect, se, low, high : ndarray of shape (K,)
        TNIE(rho) with a pointwise t band on R - 2 degrees of freedom, in the outcome's unit.
        The standard error is the model's, that of R's medsens.
    rho_zero : float
        Correlation at which the indirect effect vanishes, which is that of the paired changes of
        alignment and outcome over seeds.
    rho_zero_low, rho_zero_high : float
        Its limits by Fisher's z; -1 and 1 with three pairs.
    r2_product : float
        ``rho_zero^2 = R2*_M R2*_Y``: product of the shares of the residual variances of
        alignment and outcome that a confounder must explain.
    r2_product_total : float
        The same with shares of the total variances, ``rho_zero^2 (1 - R2_M) (1 - R2_Y)``.
    scale : float
        s_Y / s_M, outcome units per unit of alignment.
    n_seeds, n_dropped : int
        Complete pairs, and seeds left out.
    level : float
        Confidence level of the band.
    """

    rho: Floats
    indirect: Floats
    se: Floats
    low: Floats
    high: Floats
    rho_zero: float
    rho_zero_low: float
    rho_zero_high: float
    r2_product: float
    r2_product_total: float
    scale: float
    n_seeds: int
    n_dropped: int
    level: float


def sensitivity(
    frame: pd.DataFrame,
    arm: str,
    *,
    baseline: str = "baseline",
    mediator: str = TREATMENT,
    outcome: str = OUTCOME,
    rho: Sequence[float] = RHO,
    level: float = 0.95,
) -> Sensitivity:
    """Return the indirect effect of `arm` under every correlation of the error terms in `rho`.

    Parameters
    ----------
    frame : DataFrame
        Table ``replicates``: one row per seed and arm.
    arm, baseline : str
        The two arms.
    mediator, outcome : str
        Columns of alignment and outcome.
    rho : sequence of float
        Correlations, strictly between -1 and 1.
    level : float
        Confidence level of the band, in (0, 1).

    Raises
    ------
    RequestError
        If a correlation is out of range.
    DataError
        With fewer than 3 complete seeds, or if alignment or outcome differ between the arms by
        the same amount in every seed (no residual to correlate).
    """
    grid = np.asarray(rho, dtype=float)
    if not (np.abs(grid) < 1).all():
        raise RequestError("rho", list(rho), "numbers strictly between -1 and 1")
    panel = paired_panel(frame, [mediator, outcome], [baseline, arm])
    n = len(panel.seeds)
    if n < MIN_SEEDS:
        raise DataError(f"{n} complete seeds; at least {MIN_SEEDS} are needed")
    # Two arms: taking out arm and seed leaves half the centred difference in either run.
    m, y = (panel.difference(name, arm, baseline) for name in (mediator, outcome))
    alpha = float(m.mean())
    e_m, e_y = m - alpha, y - y.mean()
    if not (e_m @ e_m > 0 and e_y @ e_y > 0):
        raise DataError("alignment or outcome change by the same amount in every seed")
    standard_m, standard_y = (e / np.linalg.norm(e) for e in (e_m, e_y))
    rt = float(np.clip(standard_m @ standard_y, -1.0, 1.0))
    low, high = _fisher_limits(rt, n, validate_level(level))
    scale = float(np.sqrt((e_y @ e_y) / (e_m @ e_m)))
    slopes = scale * (rt - grid * np.sqrt((1 - rt**2) / (1 - grid**2)))
    # Generalised least squares with rho known: alpha and the slope are uncorrelated, and the
    # slope's variance does not depend on rho. A sum over the 2n rows is half the sum over pairs.
    rows = 2 * n - 1
    var_alpha = (e_m @ e_m) / 2 / rows / (n / 2)
    var_slope = (1 - rt**2) * (e_y @ e_y) / rows / (e_m @ e_m)
    se = np.sqrt(slopes**2 * var_alpha + alpha**2 * var_slope)
    half = float(t_critical(level, n - 2)) * se
    spread_m, spread_y = (float(np.var(panel.columns[c]) * 2 * n) for c in (mediator, outcome))
    left_m, left_y = float(e_m @ e_m / 2), float((1 - rt**2) * (e_y @ e_y) / 2)
    return Sensitivity(
        rho=grid,
        indirect=alpha * slopes,
        se=se,
        low=alpha * slopes - half,
        high=alpha * slopes + half,
        rho_zero=rt,
        rho_zero_low=low,
        rho_zero_high=high,
        r2_product=rt**2,
        r2_product_total=rt**2 * left_m / spread_m * left_y / spread_y,
        scale=scale,
        n_seeds=n,
        n_dropped=panel.n_dropped,
        level=level,
    )


def _fisher_limits(r: float, n: int, level: float) -> Bounds:
    """Return the limits of a correlation of n pairs by Fisher's z."""
    if n == 3 or abs(r) == 1:
        return Bounds(-1.0, 1.0) if n == 3 else Bounds(r, r)
    half = norm_isf((1 - level) / 2) / np.sqrt(n - 3)
    return Bounds(float(np.tanh(np.arctanh(r) - half)), float(np.tanh(np.arctanh(r) + half)))
