r"""Per-step slopes of an outcome on alignment, from mixed-effects models.

Three models answer three questions; all have a random slope by seed and a random intercept by
seed and by run, without which the standard error of a slope is ten times too small:

- ``pooled``: one slope over all arms, :math:`y = \tau_a + \beta x + \ldots`
- ``by_arm``: a slope for every arm, :math:`y = \tau_a + \beta_a x + \ldots`
- ``levels`` (Mundlak, 1978): :math:`y = \beta_w (x - \bar x_{sa}) + \beta_c (\bar x_{sa} -
  \bar x_s) + \beta_b (\bar x_s - \bar x) + \ldots`, within a run, between the arms of a seed,
  between seeds. No arm terms: they would absorb the variation between arms.

Intervals are CR2 with Satterthwaite degrees of freedom, seeds being the clusters; the hull
with bootstrap-t where the seeds' contributions to a slope are skewed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd

from sublim_causal.analysis.estimates.bootstrap import Distribution
from sublim_causal.analysis.estimates.intervals import beside_bootstrap
from sublim_causal.analysis.estimates.panel import seeds_and_arms
from sublim_causal.analysis.estimates.settings import Settings
from sublim_causal.analysis.estimates.types import (
    Estimand,
    Estimate,
    Floats,
    NotEstimable,
    Result,
    too_few,
)
from sublim_causal.analysis.mixed.fit import fit_mixed
from sublim_causal.analysis.mixed.result import MixedFit
from sublim_causal.analysis.steps.within_runs import finite_columns

Split = Literal["pooled", "by_arm", "levels"]
LEVELS = ("within_run", "between_arms", "between_seeds")
UNADJUSTED = (
    "not adjusted for training time, which affects alignment and gain in all runs alike, nor for "
    "minibatches that the arms of a seed share"
)
"""Caveat of a slope from a mixed model without step terms."""
_CONSTANT = 1e-12


@dataclass(frozen=True)
class SlopeModel:
    """A model whose named coefficients are the slopes asked for.

    Attributes
    ----------
    data : DataFrame
        seed, arm, y and the regressors.
    formula : str
        In lme4's notation.
    coefficients : mapping of str to str
        Name of each slope to its coefficient: an arm, a level, or ``""`` for the only one.
    """

    data: pd.DataFrame
    formula: str
    coefficients: Mapping[str, str]


def slope_model(
    steps: pd.DataFrame,
    outcome: str,
    predictor: str,
    split: Split = "pooled",
    *,
    arms: Sequence[str] | None = None,
) -> SlopeModel:
    """Prepare the model of `split` for `outcome` on `predictor`.

    Parameters
    ----------
    steps : DataFrame
        One row per step: seed, arm, `outcome`, `predictor`.
    outcome, predictor : str
        Columns.
    split : {"pooled", "by_arm", "levels"}
        Which slopes.
    arms : sequence of str, optional
        Order of the arms; default: sorted.

    Raises
    ------
    RequestError, DataError
        As in `within_products`.
    """
    y, x = finite_columns(steps, [outcome, predictor]).T
    runs = seeds_and_arms(steps)
    names = sorted(runs["arm"].unique())
    arms = names if arms is None else [str(arm) for arm in arms]
    data = pd.DataFrame(
        {
            "seed": runs["seed"].to_numpy(),
            # Categories, so that arms called 0 and 1 are labels.
            "arm": pd.Categorical(runs["arm"], names),
            "y": y,
            "x": x,
        }
    )
    return {"pooled": _pooled, "by_arm": _by_arm, "levels": _levels}[split](data, arms)


def _pooled(data: pd.DataFrame, arms: Sequence[str]) -> SlopeModel:
    fixed = "y ~ arm + x" if data["arm"].nunique() > 1 else "y ~ x"
    return SlopeModel(data, f"{fixed} + {_random(data, 'x')}", {"": "x"})


def _random(data: pd.DataFrame, slope: str) -> str:
    """Random effects of seeds; of runs too, where a seed has more than one."""
    several = data.groupby("seed")["arm"].nunique().max() > 1
    return f"(1 + {slope} | seed){' + (1 | seed:arm)' * bool(several)}"


def _by_arm(data: pd.DataFrame, arms: Sequence[str]) -> SlopeModel:
    """One column per arm: each coefficient is an arm's own slope, with its own interval."""
    columns = {arm: f"x_{i}" for i, arm in enumerate(arms)}
    own = {name: data["x"].where(data["arm"] == arm, 0.0) for arm, name in columns.items()}
    fixed = " + ".join([*(["arm"] if data["arm"].nunique() > 1 else []), *columns.values()])
    return SlopeModel(data.assign(**own), f"y ~ {fixed} + {_random(data, 'x')}", columns)


