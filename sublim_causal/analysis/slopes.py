r"""Per-step slopes of an outcome on alignment, from mixed-effects models.

Three models answer three questions; all have a random slope by seed and a random intercept by
seed and by run, without which the standard error of a slope is ten times too small:

- ``pooled``: one slope over all arms, :math:`y = \tau_a + \beta x + \ldots`
- ``by_arm``: a slope for every arm, :math:`y = \tau_a + \beta_a x + \ldots`
- ``levels`` (Mundlak, 1978): :math:`y = \beta_w (x - \bar x_{sa}) + \beta_c (\bar x_{sa} -
  \bar x_s) + \beta_b (\bar x_s - \bar x) + \ldots`, within a run, between the arms of a seed,
  between seeds. No arm terms: they would take what lies between arms.

Intervals are CR2 with Satterthwaite degrees of freedom, seeds being the clusters; bootstrap-t
where the per-seed slopes are skewed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from sublim_causal.analysis.bootstrap import Floats
from sublim_causal.analysis.estimates import MIN_SEEDS, Estimand, Estimate, NotEstimable, Result
from sublim_causal.analysis.intervals import (
    IntervalRule,
    is_skewed,
    seed_warnings,
    skewness,
    t_bounds,
    t_p_value,
)
from sublim_causal.analysis.products import finite_columns, within_products

if TYPE_CHECKING:
    from sublim_causal.analysis.mixed import MixedFit

Split = Literal["pooled", "by_arm", "levels"]
LEVELS = ("within_run", "between_arms", "between_seeds")
_RANDOM = "(1 + {0} | seed) + (1 | seed:arm)"


@dataclass(frozen=True)
class SlopeModel:
    """A model whose named coefficients are the slopes asked for.

    Attributes
    ----------
    data : DataFrame
        seed, arm, y and the regressors.
    formula : str
        In lme4's language.
    coefficients : mapping of str to str
        Name of each slope to its coefficient: an arm, a level, or ``""`` for the only one.
    per_seed : mapping of str to ndarray
        Per-seed values whose skewness decides on each slope's interval.
    """

    data: pd.DataFrame
    formula: str
    coefficients: Mapping[str, str]
    per_seed: Mapping[str, Floats]


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
        One row a step: seed, arm, `outcome`, `predictor`.
    outcome, predictor : str
        Columns.
    split : {"pooled", "by_arm", "levels"}
        Which slopes.
    arms : sequence of str, optional
        Order of the arms; default: sorted.

    Raises
    ------
    RequestError
        If a column is not there.
    DataError
        If a value is missing or infinite.
    """
    y, x = finite_columns(steps, [outcome, predictor]).T
    arms = sorted(steps["arm"].unique()) if arms is None else arms
    data = pd.DataFrame(
        {"seed": steps["seed"].to_numpy(), "arm": steps["arm"].to_numpy(), "y": y, "x": x}
    )
    return {"pooled": _pooled, "by_arm": _by_arm, "levels": _levels}[split](data, arms)


def _pooled(data: pd.DataFrame, arms: Sequence[str]) -> SlopeModel:
    fixed = "y ~ arm + x" if len(arms) > 1 else "y ~ x"
    return SlopeModel(
        data, f"{fixed} + {_RANDOM.format('x')}", {"": "x"}, {"": per_seed_slopes(data)}
    )


def _by_arm(data: pd.DataFrame, arms: Sequence[str]) -> SlopeModel:
    """One column an arm: each coefficient is an arm's own slope, with its own interval."""
    columns = {arm: f"x_{i}" for i, arm in enumerate(arms)}
    own = {name: data["x"].where(data["arm"] == arm, 0.0) for arm, name in columns.items()}
    fixed = " + ".join([*(["arm"] if len(arms) > 1 else []), *columns.values()])
    return SlopeModel(
        data.assign(**own),
        f"y ~ {fixed} + {_RANDOM.format('x')}",
        columns,
        {arm: per_seed_slopes(data[data["arm"] == arm]) for arm in arms},
    )


