r"""Slope within runs and steps: trends that all runs share are removed.

Alignment and gain both decline along a run, so a slope that only centres runs measures training
time. Here a row :math:`x_{sat}` (seed s, arm a, step t) loses the mean of its run, of its arm's
step and, where several arms are compared, of its seed's step, whose minibatch all arms share:

.. math:: \tilde x_{sat} = x_{sat} - \bar x_{sa\cdot} - \bar x_{\cdot at} + \bar x_{\cdot a\cdot}
          \quad\text{(one arm)}

.. math:: \tilde x_{sat} = x_{sat} - \bar x_{sa\cdot} - \bar x_{\cdot at} - \bar x_{s\cdot t}
          + \bar x_{s\cdot\cdot} + \bar x_{\cdot a\cdot} + \bar x_{\cdot\cdot t}
          - \bar x_{\cdot\cdot\cdot} \quad\text{(several)}

and :math:`\hat b = \sum \tilde x \tilde y / \sum \tilde x^2`. Where rows are missing the means are
those of least squares with all these effects, found by alternating projections (von Neumann;
Gaure, 2013). Effects of runs and of a seed's steps lie within seeds and do not reduce a seed's
score; an arm's step is shared by seeds, so of the score of seed s with :math:`X_s` only this share
remains:

.. math:: \lambda_s = 1 - \frac{\tilde x_s' D \tilde x_s}{\tilde x_s'\tilde x_s}
          - \frac{\tilde x_s'\tilde x_s}{\sum_r \tilde x_r'\tilde x_r}

with D the reciprocal number of seeds in each arm's step (:math:`1/S` where none is missing). CR2
divides the score by :math:`\sqrt{\lambda_s}`, which is exact where no row is missing, and
Satterthwaite's degrees of freedom follow from the same projection (Pustejovsky and Tipton, 2018).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sublim_causal.analysis.estimates.bootstrap import ClusterRatio, cluster_bootstrap
from sublim_causal.analysis.estimates.intervals import beside_bootstrap, t_estimate
from sublim_causal.analysis.estimates.settings import Settings
from sublim_causal.analysis.estimates.types import Estimand, Floats, Result, too_few
from sublim_causal.analysis.steps.within_runs import finite_columns
from sublim_causal.errors import DataError

_TOLERANCE = 1e-12
_SWEEPS = 10_000
_NO_SHARE = 1e-10
_CONSTANT = 1e-12


@dataclass(frozen=True)
class TwoWay:
    """Cross products of the residuals within runs and steps, by seed, and the terms of CR2.

    Attributes
    ----------
    seeds : ndarray of shape (R,)
        Seeds.
    xx, xy : ndarray of shape (R,)
        Sums of squares of the predictor and of products with the outcome.
    kept : ndarray of shape (R,)
        Share of a seed's score that the effects leave, lambda above.
    gram : ndarray of shape (R, R)
        ``x_s' D x_r``.
    n_obs : int
        Rows.
    mean_product : float
        Mean of the product of the columns asked for, weighted by ``x**2``; NaN without any.
    """

    seeds: NDArray[np.int64]
    xx: Floats
    xy: Floats
    kept: Floats
    gram: Floats
    n_obs: int
    mean_product: float

    @property
    def slope(self) -> float:
        """The estimate ``sum xy / sum xx``."""
        return float(self.xy.sum() / self.xx.sum())

    def robust(self) -> tuple[float, float]:
        """Return the CR2 standard error of `slope` and its Satterthwaite degrees of freedom."""
        total = self.xx.sum()
        scores = self.xy - self.slope * self.xx
        weight = 1 / (np.sqrt(self.kept) * total)
        pulled = np.diag(self.xx) - self.gram - np.outer(self.xx, self.xx) / total
        omega = weight[:, None] * weight * pulled
        df = float(np.trace(omega) ** 2 / (omega**2).sum())
        return float(np.sqrt(((weight * scores) ** 2).sum())), df


def two_way_slope(
    steps: pd.DataFrame,
    outcome: str,
    predictor: str,
    *,
    weighted: Sequence[str] = (),
    settings: Settings = Settings(),
    estimand: Estimand | None = None,
) -> Result:
    r"""Slope :math:`\hat b = \sum \tilde x \tilde y / \sum \tilde x^2`, CR2 by seed.

    One slope for all arms in `steps`: give it one arm, or arms that differ neither in the
    direction nor in the size of what they do to alignment (no projected, no clamped one).

    Parameters
    ----------
    steps : DataFrame
        One row per step: seed, arm, step, `outcome`, `predictor`.
    outcome, predictor : str
        Numeric columns.
    weighted : sequence of str
        Columns of whose product the mean is taken with the slope's weights, the squares of the
        predictor's residuals; it stands in the diagnostics as ``mean_product``.
    settings : Settings
        How the interval is computed.
    estimand : Estimand, optional
        What is estimated; the default names both columns.

    Returns
    -------
    Estimate or NotEstimable
        In units of `outcome` per unit of `predictor`. ``docs/validity.md`` has the coverage where
        alignment and gain share a trend or a minibatch, where errors are serial, and where rows
        are missing.

    Raises
    ------
    RequestError
        If a column is not there.
    DataError
        If a value is missing or infinite, the predictor does not vary beyond the effects, or it
        determines the outcome.
    """
    estimand = estimand or Estimand(
        name=f"{outcome}_on_{predictor}",
        sentence=f"Slope of {outcome} on {predictor} within runs and steps.",
    )
    if refusal := too_few(estimand, steps["seed"].nunique()):
        return refusal
    found = two_way(steps, outcome, predictor, weighted)
    se, df = found.robust()
    if se <= _CONSTANT * abs(found.slope):
        raise DataError(
            f"{predictor} determines {outcome} within runs and steps: without residuals the "
            "slope has no standard error"
        )
    more = {"mean_product": found.mean_product} if weighted else {}
    plain = t_estimate(
        estimand,
        found.slope,
        se,
        df,
        level=settings.level,
        method="CR2",
        n_seeds=len(found.seeds),
        diagnostics={"n_obs": found.n_obs, **more},
    )
    drawn = cluster_bootstrap(
        ClusterRatio(found.xy, found.xx), n_boot=settings.n_boot, rng=settings.rng
    )
    influence = (found.xy - found.slope * found.xx) / found.xx.mean()
    quoted = beside_bootstrap(replace(plain, warnings=()), drawn, influence, settings.interval)
    return replace(quoted, method=f"within run and step, {quoted.method}")


def two_way(
    steps: pd.DataFrame, outcome: str, predictor: str, weighted: Sequence[str] = ()
) -> TwoWay:
    """Remove run, step and, with several arms, seed-step effects from both columns.

    Parameters
    ----------
    steps : DataFrame
        One row per step: seed, arm, step, `outcome`, `predictor`. Rows may be missing, and runs may
        differ in length; a step of one seed alone carries no information.
    outcome, predictor : str
        Numeric columns.
    weighted : sequence of str
        As in `two_way_slope`.

    Returns
    -------
    TwoWay
        Of the seeds that have a row.

    Raises
    ------
    RequestError
        If a column is not there.
    DataError
        If a value is missing or infinite, or the predictor does not vary beyond the effects.
    """
    within = within_run_and_step(steps, outcome, predictor)
    seeds, (seed, arm, step), x, y = within.seeds, within.places, within.x, within.y
    flat, shared = x.reshape(len(seeds), -1), 1 / np.maximum(within.there.sum(axis=0), 1).ravel()
    xx = (flat**2).sum(axis=1)
    gram = (flat * shared) @ flat.T
    own = np.divide(np.diag(gram), xx, out=np.zeros_like(xx), where=xx > 0)
    kept = np.maximum(1 - own - xx / xx.sum(), _NO_SHARE)
    xy = (flat * y.reshape(len(seeds), -1)).sum(axis=1)
    mean_product = np.nan
    if weighted:
        product = np.prod(finite_columns(steps, weighted), axis=1)
        squares = x[seed, arm, step] ** 2
        mean_product = float(squares @ product / squares.sum())
    return TwoWay(seeds, xx, xy, kept, gram, len(steps), mean_product)


@dataclass(frozen=True)
class WithinRunAndStep:
    """Outcome and predictor without the effects, as arrays of shape (R, A, T).

    Attributes
    ----------
    seeds : ndarray of shape (R,)
        Seeds.
    places : tuple of ndarray
        Seed, arm and step index of each row of the table.
    there : bool ndarray
        Where there is a row.
    x, y : ndarray
        Residuals of the predictor and of the outcome, 0 where there is no row.
    """

    seeds: NDArray[np.int64]
    places: tuple[NDArray[np.int64], ...]
    there: NDArray[np.bool_]
    x: Floats
    y: Floats


def within_run_and_step(steps: pd.DataFrame, outcome: str, predictor: str) -> WithinRunAndStep:
    """Remove the effects from both columns; parameters and errors as in `two_way`."""
    values = finite_columns(steps, [outcome, predictor])
    coded = [pd.factorize(steps[name], sort=True) for name in ("seed", "arm", "step")]
    places = tuple(codes for codes, _ in coded)
    y, x = (np.full([len(levels) for _, levels in coded], np.nan) for _ in range(2))
    y[places], x[places] = values.T
    there = np.isfinite(x)
    y, x = residuals(np.nan_to_num(y), there), residuals(np.nan_to_num(x), there)
    if not _varies(x, values[:, 1]):
        raise DataError(
            f"{predictor} does not vary within runs beyond what all runs of an arm share at a step"
        )
    return WithinRunAndStep(np.asarray(coded[0][1]), places, there, x, y)


def without_effects(steps: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Return seed, arm and `columns` of `steps` without the effects of `two_way`.

    A column that does not vary beyond them is 0. Errors are as in `two_way`.
    """
    values = finite_columns(steps, columns)
    coded = [pd.factorize(steps[name], sort=True) for name in ("seed", "arm", "step")]
    places, shape = tuple(codes for codes, _ in coded), [len(levels) for _, levels in coded]
    there = np.zeros(shape, dtype=bool)
    there[places] = True
    found = steps[["seed", "arm"]].copy()
    for name, column in zip(columns, values.T, strict=True):
        cube = np.zeros(shape)
        cube[places] = column
        rest = residuals(cube, there)[places]
        found[name] = rest if _varies(rest, column) else 0.0
    return found


