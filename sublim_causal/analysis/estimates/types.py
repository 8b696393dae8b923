"""Estimands and estimates: the types that all estimators share."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
"""An array of floats; docstrings give the shape."""

MIN_SEEDS = 3
"""Below this many seeds nothing is estimated."""
FEW_SEEDS = 8
"""Below this many seeds every interval carries a warning."""
FRACTION = "fraction"
"""Unit of accuracies and shares."""
DIFFERENCE = "difference of fractions"
"""Unit of what is the difference of two fractions; in percent it is percentage points."""


@dataclass(frozen=True)
class Estimand:
    """A quantity declared before the data are read.

    Attributes
    ----------
    name : str
        Identifier, unique in a plan: ``slope_gain_cos_update``.
    sentence : str
        The quantity in one sentence.
    outcome : str
        Column and unit of what is measured: ``"final_accuracy (fraction)"``.
    contrast : str
        What is compared: ``"projection - baseline"``, or a formula and coefficient.
    assumptions : tuple of str
        What must hold for the number to mean what the sentence says.
    family : str
        Estimands of one family share a multiplicity adjustment; empty: none.
    role : str
        ``"primary"``, ``"secondary"`` or ``"exploratory"``; exploratory ones have no p-value.
    declared : str
        Name of the plan's estimand that it is a result of; empty outside plans.
    arm, reference : str
        The arm that it is about, and the one that is subtracted from it; empty: none.
    part : str
        Which of the quantities that one declaration gives: ``"pnde"``, ``"within_run"``.
    column : str
        Column of ``replicates`` or ``steps`` that is measured; empty: none, or several.
    unit : str
        Unit of the value: that of the column, `DIFFERENCE`, ``"nats per unit of cos_update"``.
    """

    name: str
    sentence: str
    outcome: str = ""
    contrast: str = ""
    assumptions: tuple[str, ...] = ()
    family: str = ""
    role: str = "secondary"
    declared: str = ""
    arm: str = ""
    reference: str = ""
    part: str = ""
    column: str = ""
    unit: str = ""

    def tidy(self) -> dict[str, Any]:
        """Columns that say what a row of `Estimate.tidy` is about."""
        names = ("name", "outcome", "contrast", "arm", "reference", "part", "column", "unit")
        return {name: getattr(self, name) for name in names}


def difference_unit(unit: str) -> str:
    """Return the unit of the difference of two quantities in `unit`."""
    return DIFFERENCE if unit == FRACTION else unit


def limits(low: float, high: float) -> str:
    """Write the limits of an interval with four digits; an unbounded one in words, none as ""."""
    if math.isnan(low) or math.isnan(high):
        return ""
    if math.isinf(low) and math.isinf(high):
        return "any value"
    if math.isinf(low) or math.isinf(high):
        return f"at most {high:.4g}" if math.isinf(low) else f"at least {low:.4g}"
    return f"[{low:.4g}, {high:.4g}]"


@dataclass(frozen=True, repr=False)
class Estimate:
    """An estimated quantity with its interval.

    Attributes
    ----------
    estimand : Estimand
        What the number estimates.
    value, se : float
        Point estimate and standard error, in the outcome's unit.
    low, high : float
        Limits of the interval; infinite where the confidence set is unbounded. NaN, as `se`, for
        a number that describes the run.
    level : float
        Confidence level in (0, 1).
    df : float or None
        Degrees of freedom of the t reference distribution; None where there is none.
    p_value : float or None
        Two-sided p against the estimand's null value, never 0 for a resampling method.
    method : str
        How value and interval were obtained: ``"paired t"``.
    n_seeds, n_dropped : int
        Seeds used, and seeds left out (incomplete pairs, diverged, failed).
    warnings : tuple of str
        Caveats that belong beside the number wherever it is quoted.
    diagnostics : mapping
        Named extra quantities, JSON-able (skewness, reliability, p_adjusted, ...).
    draws : ndarray of shape (B,) or None
        Resampling distribution, kept so that it can be inspected.
    """

    estimand: Estimand
    value: float
    se: float
    low: float
    high: float
    level: float
    df: float | None
    p_value: float | None
    method: str
    n_seeds: int
    n_dropped: int = 0
    warnings: tuple[str, ...] = ()
    diagnostics: Mapping[str, Any] = field(default_factory=dict)
    draws: Floats | None = field(default=None, repr=False, compare=False)

    @property
    def width(self) -> float:
        """Width of the interval."""
        return self.high - self.low

    @property
    def simultaneous(self) -> Mapping[str, Any] | None:
        """Method, low and high of the interval that is simultaneous over the family, if any."""
        return self.diagnostics.get("simultaneous")

    @property
    def has_interval(self) -> bool:
        """Whether there is one; a number that describes the run has none."""
        return not math.isnan(self.low)

    def beside_adjusted(self) -> Estimate:
        """Return this with the interval that fits its adjusted p: the simultaneous one, if any."""
        found = self.simultaneous
        return self if found is None else replace(self, low=found["low"], high=found["high"])

    def tidy(self) -> dict[str, Any]:
        """One flat row with fixed columns, named as in R's broom, without the draws."""
        return {
            **self.estimand.tidy(),
            "estimate": self.value,
            "std_error": self.se,
            "conf_low": self.low,
            "conf_high": self.high,
            "level": self.level,
            "df": self.df,
            "p_value": self.p_value,
            "p_adjusted": self.diagnostics.get("p_adjusted"),
            "method": self.method,
            "n_seeds": self.n_seeds,
            "n_dropped": self.n_dropped,
            "status": "estimated",
            "note": "; ".join(self.warnings),
        }

    def summary(self) -> str:
        """One deterministic line: value, interval, method, n."""
        if not self.has_interval:
            head = f"{self.estimand.name} = {self.value:.6g}"
            return f"{head} ({self.method}, {self.n_seeds} seeds)"
        df = "" if self.df is None else f", df {self.df:.1f}"
        p = "" if self.p_value is None else f", p {self.p_value:.2g}"
        return (
            f"{self.estimand.name} = {self.value:.4g} "
            f"{limits(self.low, self.high)} "
            f"({100 * self.level:g} % {self.method}{df}{p}, {self.n_seeds} seeds)"
            f"{self._equivalence()}"
        )

    def _equivalence(self) -> str:
        """Return the verdict of an equivalence test; empty for other estimates."""
        if "equivalent" not in self.diagnostics:
            return ""
        verdict = "equivalent" if self.diagnostics["equivalent"] else "not shown to be equivalent"
        return f": {verdict} within a margin of {self.diagnostics['margin']:g}"

    def __repr__(self) -> str:
        return f"<Estimate {self.summary()}>"


