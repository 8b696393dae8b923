"""Anderson-Rubin sets over all doses: valid however weak the dose is, inverted without a grid."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import linalg

from sublim_causal.analysis.causal.doses import (
    OUTCOME,
    TREATMENT,
    dose_panel,
    effect_estimand,
    unmoved,
)
from sublim_causal.analysis.causal.two_stage import overidentification_note
from sublim_causal.analysis.estimates.distributions import f_ppf, f_sf
from sublim_causal.analysis.estimates.headline import seed_warnings
from sublim_causal.analysis.estimates.panel import Panel
from sublim_causal.analysis.estimates.ratios import ConfidenceSet
from sublim_causal.analysis.estimates.settings import validate_level
from sublim_causal.analysis.estimates.types import (
    Estimate,
    Floats,
    NotEstimable,
    Result,
    TestResult,
)


@dataclass(frozen=True)
class _Pivot:
    """Hotelling's T^2 of ``D(b) = dY - b dM`` as a function of b: means and covariances."""

    dm: Floats
    dy: Floats
    s_mm: Floats
    s_my: Floats
    s_yy: Floats
    n: int

    @property
    def k(self) -> int:
        return len(self.dm)

    def t2(self, b: float) -> float:
        d = self.dy - b * self.dm
        s = self.s_yy - b * (self.s_my + self.s_my.T) + b * b * self.s_mm
        return float(self.n * d @ np.linalg.solve(s, d))

    def p_value(self, b: float) -> float:
        """``T^2 (n - k) / ((n - 1) k) ~ F(k, n - k)``."""
        scale = (self.n - self.k) / ((self.n - 1) * self.k)
        return f_sf(self.t2(b) * scale, self.k, self.n - self.k)

    def critical(self, level: float) -> float:
        quantile = f_ppf(level, self.k, self.n - self.k)
        return (self.n - 1) * self.k / (self.n - self.k) * quantile

    def region(self, level: float) -> ConfidenceSet:
        r"""Invert the test exactly.

        ``T^2(b) <= c`` iff ``det W(b) >= 0`` with ``W(b) = S(b) - (n/c) D(b) D(b)'``, a matrix
        polynomial of degree 2 in b: its real eigenvalues are the ends of the set, so that no
        piece is missed, as one could be on a grid.
        """
        c = self.critical(level)
        w0 = self.s_yy - self.n / c * np.outer(self.dy, self.dy)
        cross = np.outer(self.dm, self.dy)
        w1 = -(self.s_my + self.s_my.T) + self.n / c * (cross + cross.T)
        w2 = self.s_mm - self.n / c * np.outer(self.dm, self.dm)
        ends = _real_eigenvalues(w0, w1, w2)
        cuts = np.concatenate([[-np.inf], ends, [np.inf]])
        pieces: list[tuple[float, float]] = []
        for low, high in itertools.pairwise(cuts):
            if self.t2(_inner_point(low, high)) > c:
                continue
            if pieces and pieces[-1][1] == low:
                pieces[-1] = (pieces[-1][0], float(high))
            else:
                pieces.append((float(low), float(high)))
        return ConfidenceSet(tuple(pieces))


def _inner_point(low: float, high: float) -> float:
    if np.isinf(low) and np.isinf(high):
        return 0.0
    if np.isinf(low):
        return high - max(1.0, abs(high))
    if np.isinf(high):
        return low + max(1.0, abs(low))
    return (low + high) / 2


def _real_eigenvalues(w0: Floats, w1: Floats, w2: Floats) -> Floats:
    """Real b with ``det(w0 + b w1 + b^2 w2) = 0``, sorted."""
    # Units of outcome per unit of alignment: scaling b keeps the pencil well conditioned.
    unit = np.sqrt(np.trace(np.abs(w0)) / np.trace(np.abs(w2)))
    identity, zero = np.eye(len(w0)), np.zeros_like(w0)
    size = np.abs(w0).max()
    left = np.block([[zero, identity], [-w0 / size, -w1 * unit / size]])
    right = np.block([[identity, zero], [zero, w2 * unit**2 / size]])
    values = linalg.eigvals(left, right)
    finite = values[np.isfinite(values)]
    # An extra cut is harmless (the pieces are tested and joined); a missing one is not.
    real = finite[np.abs(finite.imag) <= 1e-6 * np.maximum(1.0, np.abs(finite.real))].real
    return np.asarray(np.sort(real * unit), dtype=float)