def _levels(data: pd.DataFrame, arms: Sequence[str]) -> SlopeModel:
    run = data.groupby(["seed", "arm"])["x"].transform("mean")
    seed = data.groupby("seed")["x"].transform("mean")
    parts = dict(zip(LEVELS, (data["x"] - run, run - seed, seed - data["x"].mean()), strict=True))
    usable = [name for name, part in parts.items() if part.abs().max() > 0]
    means = data.groupby(["seed", "arm"])[["x", "y"]].mean().reset_index()
    per_seed = {
        "within_run": per_seed_slopes(data),
        "between_arms": per_seed_slopes(means.assign(arm="all")),
        "between_seeds": _leverages(means.groupby("seed")[["x", "y"]].mean()),
    }
    return SlopeModel(
        data.assign(**parts),
        f"y ~ {' + '.join(usable)} + {_RANDOM.format('within_run')}",
        {name: name for name in usable},
        per_seed,
    )


def per_seed_slopes(data: pd.DataFrame) -> Floats:
    """Slope of y on x within runs of each seed; seeds without spread in x are left out."""
    s = within_products(data, ["x", "y"])
    xx, xy = s.of("x", "x"), s.of("x", "y")
    spread = xx > 1e-12 * max(float(xx.max(initial=0.0)), np.finfo(float).tiny)
    return xy[spread] / xx[spread]


def _leverages(means: pd.DataFrame) -> Floats:
    """How far each seed moves the slope through the seeds' means: no seed has one of its own."""
    x = means["x"].to_numpy() - means["x"].mean()
    y = means["y"].to_numpy() - means["y"].mean()
    total = float(x @ x)
    return x * (y - x * (x @ y) / total) if total > 0 else np.zeros_like(x)


def slope_estimates(
    model: SlopeModel,
    estimands: Mapping[str, Estimand],
    *,
    level: float = 0.95,
    interval: IntervalRule = "auto",
    n_dropped: int = 0,
) -> dict[str, Result]:
    """Fit `model` by REML and return an estimate of each of its slopes.

    Parameters
    ----------
    model : SlopeModel
        What `slope_model` returned.
    estimands : mapping of str to Estimand
        What each slope estimates, by the keys of ``model.coefficients``.
    level, interval, n_dropped
        As in `mean_interval`.

    Returns
    -------
    dict of str to Estimate or NotEstimable
        By the keys of `estimands`. Not estimable below 3 seeds, and where the predictor is
        constant where the slope would have to come from.
    """
    from sublim_causal.analysis.mixed import fit_mixed

    n_seeds = model.data["seed"].nunique()
    if n_seeds < MIN_SEEDS:
        reason = f"{n_seeds} seeds; at least {MIN_SEEDS} are needed"
        return {name: NotEstimable(estimand, reason) for name, estimand in estimands.items()}
    fit = fit_mixed(model.data, model.formula, vcov="CR2", df="cr2")
    return {
        name: _estimate(fit, model, name, estimand, level, interval, n_dropped)
        for name, estimand in estimands.items()
    }


def _estimate(
    fit: MixedFit,
    model: SlopeModel,
    name: str,
    estimand: Estimand,
    level: float,
    interval: IntervalRule,
    n_dropped: int,
) -> Result:
    coefficient, per_seed = model.coefficients.get(name, ""), model.per_seed[name]
    if coefficient not in fit.params.index:
        return NotEstimable(estimand, "alignment does not vary where this slope would come from")
    value, se, df = (float(part[coefficient]) for part in (fit.params, fit.se, fit.df))
    low, high = t_bounds(value, se, df, level)
    n_seeds = int(model.data["seed"].nunique())
    return Estimate(
        estimand=estimand,
        value=value,
        se=se,
        low=low,
        high=high,
        level=level,
        df=df,
        p_value=t_p_value(value, se, df),
        method="mixed model, CR2",
        n_seeds=n_seeds,
        n_dropped=n_dropped,
        warnings=seed_warnings(n_seeds, is_skewed(per_seed)),
        diagnostics={
            "skewness": skewness(per_seed),
            "singular": bool(fit.singular),
            "converged": bool(fit.converged),
            "n_obs": int(fit.n_obs),
        },
    )