def _varies(rest: Floats, column: Floats) -> bool:
    """Whether what is left of a column is more than rounding."""
    size = np.abs(column).max(initial=0.0)
    return bool(np.abs(rest).max(initial=0.0) > _CONSTANT * size)


def residuals(values: Floats, there: NDArray[np.bool_]) -> Floats:
    """Remove the effects of runs, arm steps and, with several arms, seed steps.

    Parameters
    ----------
    values : ndarray of shape (R, A, T)
        Seeds by arms by steps, 0 where there is no row.
    there : bool ndarray of shape (R, A, T)
        Where there is a row.

    Returns
    -------
    ndarray of shape (R, A, T)
        Least-squares residuals, 0 where there is no row.

    Raises
    ------
    DataError
        If the projections do not converge.
    """
    axes = (2, 0) if values.shape[1] == 1 else (2, 0, 1)
    counts = {axis: np.maximum(there.sum(axis=axis, keepdims=True), 1) for axis in axes}
    scale = np.abs(values).max(initial=0.0)
    for _ in range(_SWEEPS):
        before = values
        for axis in axes:
            values = (values - values.sum(axis=axis, keepdims=True) / counts[axis]) * there
        # Without missing rows the projections commute, and one sweep is exact.
        if there.all() or np.abs(values - before).max() <= _TOLERANCE * scale:
            return values
    raise DataError(f"the effects of runs and steps were not found in {_SWEEPS} sweeps")