def _pivot(panel: Panel, treatment: str, outcome: str) -> _Pivot:
    dm, dy = panel.changes(treatment), panel.changes(outcome)
    k = dm.shape[1]
    joint = np.cov(np.concatenate([dm, dy], axis=1).T)
    return _Pivot(
        dm=dm.mean(axis=0),
        dy=dy.mean(axis=0),
        s_mm=joint[:k, :k],
        s_my=joint[:k, k:],
        s_yy=joint[k:, k:],
        n=len(dm),
    )


def anderson_rubin(
    frame: pd.DataFrame,
    doses: Mapping[str, float],
    *,
    treatment: str = TREATMENT,
    outcome: str = OUTCOME,
    level: float = 0.95,
) -> Result:
    r"""Anderson-Rubin set over all doses, from Hotelling's T^2 of paired differences.

    ``D_s(b) = dY_s - b dM_s`` (changes from the lowest dose, k of them),
    ``T^2(b) = R D'S(b)^-1 D``, ``T^2 (R - k) / ((R - 1) k) ~ F(k, R - k)``: exact under
    normality, however weak the dose is.

    Parameters
    ----------
    frame, doses, treatment, outcome, level
        As in `iv_linear_dose`.

    Returns
    -------
    Estimate or NotEstimable
        ``value`` minimises T^2; the minimum tests over-identification, robust to unequal
        variances: ``T^2_min (R - k + 1) / ((R - 1)(k - 1))`` against ``F(k - 1, R - k + 1)``.
        Not estimable with R <= k + 1, or when no effect is compatible with all doses (the set
        is empty), which is the strongest rejection there is.

    References
    ----------
    Anderson and Rubin (1949), Ann. Math. Stat. 20, 46-63.
    """
    panel = dose_panel(frame, doses, [treatment, outcome]).panel
    estimand = effect_estimand("anderson_rubin", treatment, outcome, "all doses, Anderson-Rubin")
    n, k = len(panel.seeds), len(panel.arms) - 1
    if n <= k + 1:
        return NotEstimable(estimand, f"{n} complete seeds for {k} doses; {k + 2} are needed")
    if reason := unmoved(estimand, treatment, panel.changes(treatment)):
        return reason
    pivot = _pivot(panel, treatment, outcome)
    if np.linalg.matrix_rank(pivot.s_yy) < k:
        return NotEstimable(estimand, f"{outcome} does not vary independently over the doses")
    region = pivot.region(validate_level(level))
    best = _minimise(pivot)
    check = overidentification_note(_overidentification(pivot, best))
    if region.shape == "empty":
        return NotEstimable(estimand, f"no effect agrees with all doses{check.method}")
    return Estimate(
        estimand=estimand,
        value=best,
        se=float("nan"),
        low=region.low,
        high=region.high,
        level=level,
        df=None,
        p_value=pivot.p_value(0.0),
        method=f"Anderson-Rubin (Hotelling){check.method}",
        n_seeds=n,
        n_dropped=panel.n_dropped,
        warnings=(*seed_warnings(n), *region.warnings(level), *check.warnings),
        diagnostics={**region.diagnostics(), **check.diagnostics},
    )


def _minimise(pivot: _Pivot) -> float:
    """Return the b with the smallest T^2, by bounded searches over the angle b = s tan(phi)."""
    scale = np.sqrt(np.trace(pivot.s_yy) / np.trace(pivot.s_mm))
    angles = np.linspace(-np.pi / 2, np.pi / 2, 66)[1:-1]
    values = [pivot.t2(scale * np.tan(angle)) for angle in angles]
    i = int(np.argmin(values))
    bounds = (angles[max(i - 1, 0)], angles[min(i + 1, len(angles) - 1)])
    from scipy import optimize

    found = optimize.minimize_scalar(
        lambda angle: pivot.t2(scale * np.tan(angle)),
        bounds=bounds,
        method="bounded",
        options={"xatol": 1e-12},
    )
    return float(scale * np.tan(found.x))


def _overidentification(pivot: _Pivot, best: float) -> TestResult:
    null = "all doses agree on one effect of alignment"
    n, k = pivot.n, pivot.k
    if k < 2:
        return TestResult(null, None, None, reason="one dose: nothing to compare")
    f = pivot.t2(best) * (n - k + 1) / ((n - 1) * (k - 1))
    df = (float(k - 1), float(n - k + 1))
    return TestResult(null, f, (f_sf(f, *df)), df, "F")
