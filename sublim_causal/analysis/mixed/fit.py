"""Linear mixed models of per-step data, fitted from per-run cross products."""

from __future__ import annotations

import numpy as np
import pandas as pd

from sublim_causal.analysis.estimates.distributions import t_sf
from sublim_causal.analysis.estimates.types import FEW_SEEDS, Floats
from sublim_causal.analysis.mixed.criterion.optimise import fit_theta
from sublim_causal.analysis.mixed.criterion.parameters import Problem, Residual
from sublim_causal.analysis.mixed.criterion.reml import evaluate
from sublim_causal.analysis.mixed.design.chunks import Data, open_data
from sublim_causal.analysis.mixed.design.crossproducts import accumulate, read_formula
from sublim_causal.analysis.mixed.design.identifiability import (
    validate_identifiable,
    validate_residual,
)
from sublim_causal.analysis.mixed.design.model import ModelDesign, build_design
from sublim_causal.analysis.mixed.inference.covariance import Inference, cluster_robust, model_based
from sublim_causal.analysis.mixed.inference.kenward_roger import kenward_roger
from sublim_causal.analysis.mixed.inference.variance_components import (
    is_singular,
    sd_ratios,
    variance_components,
)
from sublim_causal.analysis.mixed.result import Df, MixedFit, Vcov, standard_errors, t_statistics
from sublim_causal.errors import DataError, RequestError


def fit_mixed(
    data: Data,
    formula: str,
    reml: bool = True,
    residual: Residual = "iid",
    arm_variances: bool = False,
    vcov: Vcov = "model",
    df: Df = "satterthwaite",
    *,
    time: str = "step",
) -> MixedFit:
    r"""Fit a linear mixed model by REML or ML from per-run cross products.

    .. math:: y = Xb + Zu_s + 1w_{sa} + e, \quad u_s \sim N(0, \sigma^2 \Psi),
              \ w_{sa} \sim N(0, \sigma^2 \tau^2)

    Parameters
    ----------
    data : DataFrame, pyarrow Table or Dataset, or path of a Parquet dataset
        One row a step. Datasets are streamed: memory does not grow with the rows.
    formula : str
        lme4's notation for one grouping factor and cells nested in it, for example ``"gain ~ arm +
        alignment + (1 + alignment | seed) + (1 | seed:arm)"``. Factors are treatment-coded; the
        reference is the level in ``C(arm, "liminal")`` (also ``C(arm, Treatment("liminal"))``),
        else ``baseline`` if there is such a level, else the first category of a categorical column
        or the first label in sorted order.
    reml : bool
        REML, or ML.
    residual : {"iid", "ar1", "car1"}
        Residuals within a run: independent; correlation ``rho**gap`` with rho in (-1, 1) and whole
        gaps; the same with rho in (0, 1) and any gaps. A run is a cell ``(1 | seed:arm)``; without
        one, a combination of group and factors.
    arm_variances : bool
        A residual variance for each level of the cell's factor (else of the first factor).
    vcov : {"model", "CR0", "CR2"}
        Covariance of the coefficients: from the model, or robust to it with clusters the groups.
    df : {"satterthwaite", "kenward-roger", "cr2"}
        Degrees of freedom. "satterthwaite" is that of the chosen `vcov`, which for CR0 and CR2 is
        what "cr2" names; "kenward-roger" also adjusts the model's covariance.
    time : str
        Column that orders a run's rows when residuals are serially correlated.

    Returns
    -------
    MixedFit
        The fit; singular fits are kept and flagged, aliased coefficients dropped and named.

    Raises
    ------
    RequestError
        If an option is unknown, two are incompatible, or the formula is not covered (crossed
        groups: statsmodels' MixedLM or lme4).
    DataError
        If values are missing or infinite (counted), or the model is not identified by the data.

    References
    ----------
    Bates et al. (2015), doi:10.18637/jss.v067.i01; Pinheiro and Bates (2000), chapter 5.
    """
    _validate_options(reml, residual, arm_variances, vcov, df)
    opened = open_data(data)
    columns = list(opened.columns) if isinstance(opened, pd.DataFrame) else opened.schema.names
    parsed = read_formula(opened, formula)
    serial = residual != "iid"
    if serial and time not in columns:
        raise RequestError("time", time, f"a column: {', '.join(columns)}")
    products = accumulate(opened, parsed, time if serial else "")
    if residual == "ar1" and np.any(products.gaps % 1 != 0):
        raise DataError(f"the gaps of {time} are not whole numbers; ask for residual='car1'")
    if serial and not len(products.gaps):
        raise DataError("no run has two rows: there is no serial correlation to estimate")
    design = build_design(products, parsed, arm_variances=arm_variances)
    if serial and design.has_cells and design.rows.max() < 3:
        raise DataError(
            "no run has three rows: serial correlation and a random intercept of runs are one"
        )
    validate_identifiable(design, parsed.group, parsed.cell)
    validate_residual(design, parsed.outcome)
    problem = Problem(design, reml, residual)
    return _finish(problem, formula, parsed.group, parsed.cell, vcov, df)


