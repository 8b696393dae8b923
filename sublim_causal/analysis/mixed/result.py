"""A fitted mixed model: its coefficients, contrasts, tests and bootstrap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pandas as pd

from sublim_causal.analysis.estimates.bootstrap import (
    N_BOOT,
    ClusterStatistic,
    Distribution,
    cluster_bootstrap,
)
from sublim_causal.analysis.estimates.distributions import f_sf, t_critical, t_sf
from sublim_causal.analysis.estimates.settings import validate_level
from sublim_causal.analysis.estimates.types import Floats, TestResult
from sublim_causal.analysis.mixed.criterion.parameters import Problem, Residual
from sublim_causal.analysis.mixed.formula.linear import contrast_matrix
from sublim_causal.analysis.mixed.inference.covariance import FixedTheta, Inference, group_products
from sublim_causal.analysis.mixed.inference.variance_components import random_effects
from sublim_causal.errors import RequestError

Vcov = Literal["model", "CR0", "CR2"]
Df = Literal["satterthwaite", "kenward-roger", "cr2"]
Contrasts = str | Sequence[str] | Floats

_ROUNDING = 1e-12
"""A variance below this share of the largest, for rows of one length, is 0."""


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
        Caveats of the fit.
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
        return random_effects(self._problem, self._theta, self.variance_components)

    def conf_int(self, level: float = 0.95) -> pd.DataFrame:
        """Limits ``low`` and ``high`` of t intervals, by coefficient.

        Raises
        ------
        RequestError
            If `level` is not between 0 and 1.
        """
        return self.tidy(level).set_index("term")[["low", "high"]]

    def tidy(self, level: float = 0.95) -> pd.DataFrame:
        """One row a coefficient: term, estimate, se, df, statistic, p_value, low, high."""
        values = self.params.to_numpy(), self.se.to_numpy(), self.df.to_numpy()
        return _table("term", self.params.index, *values, level)

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
        names, rows = contrast_matrix(contrasts, self.params.index)
        se = standard_errors(self._inference.vcov, self._scaled(rows))
        df = np.array([self._df(row) for row in rows])
        return _table("contrast", names, rows @ self.params.to_numpy(), se, df, level)

    def test(self, contrasts: Contrasts) -> TestResult:
        """Wald F test that all `contrasts` are 0, with Satterthwaite's denominator df.

        F = (Cb)'(C V C')^-1 (Cb) / q; the denominator pools the df of the q uncorrelated
        directions (Fai and Cornelius, 1996, doi:10.1080/00949659608811740), and is 2 where one of
        them has no more, as in lmerTest.
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
        denominator = pooled_df(df)
        p = f_sf(statistic, q, denominator)
        return TestResult(null, statistic, p, (float(q), denominator), "F")

    def statistic(self, contrast: str | Floats) -> ClusterStatistic:
        """Return `contrast` as a function of how often each group was drawn.

        Parameters
        ----------
        contrast : str or ndarray of shape (P,)
            One expression in coefficient names, or one row.

        Returns
        -------
        ClusterStatistic
            For `bootstrap.cluster_bootstrap`; its standard errors are CR0. The variance
            parameters are kept: estimated anew in each replicate they give draws that correlate
            with these by more than 0.999.
        """
        given = contrast if isinstance(contrast, str) else np.atleast_2d(contrast)
        _, rows = contrast_matrix(given, self.params.index)
        if len(rows) != 1:
            raise RequestError("contrast", len(rows), "one contrast")
        offset = float(rows[0] @ self._problem.design.offset)
        return FixedTheta(group_products(self._problem, self._theta), self._scaled(rows[0]), offset)

    def bootstrap(
        self, contrast: str | Floats, *, n_boot: int = N_BOOT, rng: np.random.Generator | int = 0
    ) -> Distribution:
        """Cluster bootstrap of `contrast`: groups are drawn with all their rows.

        Parameters
        ----------
        contrast
            As in `statistic`.
        n_boot, rng
            As in `bootstrap.cluster_bootstrap`.

        Returns
        -------
        Distribution
            Draws with CR0 standard errors; ``interval()`` is the studentised one.
        """
        return cluster_bootstrap(self.statistic(contrast), n_boot=n_boot, rng=rng)

    def _scaled(self, rows: Floats) -> Floats:
        return self._problem.design.y_scale * (rows @ self._problem.design.back)

    def _df(self, row: Floats) -> float:
        return self._inference.df(self._scaled(row))


def _table(
    heading: str,
    names: Sequence[str] | pd.Index,
    value: Floats,
    se: Floats,
    df: Floats,
    level: float,
) -> pd.DataFrame:
    half = t_critical(validate_level(level), df) * se
    statistic = t_statistics(value, se)
    return pd.DataFrame(
        {
            heading: names,
            "estimate": value,
            "se": se,
            "df": df,
            "statistic": statistic,
            "p_value": 2 * t_sf(np.abs(statistic), df),
            "low": value - half,
            "high": value + half,
        }
    )


def pooled_df(df: Floats) -> float:
    """Denominator df of an F test on uncorrelated directions of `df` ``(Q,)`` each."""
    if np.ptp(df) < 1e-8:
        return float(df.mean())
    if (df <= 2).any():
        return 2.0
    expected = (df / (df - 2)).sum()
    return float(2 * expected / (expected - len(df)))


def standard_errors(vcov: Floats, rows: Floats) -> Floats:
    """Standard errors of contrasts `rows`; exactly 0 where no group varies.

    Two arms that do the same differ by 0 in every seed, which rounding must not turn into a
    variance, or a negative one.
    """
    variance = np.einsum("cp,pq,cq->c", rows, vcov, rows)
    size = np.diag(vcov).max(initial=0.0) * (rows**2).sum(axis=1)
    return np.sqrt(np.where(variance > _ROUNDING * size, variance, 0.0))


def t_statistics(values: Floats, ses: Floats) -> Floats:
    """Return values / ses; NaN where an error is 0, as nothing is tested there."""
    return np.divide(values, ses, out=np.full(len(values), np.nan), where=ses > 0)