def _levels(data: pd.DataFrame, arms: Sequence[str]) -> SlopeModel:
    run = data.groupby(["seed", "arm"], observed=True)["x"].transform("mean")
    seed = data.groupby("seed")["x"].transform("mean")
    parts = dict(zip(LEVELS, (data["x"] - run, run - seed, seed - data["x"].mean()), strict=True))
    # A level without variation is left out: rounding would give it a slope.
    floor = _CONSTANT * float(data["x"].abs().max())
    varying = [name for name, part in parts.items() if part.abs().max() > floor]
    return SlopeModel(
        data.assign(**parts),
        f"y ~ {' + '.join(varying or ['1'])} + {_random(data, 'within_run')}",
        {name: name for name in LEVELS},
    )


def fit_slopes(model: SlopeModel) -> MixedFit:
    """Fit `model` by REML with CR2 errors and Satterthwaite df.

    Raises
    ------
    DataError
        If the model is not identified by the data.
    """
    return fit_mixed(model.data, model.formula, vcov="CR2", df="cr2")


def slope_estimates(
    model: SlopeModel,
    estimands: Mapping[str, Estimand],
    *,
    fit: MixedFit | None = None,
    settings: Settings = Settings(),
) -> dict[str, Result]:
    """Fit `model` by REML and return an estimate of each of its slopes.

    Parameters
    ----------
    model : SlopeModel
        What `slope_model` returned.
    estimands : mapping of str to Estimand
        What each slope estimates, by the keys of ``model.coefficients``.
    fit : MixedFit, optional
        What `fit_slopes` returned, where it is needed for more; default: fitted here.
    settings : Settings
        How the intervals are computed.

    Returns
    -------
    dict of str to Estimate or NotEstimable
        By the keys of `estimands`. Not estimable below 3 seeds, of the arm for an arm's own slope,
        and where the predictor does not vary at the level of the slope.

    Raises
    ------
    DataError
        If the model is not identified by the data.
    """
    n_seeds = model.data["seed"].nunique()
    of_arm = model.data.groupby("arm", observed=True)["seed"].nunique()
    found: dict[str, Result] = {
        name: refusal
        for name, estimand in estimands.items()
        if (refusal := too_few(estimand, of_arm.get(name, n_seeds)))
    }
    if len(found) == len(estimands):
        return found
    fit = fit_slopes(model) if fit is None else fit
    for name in estimands.keys() - found.keys():
        estimand, coefficient = estimands[name], model.coefficients[name]
        if coefficient in fit.params.index:
            found[name] = contrast_estimate(fit, coefficient, estimand, settings=settings)
        else:
            reason = "alignment does not vary at the level of this slope"
            found[name] = NotEstimable(estimand, reason)
    return {name: found[name] for name in estimands}


def contrast_estimate(
    fit: MixedFit, contrast: str, estimand: Estimand, *, settings: Settings = Settings()
) -> Estimate:
    """Estimate a contrast of a fitted model, with the hull with bootstrap-t where seeds are skewed.

    Parameters
    ----------
    fit : MixedFit
        The fit, whose covariance and degrees of freedom give the plain interval.
    contrast : str
        Expression in its coefficients.
    estimand, settings
        As in `mean_interval`; ``"t"`` is the interval of `fit`. The per-seed values of the
        skewness rule are the jackknife's pseudo-values, which for a slope are about the seeds'
        own slopes.

    Raises
    ------
    RequestError
        If the contrast names no coefficient of the fit.
    """
    drawn = fit.bootstrap(contrast, n_boot=settings.n_boot, rng=settings.rng)
    plain = fitted_contrast(fit, contrast, estimand, settings.level)
    plain = replace(
        plain,
        warnings=() if fit.converged else ("the optimisation did not converge",),
        diagnostics={
            "singular": fit.singular,
            "failed_replicates": drawn.n_failed,
            "aliased": list(fit.aliased),
            "n_obs": fit.n_obs,
            "formula": fit.formula,
        },
    )
    found = beside_bootstrap(plain, drawn, pseudo_values(drawn), settings.interval)
    return replace(found, method=f"mixed model, {found.method}")


def fitted_contrast(fit: MixedFit, contrast: str, estimand: Estimand, level: float) -> Estimate:
    """Return a contrast of a fitted model with the interval of the fit, of `level`."""
    row = fit.contrast(contrast, level).iloc[0]
    return Estimate(
        estimand=estimand,
        value=float(row["estimate"]),
        se=float(row["se"]),
        low=float(row["low"]),
        high=float(row["high"]),
        level=level,
        df=float(row["df"]),
        p_value=float(row["p_value"]),
        method="Kenward-Roger" if fit.df_kind == "kenward-roger" else fit.vcov_kind,
        n_seeds=fit.n_groups,
    )


def pseudo_values(drawn: Distribution) -> Floats:
    """Jackknife pseudo-values n b - (n - 1) b_(s): the contribution of each seed (Tukey, 1958).

    A seed without which b cannot be estimated has none.
    """
    n = drawn.n_clusters
    return n * drawn.value - (n - 1) * drawn.jackknife[~np.isnan(drawn.jackknife)]