@dataclass(frozen=True, repr=False)
class NotEstimable:
    """An estimand that these data cannot estimate, and why.

    Attributes
    ----------
    estimand : Estimand
        What was asked.
    reason : str
        Why there is no interval.
    value : float or None
        Point estimate, where only an interval is lacking.
    """

    estimand: Estimand
    reason: str
    value: float | None = None

    def tidy(self) -> dict[str, Any]:
        """The columns of `Estimate.tidy`, with None for every number."""
        numbers = ("estimate", "std_error", "conf_low", "conf_high", "level", "df")
        return {
            **self.estimand.tidy(),
            **dict.fromkeys((*numbers, "p_value", "p_adjusted")),
            "method": "",
            "n_seeds": 0,
            "n_dropped": 0,
            "status": "not estimable",
            "note": self.reason,
        }

    def summary(self) -> str:
        """One deterministic line with the reason."""
        return f"{self.estimand.name}: not estimable ({self.reason})"

    def __repr__(self) -> str:
        return f"<NotEstimable {self.summary()}>"


Result = Estimate | NotEstimable


@dataclass(frozen=True)
class TestResult:
    """A hypothesis test, or the reason why it could not be run.

    Attributes
    ----------
    null : str
        The null hypothesis in words.
    statistic, p_value : float or None
        None when the test could not be run.
    df : tuple of float
        Degrees of freedom of `distribution`.
    distribution : str
        Reference distribution: ``"chi2"``, ``"F"``, ``"t"``, ``"sign flips"``.
    reason : str
        Why the test could not be run; empty when it was.
    """

    __test__ = False

    null: str
    statistic: float | None
    p_value: float | None
    df: tuple[float, ...] = ()
    distribution: str = ""
    reason: str = ""

    def tidy(self) -> dict[str, Any]:
        """Return the members by name, JSON-able."""
        return {**vars(self), "df": list(self.df)}


def too_few(estimand: Estimand, n_seeds: int) -> NotEstimable | None:
    """Return why fewer than `MIN_SEEDS` seeds estimate nothing; None when there are enough."""
    if n_seeds >= MIN_SEEDS:
        return None
    return NotEstimable(estimand, f"{n_seeds} complete seeds; at least {MIN_SEEDS} are needed")
