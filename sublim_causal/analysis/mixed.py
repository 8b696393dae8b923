"""Linear mixed models of per-step data, fitted from per-run cross products."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from sublim_causal.analysis.bootstrap import (
    N_BOOT,
    ClusterStatistic,
    Distribution,
    cluster_bootstrap,
)
from sublim_causal.analysis.crossproducts import Data, accumulate, categorical_columns, open_data
from sublim_causal.analysis.design import Design, build_design
from sublim_causal.analysis.estimates import FEW_SEEDS, TestResult
from sublim_causal.analysis.expressions import contrast_matrix
from sublim_causal.analysis.formula import parse_formula
from sublim_causal.analysis.inference import (
    Inference,
    cluster_robust,
    group_products,
    kenward_roger,
    model_based,
)
from sublim_causal.analysis.mixed_bootstrap import FixedTheta, FullRefit
from sublim_causal.analysis.reml import (
    Problem,
    Residual,
    evaluate,
    reduce_random,
    residual_products,
)
from sublim_causal.analysis.search import fit_theta
from sublim_causal.errors import DataError, RequestError

Floats = NDArray[np.float64]
Vcov = Literal["model", "CR0", "CR2"]
Df = Literal["satterthwaite", "kenward-roger", "cr2"]
Contrasts = str | Sequence[str] | Floats

_ROUNDING = 1e-12
"""A variance below this share of the largest, for rows of one length, is 0."""
_SINGULAR = 1e-4
"""A relative standard deviation below this is on the boundary (lme4's tolerance)."""


@dataclass(frozen=True)
class MixedFit:
    """A fitted mixed model.

    Attributes
    ----------
    formula : str
        As given.
    params, se, df, p_values : Series
        Coefficients by name, standard errors, degrees of freedom, two-sided p against 0. A
        coefficient that is the same in every group has the error 0 and no p (NaN).
    vcov : DataFrame
        Covariance of the coefficients, of the kind asked for.
    variance_components : DataFrame
        Columns group, term1, term2, value; ``term2`` is empty for variances, the last row is the
        residual.
    sigma2 : float
        Residual variance (of the reference level, when variances differ).
    correlation : float or None
        Serial correlation at gap 1; None for iid residuals.
    sd_ratios : Series
        Residual standard deviations relative to the reference level's; empty when equal.
    criterion : float
        REML criterion or ML deviance, -2 log likelihood.
    converged : bool
        Whether a Newton step would no longer lower the criterion.
    singular : bool
        Whether a variance component is on the boundary; the model is kept as declared.
    n_obs, n_groups : int
        Rows and groups.
    references : dict of str to str
        Reference level of each factor.
    aliased : tuple of str
        Coefficients dropped because the ones before them determine them.
    warnings : tuple of str
        What a reader must know.
    reml, residual, vcov_kind, df_kind
        The request.
    """

    formula: str
    params: pd.Series
    se: pd.Series
    df: pd.Series
    p_values: pd.Series
    vcov: pd.DataFrame
    variance_components: pd.DataFrame
    sigma2: float
    correlation: float | None
    sd_ratios: pd.Series
    criterion: float
    converged: bool
    singular: bool
    n_obs: int
    n_groups: int
    references: dict[str, str]
    aliased: tuple[str, ...]
    warnings: tuple[str, ...]
    reml: bool
    residual: Residual
    vcov_kind: Vcov
    df_kind: Df
    _problem: Problem = field(repr=False, compare=False)
    _theta: Floats = field(repr=False, compare=False)
    _inference: Inference = field(repr=False, compare=False)

    @property
    def random_effects(self) -> pd.DataFrame:
        """Predicted random effects (BLUP): columns group, level, term, value."""
        return _random_effects(self._problem, self._theta, self.variance_components)

    def conf_int(self, level: float = 0.95) -> pd.DataFrame:
        """Limits ``low`` and ``high`` of t intervals, by coefficient.

        Raises
        ------
        RequestError
            If `level` is not between 0 and 1.
        """
        if not 0 < level < 1:
            raise RequestError("level", level, "a number between 0 and 1")
        half = stats.t.isf((1 - level) / 2, self.df) * self.se
        return pd.DataFrame({"low": self.params - half, "high": self.params + half})

    def tidy(self, level: float = 0.95) -> pd.DataFrame:
        """One row a coefficient: term, estimate, se, df, statistic, p_value, low, high."""
        limits = self.conf_int(level)
        return pd.DataFrame(
            {
                "term": self.params.index,
                "estimate": self.params.to_numpy(),
                "se": self.se.to_numpy(),
                "df": self.df.to_numpy(),
                "statistic": t_statistics(self.params.to_numpy(), self.se.to_numpy()),
                "p_value": self.p_values.to_numpy(),
                "low": limits["low"].to_numpy(),
                "high": limits["high"].to_numpy(),
            }
        )

    def summary(self) -> str:
        """Deterministic text: request, coefficients, variance components, warnings."""
        kind = "REML criterion" if self.reml else "deviance"
        references = ", ".join(f"{name}: {level}" for name, level in self.references.items())
        lines = [
            self.formula,
            f"{self.n_obs} rows, {self.n_groups} groups; {kind} {self.criterion:.4f}; "
            f"residual {self.residual}; vcov {self.vcov_kind}; df {self.df_kind}",
            f"reference levels: {references}" if references else "no factors",
            self.tidy().to_string(index=False, float_format=lambda v: f"{v:.5g}"),
            self.variance_components.to_string(index=False, float_format=lambda v: f"{v:.5g}"),
        ]
        if self.correlation is not None:
            lines.append(f"serial correlation {self.correlation:.5g}")
        if len(self.sd_ratios):
            lines.append(f"residual sd ratios: {self.sd_ratios.round(5).to_dict()}")
        return "\n".join([*lines, *(f"warning: {text}" for text in self.warnings)])

    def contrast(self, contrasts: Contrasts, level: float = 0.95) -> pd.DataFrame:
        """Estimate linear combinations c'b of the coefficients.

        Parameters
        ----------
        contrasts : str, sequence of str, or ndarray of shape (C, P)
            Expressions in coefficient names (``"arm[T.liminal] - arm[T.shuffled]"``) or rows.
        level : float
            Confidence level.

        Returns
        -------
        DataFrame
            One row a contrast: contrast, estimate, se, df, statistic, p_value, low, high.

        Raises
        ------
        RequestError
            If an expression is not linear in coefficients of the fit.
        """
        if not 0 < level < 1:
            raise RequestError("level", level, "a number between 0 and 1")
        names, rows = contrast_matrix(contrasts, self.params.index)
        value = rows @ self.params.to_numpy()
        se = standard_errors(self._inference.vcov, self._scaled(rows))
        df = np.array([self._df(row) for row in rows])
        half = stats.t.isf((1 - level) / 2, df) * se
        statistic = t_statistics(value, se)
        return pd.DataFrame(
            {
                "contrast": names,
                "estimate": value,
                "se": se,
                "df": df,
                "statistic": statistic,
                "p_value": 2 * stats.t.sf(np.abs(statistic), df),
                "low": value - half,
                "high": value + half,
            }
        )

    def test(self, contrasts: Contrasts) -> TestResult:
        """Wald F test that all `contrasts` are 0, with Satterthwaite's denominator df.

        F = (Cb)'(C V C')^-1 (Cb) / q; the denominator pools the df of the q uncorrelated
        directions (Fai and Cornelius, 1996, doi:10.1080/00949659608811740).
        """
        names, rows = contrast_matrix(contrasts, self.params.index)
        null = " = ".join([*names, "0"])
        values, vectors = np.linalg.eigh(rows @ self.vcov.to_numpy() @ rows.T)
        if values.min() <= 1e-12 * values.max():
            return TestResult(null, None, None, reason="the contrasts repeat each other")
        directions = vectors.T @ rows
        q = len(directions)
        statistic = float(((directions @ self.params.to_numpy()) ** 2 / values).mean())
        df = np.array([self._df(row) for row in directions])
        pooled = (df[df > 2] / (df[df > 2] - 2)).sum()
        if q == 1:
            denominator = float(df[0])
        elif pooled > q:
            denominator = float(2 * pooled / (pooled - q))
        else:
            return TestResult(null, statistic, None, reason="too few degrees of freedom")
        p = float(stats.f.sf(statistic, q, denominator))
        return TestResult(null, statistic, p, (float(q), denominator), "F")

    def statistic(self, contrast: str | Floats, *, refit: bool = False) -> ClusterStatistic:
        """Return `contrast` as a function of how often each group was drawn.

        Parameters
        ----------
        contrast : str or ndarray of shape (P,)
            One expression in coefficient names, or one row.
        refit : bool
            Estimate the variance parameters anew in each replicate; default: keep them, which
            gives the same distribution (correlation > 0.9999) at a hundredth of the time.

        Returns
        -------
        ClusterStatistic
            For `bootstrap.cluster_bootstrap` and `bootstrap.extend`; its standard errors are CR0.
        """
        given = contrast if isinstance(contrast, str) else np.atleast_2d(contrast)
        _, rows = contrast_matrix(given, self.params.index)
        if len(rows) != 1:
            raise RequestError("contrast", len(rows), "one contrast")
        row, offset = self._scaled(rows[0]), float(rows[0] @ self._problem.design.offset)
        if refit:
            return FullRefit(self._problem, self._theta, row, offset)
        return FixedTheta(group_products(self._problem, self._theta), row, offset)

    def bootstrap(
        self,
        contrast: str | Floats,
        *,
        n_boot: int = N_BOOT,
        refit: bool = False,
        batch: int | None = None,
        rng: np.random.Generator | int = 0,
    ) -> Distribution:
        """Cluster bootstrap of `contrast`: groups are drawn with all their rows.

        Parameters
        ----------
        contrast, refit
            As in `statistic`.
        n_boot, batch, rng
            As in `bootstrap.cluster_bootstrap`; the batch changes memory, not results.

        Returns
        -------
        Distribution
            Draws with CR0 standard errors; ``interval()`` is the studentised one.
        """
        statistic = self.statistic(contrast, refit=refit)
        return cluster_bootstrap(statistic, n_boot=n_boot, batch=batch, rng=rng)

    def _scaled(self, rows: Floats) -> Floats:
        return self._problem.design.y_scale * (rows @ self._problem.design.back)

    def _df(self, row: Floats) -> float:
        return self._inference.df(self._scaled(row))


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
        lme4's language for one grouping factor and cells nested in it, for example
        ``"gain ~ arm + alignment + (1 + alignment | seed) + (1 | seed:arm)"``. Factors are
        treatment-coded; the reference is the level in ``C(arm, "liminal")`` (also
        ``C(arm, Treatment("liminal"))``), else ``baseline`` if there is such a level, else the
        first category of a categorical column or the first label in sorted order.
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
        If an option is unknown, two do not go together, or the formula is outside the language
        (crossed groups: statsmodels' MixedLM or lme4).
    DataError
        If values are missing or infinite (counted), or the model cannot be told from the data.

    References
    ----------
    Bates et al. (2015), doi:10.18637/jss.v067.i01; Pinheiro and Bates (2000), chapter 5.
    """
    _validate_options(reml, residual, arm_variances, vcov, df)
    opened = open_data(data)
    columns = list(opened.columns) if isinstance(opened, pd.DataFrame) else opened.schema.names
    parsed = parse_formula(formula, columns, categorical_columns(opened))
    serial = residual != "iid"
    if serial and time not in columns:
        raise RequestError("time", time, f"a column: {', '.join(columns)}")
    products = accumulate(opened, parsed, time if serial else "")
    if residual == "ar1" and np.any(products.gaps % 1 != 0):
        raise DataError(f"the gaps of {time} are not whole numbers; ask for residual='car1'")
    problem = Problem(build_design(products, parsed, arm_variances=arm_variances), reml, residual)
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
    theta = minimum.theta[0]
    found = evaluate(problem, theta[None], np.ones((1, len(design.groups))))
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
    p = pd.Series(2 * stats.t.sf(statistic, freedom), names, name="p_value")
    singular = _is_singular(problem, theta)
    converged = bool(minimum.converged[0])
    return MixedFit(
        formula=formula,
        params=params,
        se=se,
        df=freedom,
        p_values=p,
        vcov=covariance,
        variance_components=_variance_components(problem, theta, sigma2, group, cell),
        sigma2=sigma2 * design.y_scale**2,
        correlation=_correlation(problem, theta),
        sd_ratios=_sd_ratios(problem, theta),
        criterion=_criterion(problem, float(found.criterion[0])),
        converged=converged,
        singular=singular,
        n_obs=design.n_obs,
        n_groups=len(design.groups),
        references=design.references,
        aliased=design.aliased,
        warnings=_warnings(design, converged, singular, group),
        reml=problem.reml,
        residual=problem.residual,
        vcov_kind=vcov,
        df_kind=df,
        _problem=problem,
        _theta=theta,
        _inference=inference,
    )


def standard_errors(vcov: Floats, rows: Floats) -> Floats:
    """Standard errors of contrasts `rows`; exactly 0 for what no group varies in.

    Two arms that do the same differ by 0 in every seed, and rounding must not make a variance, or
    a negative one, of that.
    """
    variance = np.einsum("cp,pq,cq->c", rows, vcov, rows)
    size = np.diag(vcov).max(initial=0.0) * (rows**2).sum(axis=1)
    return np.sqrt(np.where(variance > _ROUNDING * size, variance, 0.0))


def t_statistics(values: Floats, ses: Floats) -> Floats:
    """Return values / ses; NaN where an error is 0, as nothing is tested there."""
    return np.divide(values, ses, out=np.full(len(values), np.nan), where=ses > 0)


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


def _is_singular(problem: Problem, theta: Floats) -> bool:
    lower = problem.factor(theta[None])[0]
    sizes = [
        np.linalg.svd(lower[block.columns, block.columns], compute_uv=False)
        for block in problem.design.blocks
    ]
    if problem.design.has_cells:
        sizes.append(np.abs(theta[problem.n_cholesky, None]))
    return any(size.min() < _SINGULAR for size in sizes)


def _correlation(problem: Problem, theta: Floats) -> float | None:
    if not problem.serial:
        return None
    return float(problem.correlation(theta[problem.serial_at]))


def _sd_ratios(problem: Problem, theta: Floats) -> pd.Series:
    levels = problem.design.variances
    ratios = np.exp([0.0, *theta[problem.ratios_at :]])
    return pd.Series(ratios, levels)[: len(levels) if len(levels) > 1 else 0]


def _variance_components(
    problem: Problem, theta: Floats, sigma2: float, group: str, cell: str
) -> pd.DataFrame:
    design = problem.design
    unit = sigma2 * design.y_scale**2
    lower = problem.factor(theta[None])[0]
    rows: list[tuple[str, str, str, float]] = []
    for block in design.blocks:
        root = block.back @ lower[block.columns, block.columns]
        psi = unit * root @ root.T
        names = block.terms
        rows += [(group, name, "", psi[i, i]) for i, name in enumerate(names)]
        rows += [
            (group, names[i], names[j], psi[i, j])
            for i in range(len(names))
            for j in range(i + 1, len(names))
        ]
    if design.has_cells:
        rows.append((f"{group}:{cell}", "Intercept", "", unit * theta[problem.n_cholesky] ** 2))
    rows.append(("Residual", "", "", unit))
    return pd.DataFrame(rows, columns=["group", "term1", "term2", "value"])


def _warnings(design: Design, converged: bool, singular: bool, group: str) -> tuple[str, ...]:
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


def _random_effects(problem: Problem, theta: Floats, components: pd.DataFrame) -> pd.DataFrame:
    """Psi Z'V^-1 e for groups, tau^2 1'V^-1 e for cells, e the residuals of Xb."""
    design = problem.design
    at = theta[None]
    found = evaluate(problem, at, np.ones((1, len(design.groups))))
    reduced = reduce_random(problem, at, residual_products(problem, at))
    direction = np.zeros(design.parts.shape[-1])
    direction[design.x], direction[-1] = -found.coefficients[0], 1.0
    direction *= design.y_scale
    lower = problem.factor(at)[0]
    effects = reduced.u_rows[0] @ direction @ (lower @ lower.T)
    names = list(dict.fromkeys(components["group"]))
    levels = [str(level) for level in design.groups]
    parts = [
        _effects(names[0], levels, term, values)
        for block in design.blocks
        for term, values in zip(block.terms, block.back @ effects[:, block.columns].T, strict=True)
    ]
    if design.has_cells:
        rows = reduced.row_sums[0] * reduced.shrink[0][..., None]
        scores = rows - (rows[..., design.z] @ reduced.kernel[0]) @ reduced.z_rows[0]
        group, place = design.cells["group"].to_numpy(), design.cells["place"].to_numpy()
        cells = [f"{levels[g]}:{c}" for g, c in zip(group, design.cells["label"], strict=True)]
        values = theta[problem.n_cholesky] ** 2 * (scores @ direction)
        parts.append(_effects(names[-2], cells, "Intercept", values[group, place]))
    return pd.concat(parts, ignore_index=True)


def _effects(group: str, levels: list[str], term: str, values: Floats) -> pd.DataFrame:
    return pd.DataFrame({"group": group, "level": levels, "term": term, "value": values})
