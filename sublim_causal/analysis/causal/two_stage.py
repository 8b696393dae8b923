"""Two-stage least squares within seeds, and the over-identification test beside an estimate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sublim_causal.analysis.causal.doses import (
    OUTCOME,
    TREATMENT,
    effect_estimand,
    unmoved,
    validate_doses,
)
from sublim_causal.analysis.causal.fixed_effects import demean
from sublim_causal.analysis.estimates.distributions import chi2_sf, f_sf
from sublim_causal.analysis.estimates.intervals import t_estimate
from sublim_causal.analysis.estimates.panel import (
    Panel,
    complete_runs,
    seeds_and_arms,
    validate_arms,
)
from sublim_causal.analysis.estimates.settings import validate_level
from sublim_causal.analysis.estimates.types import (
    Estimand,
    Floats,
    NotEstimable,
    Result,
    TestResult,
    too_few,
)
from sublim_causal.errors import RequestError

WEAK_F = 10.0
"""Below this first-stage F, 2SLS intervals cover too little (Staiger and Stock, 1997)."""
STRONG_F = 50.0
"""Below this first-stage F, quote the Fieller or Anderson-Rubin set instead of 2SLS."""
REJECTS = 0.05
"""Level of the over-identification test."""
_NULL_FIRST = "the instruments do not move alignment"
_NULL_SARGAN = "all instruments agree on one effect of alignment"
_NULL_WU = "least squares and instruments agree on the effect of alignment"


@dataclass(frozen=True)
class TwoStageFit:
    """Two-stage least squares within seeds, with its specification tests.

    Attributes
    ----------
    effect : Estimate or NotEstimable
        beta, cluster-robust t; its method states the result of `overidentification`.
    first_stage : TestResult
        F of the instruments in the first stage.
    overidentification : TestResult
        Sargan: all instruments agree on one beta; not run with one instrument.
    endogeneity : TestResult
        Wu-Hausman: least squares and 2SLS agree.
    """

    effect: Result
    first_stage: TestResult
    overidentification: TestResult
    endogeneity: TestResult


def iv_2sls(
    frame: pd.DataFrame,
    doses: Mapping[str, float] | None = None,
    *,
    instruments: Literal["doses", "linear", "arms"] = "doses",
    treatment: str = TREATMENT,
    outcome: str = OUTCOME,
    level: float = 0.95,
) -> TwoStageFit:
    r"""Two-stage least squares within seeds, cluster-robust by seed.

    With everything demeaned by seed and P the projection on the instruments,
    ``b = (P M)'Y / (P M)'M``; ``Var = R/(R-1) sum_s ((P M)_s'e_s)^2 / ((P M)'M)^2`` on R - 1
    degrees of freedom; Sargan ``n e'P e / e'e`` on k - 1.

    Parameters
    ----------
    frame : DataFrame
        Table ``replicates``; arms may be missing for some seeds.
    doses : mapping of str to float, optional
        Strength of each arm; needed unless `instruments` is ``"arms"``.
    instruments : {"doses", "linear", "arms"}
        A dummy for every dose, the strength itself, or a dummy for every arm of the table.
    treatment, outcome : str
        Columns of alignment and outcome.
    level : float
        Confidence level in (0, 1).

    Raises
    ------
    RequestError
        If `doses` is needed and missing.

    Notes
    -----
    ``diagnostics`` hold the classical error (``se_iid``), CR0 (``se_cr0``) and CR1S
    (``se_cr1s``, Stata's: CR1 times ``sqrt((n - 1) / (n - R - 1))``). With a first-stage F below
    50 prefer `iv_linear_dose` or `anderson_rubin`: with a weak dose these t intervals cover too
    little (``docs/validity.md``).

    References
    ----------
    Sargan (1958), Econometrica 26, 393-415; Wu (1973), Econometrica 41, 733-750.
    """
    if instruments != "arms" and doses is None:
        raise RequestError("doses", None, "the strength of every arm", "or instruments='arms'")
    frame = seeds_and_arms(frame)
    arms = tuple(frame["arm"].unique()) if doses is None else validate_doses(doses)
    validate_arms(frame, arms)
    chosen = frame.loc[frame["arm"].isin(arms)]
    runs = complete_runs(chosen, [treatment, outcome])
    codes = pd.Index(arms).get_indexer(pd.Index(runs["arm"]))
    columns = (
        np.array([doses[arm] for arm in arms])[codes, None]
        if instruments == "linear" and doses is not None
        else np.eye(len(arms))[codes, 1:]
    )
    label = {"doses": "all doses as instruments", "linear": "linear dose as instrument"}
    estimand = effect_estimand(
        f"2sls_{instruments}", treatment, outcome, label.get(instruments, "arms as instruments")
    )
    rows, seeds = pd.factorize(runs["seed"], sort=True)
    if refusal := too_few(estimand, len(seeds)):
        return _not_run(refusal)
    m, y, z = (
        demean(np.asarray(values, dtype=float), rows)
        for values in (runs[treatment], runs[outcome], columns)
    )
    if refusal := unmoved(estimand, treatment, m):
        return _not_run(refusal)
    fit = _two_stage_arrays(m, y, z, rows)
    f, sargan = _first_stage_test(fit), _sargan_test(fit)
    n_dropped = chosen["seed"].nunique() - len(seeds)
    return TwoStageFit(
        effect=_two_stage_effect(estimand, fit, f, sargan, level, n_dropped),
        first_stage=f,
        overidentification=sargan,
        endogeneity=_wu_hausman_test(fit),
    )


def _not_run(refusal: NotEstimable) -> TwoStageFit:
    first, second, third = (
        TestResult(null, None, None, reason=refusal.reason)
        for null in (_NULL_FIRST, _NULL_SARGAN, _NULL_WU)
    )
    return TwoStageFit(refusal, first, second, third)


@dataclass(frozen=True)
class _Arrays:
    """Sums of a 2SLS fit on demeaned arrays: k instruments, n rows, R seeds."""

    beta: float
    pm: Floats
    m: Floats
    y: Floats
    residuals: Floats
    projected_residuals: Floats
    scores: Floats
    k: int

    @property
    def n_seeds(self) -> int:
        return len(self.scores)

    @property
    def df(self) -> int:
        """Residual degrees of freedom: rows minus seed effects minus the slope."""
        return len(self.y) - self.n_seeds - 1


def _two_stage_arrays(m: Floats, y: Floats, z: Floats, rows: NDArray[np.intp]) -> _Arrays:
    u, d, _ = np.linalg.svd(z, full_matrices=False)
    basis = u[:, d > 1e-10 * d.max()]
    pm = basis @ (basis.T @ m)
    beta = float(pm @ y / (pm @ m))
    residuals = y - beta * m
    return _Arrays(
        beta=beta,
        pm=pm,
        m=m,
        y=y,
        residuals=residuals,
        projected_residuals=basis @ (basis.T @ residuals),
        scores=np.bincount(rows, weights=pm * residuals).astype(float),
        k=basis.shape[1],
    )


def _first_stage_test(fit: _Arrays) -> TestResult:
    rss = float(((fit.m - fit.pm) ** 2).sum())
    df = fit.df + 1 - fit.k
    f = float(fit.pm @ fit.pm) / fit.k / (rss / df) if rss > 0 else np.inf
    return TestResult(
        null=_NULL_FIRST,
        statistic=float(f),
        p_value=(f_sf(f, fit.k, df)),
        df=(float(fit.k), float(df)),
        distribution="F",
    )


def _sargan_test(fit: _Arrays) -> TestResult:
    if fit.k < 2:
        return TestResult(_NULL_SARGAN, None, None, reason="one instrument: nothing to compare")
    statistic = float(len(fit.y) * (fit.projected_residuals**2).sum() / (fit.residuals**2).sum())
    p = chi2_sf(statistic, fit.k - 1)
    return TestResult(_NULL_SARGAN, statistic, p, (float(fit.k - 1),), "chi2")


def _wu_hausman_test(fit: _Arrays) -> TestResult:
    """Test the first-stage residual in the outcome equation: F = t^2 (Wu, 1973)."""
    v = fit.m - fit.pm
    x = np.stack([fit.m, v], axis=1)
    df = fit.df - 1
    if v @ v == 0:
        return TestResult(_NULL_WU, None, None, reason="the first stage fits exactly")
    coefficients = np.linalg.lstsq(x, fit.y, rcond=None)[0]
    sigma2 = float(((fit.y - x @ coefficients) ** 2).sum()) / df
    f = float(coefficients[1] ** 2 / (sigma2 * np.linalg.inv(x.T @ x)[1, 1]))
    return TestResult(_NULL_WU, f, (f_sf(f, 1, df)), (1.0, float(df)), "F")


def _two_stage_effect(
    estimand: Estimand,
    fit: _Arrays,
    first_stage: TestResult,
    sargan: TestResult,
    level: float,
    n_dropped: int,
) -> Result:
    n, seeds = len(fit.y), fit.n_seeds
    pmm = float(fit.pm @ fit.pm)
    cr0 = float(np.sqrt(fit.scores @ fit.scores)) / pmm
    sigma2 = float((fit.residuals**2).sum()) / fit.df
    check = overidentification_note(sargan)
    f = first_stage.statistic or 0.0
    return t_estimate(
        estimand,
        fit.beta,
        cr0 * float(np.sqrt(seeds / (seeds - 1))),
        seeds - 1,
        level=validate_level(level),
        method=f"2SLS, CR1 t{check.method}",
        n_seeds=seeds,
        n_dropped=n_dropped,
        warnings=(*_strength_warnings(f), *check.warnings),
        diagnostics={
            "first_stage_f": f,
            "se_iid": float(np.sqrt(sigma2 / pmm)),
            "se_cr0": cr0,
            "se_cr1s": cr0 * float(np.sqrt(seeds / (seeds - 1) * (n - 1) / fit.df)),
            **check.diagnostics,
        },
    )


def _strength_warnings(f: float) -> tuple[str, ...]:
    if f >= STRONG_F:
        return ()
    degree = "weak" if f < WEAK_F else "not strong"
    return (f"instruments are {degree} (F {f:.1f}): quote the Fieller or Anderson-Rubin set",)


def overidentification(panel: Panel, treatment: str, outcome: str) -> TestResult:
    """Sargan's test with a dummy for every arm of a complete panel."""
    m, y = (panel.columns[name].ravel() for name in (treatment, outcome))
    n_seeds, n_arms = panel.columns[outcome].shape
    rows = np.repeat(np.arange(n_seeds), n_arms)
    z = np.tile(np.eye(n_arms)[:, 1:], (n_seeds, 1))
    return _sargan_test(_two_stage_arrays(demean(m, rows), demean(y, rows), demean(z, rows), rows))


@dataclass(frozen=True)
class OveridentificationNote:
    """How an over-identification test is shown beside an estimate.

    Attributes
    ----------
    method : str
        Suffix of the estimate's method, so that every line that shows the number shows it.
    warnings : tuple of str
        What follows from a rejection.
    diagnostics : mapping
        j, j_df, j_p, j_rejects; empty when the test was not run.
    """

    method: str
    warnings: tuple[str, ...]
    diagnostics: Mapping[str, Any]


def overidentification_note(test: TestResult) -> OveridentificationNote:
    """Put an over-identification test into words, rejecting at `REJECTS`."""
    if test.statistic is None or test.p_value is None:
        return OveridentificationNote("", (), {})
    df = ", ".join(f"{number:.0f}" for number in test.df)
    shown = f"J {test.distribution}({df}) = {test.statistic:.1f}, p {test.p_value:.2g}"
    numbers = {"j": test.statistic, "j_df": list(test.df), "j_p": test.p_value}
    if test.p_value >= REJECTS:
        return OveridentificationNote(
            f"; over-identification not rejected: {shown}", (), {**numbers, "j_rejects": False}
        )
    return OveridentificationNote(
        f"; OVER-IDENTIFICATION REJECTED: {shown}",
        (f"exclusion is contradicted ({shown}): the instruments disagree on the effect",),
        {**numbers, "j_rejects": True},
    )
