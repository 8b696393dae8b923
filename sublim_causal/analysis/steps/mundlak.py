r"""Slopes within runs, between arms and between seeds, and a test that they are equal.

``y = b_w (x - mean_sa) + b_c (mean_sa - mean_s) + b_b (mean_s - mean) + ...`` (Mundlak, 1978). If
the effect of alignment is confounded at no level, the three are equal; a difference shows at which
level something else moves both. Feedback biases b_c and not b_w; measurement error attenuates b_w
and hardly b_c.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import pandas as pd

from sublim_causal.analysis.estimates.settings import Settings
from sublim_causal.analysis.estimates.types import MIN_SEEDS, Estimand, Result, TestResult
from sublim_causal.analysis.mixed.result import MixedFit
from sublim_causal.analysis.steps.slopes import LEVELS, fit_slopes, slope_estimates, slope_model

NULL = "the slopes within runs, between arms and between seeds are equal"
_ASSUMPTIONS = ("linearity", "seeds are independent", "alignment is measured without error")


@dataclass(frozen=True)
class Mundlak:
    """Three slopes of an outcome on alignment and the test that they agree.

    Attributes
    ----------
    within_run, between_arms, between_seeds : Estimate or NotEstimable
        Outcome units per unit of alignment.
    equality : TestResult
        Wald F with the CR2 covariance and Satterthwaite's denominator df.
    """

    within_run: Result
    between_arms: Result
    between_seeds: Result
    equality: TestResult


def mundlak(
    steps: pd.DataFrame,
    *,
    outcome: str = "gain",
    predictor: str = "cos_update",
    settings: Settings = Settings(),
) -> Mundlak:
    """Estimate the slope at each level and test that the three are equal.

    Parameters
    ----------
    steps : DataFrame
        Table ``steps`` of complete replicates: seed, arm, `outcome`, `predictor`.
    outcome, predictor : str
        Columns.
    settings : Settings
        As in `slope_estimates`.

    Returns
    -------
    Mundlak
        The slopes of `slope_estimates`. A level at which alignment does not vary is not
        estimable, and the test then compares the others.

    Raises
    ------
    RequestError, DataError
        As in `within_products`.

    Notes
    -----
    With few seeds the test of equality rejects a true null slightly too often.

    References
    ----------
    Mundlak (1978), On the pooling of time series and cross section data. Econometrica 46, 69-85.
    """
    model = slope_model(steps, outcome, predictor, "levels")
    fit = fit_slopes(model) if steps["seed"].nunique() >= MIN_SEEDS else None
    found = slope_estimates(
        model,
        {name: _estimand(name, outcome, predictor) for name in LEVELS},
        fit=fit,
        settings=settings,
    )
    return Mundlak(**found, equality=equal_levels(fit))


def equal_levels(fit: MixedFit | None) -> TestResult:
    """Test that the slopes of a fit of `slope_model` by levels are equal; None: too few seeds."""
    if fit is None:
        return TestResult(NULL, None, None, reason=f"fewer than {MIN_SEEDS} seeds")
    usable = [name for name in LEVELS if name in fit.params.index]
    if len(usable) < 2:
        return TestResult(NULL, None, None, reason="one slope: nothing to compare")
    test = fit.test([f"{one} - {other}" for one, other in pairwise(usable)])
    return replace(test, null=NULL)


_PLACES = {
    "within_run": "within runs",
    "between_arms": "between the arms of a seed",
    "between_seeds": "between seeds",
}


def _estimand(name: str, outcome: str, predictor: str) -> Estimand:
    return Estimand(
        name=f"slope_{name}_{outcome}_{predictor}",
        sentence=f"Change of {outcome} per unit of {predictor}, {_PLACES[name]}.",
        outcome=outcome,
        contrast=f"d {outcome} / d {predictor}, {_PLACES[name]}",
        assumptions=_ASSUMPTIONS,
    )