def _validate_options(reml: bool, residual: str, arm_variances: bool, vcov: str, df: str) -> None:
    for name, value, allowed in (
        ("residual", residual, ("iid", "ar1", "car1")),
        ("vcov", vcov, ("model", "CR0", "CR2")),
        ("df", df, ("satterthwaite", "kenward-roger", "cr2")),
    ):
        if value not in allowed:
            raise RequestError(name, value, ", ".join(allowed))
    if df == "cr2" and vcov == "model":
        raise RequestError("df", df, "satterthwaite or kenward-roger with vcov='model'")
    plain = reml and residual == "iid" and not arm_variances and vcov == "model"
    if df == "kenward-roger" and not plain:
        raise RequestError(
            "df",
            df,
            "reml=True, residual='iid', equal variances, vcov='model'",
            "use satterthwaite",
        )


def _finish(problem: Problem, formula: str, group: str, cell: str, vcov: Vcov, df: Df) -> MixedFit:
    design = problem.design
    minimum = fit_theta(problem)
    theta = minimum.theta
    found = evaluate(problem, theta[None])
    scaled = found.coefficients[0]
    sigma2 = float(found.sigma2[0])
    inference = _inference(problem, theta, scaled, vcov, df)
    back = design.y_scale * design.back
    names = pd.Index(design.names, name="term")
    values, errors = design.offset + back @ scaled, standard_errors(inference.vcov, back)
    params = pd.Series(values, names, name="estimate")
    covariance = pd.DataFrame(back @ inference.vcov @ back.T, names, names)
    se = pd.Series(errors, names, name="se")
    freedom = pd.Series([inference.df(row) for row in back], names, name="df")
    statistic = np.abs(t_statistics(values, errors))
    p = pd.Series(2 * t_sf(statistic, freedom), names, name="p_value")
    singular = is_singular(problem, theta)
    return MixedFit(
        formula=formula,
        params=params,
        se=se,
        df=freedom,
        p_values=p,
        vcov=covariance,
        variance_components=variance_components(problem, theta, sigma2, group, cell),
        sigma2=sigma2 * design.y_scale**2,
        correlation=(
            float(problem.correlation(theta[problem.serial_at])) if problem.serial else None
        ),
        sd_ratios=sd_ratios(problem, theta),
        criterion=_criterion(problem, float(found.criterion[0])),
        converged=minimum.converged,
        singular=singular,
        n_obs=design.n_obs,
        n_groups=len(design.groups),
        references=design.references,
        aliased=design.aliased,
        warnings=_warnings(design, minimum.converged, singular, group),
        reml=problem.reml,
        residual=problem.residual,
        vcov_kind=vcov,
        df_kind=df,
        _problem=problem,
        _theta=theta,
        _inference=inference,
    )


def _inference(
    problem: Problem, theta: Floats, coefficients: Floats, vcov: Vcov, df: Df
) -> Inference:
    if vcov != "model":
        return cluster_robust(problem, theta, coefficients, kind=vcov)
    return (kenward_roger if df == "kenward-roger" else model_based)(problem, theta)


def _criterion(problem: Problem, scaled: float) -> float:
    """-2 log likelihood in the data's units."""
    design = problem.design
    nu = design.n_obs - design.p if problem.reml else design.n_obs
    jacobian = 2 * np.linalg.slogdet(design.back)[1] if problem.reml else 0.0
    return float(scaled + 2 * nu * np.log(design.y_scale) - jacobian)


def _warnings(design: ModelDesign, converged: bool, singular: bool, group: str) -> tuple[str, ...]:
    found = []
    if not converged:
        found.append("the search did not converge")
    if singular:
        found.append("a variance component is on the boundary; prefer CR2 standard errors")
    if design.aliased:
        found.append(f"dropped, determined by the others: {', '.join(design.aliased)}")
    if len(design.groups) < FEW_SEEDS:
        found.append(f"only {len(design.groups)} levels of {group}: intervals are unreliable")
    return tuple(found)
