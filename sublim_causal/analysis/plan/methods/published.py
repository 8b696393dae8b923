r"""A published figure beside ours: as one more run, and as our mean.

With mean m and standard deviation d of N seeds, a single new run falls into

``m -+ t_{N-1} d sqrt(1 + 1/N)``

with the level's probability if seeds are normal. A figure from one run belongs in this interval;
the interval of the mean is far narrower and misses most single runs.

References
----------
Hahn and Meeker (1991), Statistical Intervals, section 4.7.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike
from pydantic import Field

from sublim_causal.analysis.estimates.intervals import is_skewed, mean_interval, t_estimate
from sublim_causal.analysis.estimates.panel import paired_panel
from sublim_causal.analysis.estimates.settings import Settings, validate_level
from sublim_causal.analysis.estimates.types import (
    FRACTION,
    Estimand,
    Estimate,
    NotEstimable,
    Result,
    difference_unit,
    too_few,
)
from sublim_causal.analysis.plan.declaration import (
    ReplicateColumn,
    WithInterval,
    column_unit,
    with_unit,
)
from sublim_causal.analysis.plan.method import Method, absent, as_declared
from sublim_causal.analysis.plan.record import Record


class Published(WithInterval):
    """A published figure, held against the mean over seeds and against one more run."""

    outcome: ReplicateColumn
    """Column of ``replicates``."""
    arm: str
    """The arm that the figure is of."""
    reference: str = ""
    """Where the figure is a difference: the arm that is subtracted."""
    published: float = Field(allow_inf_nan=False)
    """The figure, in the outcome's unit."""
    data: str = ""
    """The data set that the figure is of; a run of another one is not held against it."""

    def about(self) -> dict[str, str]:
        """Arm, reference, column and unit."""
        unit = column_unit("replicates", self.outcome)
        return {
            "arm": self.arm,
            "reference": self.reference,
            "column": self.outcome,
            "unit": difference_unit(unit) if self.reference else unit,
        }

    def endings(self) -> tuple[str, ...]:
        """The mean, and one more run."""
        return ("mean", "new_run")


def prediction_interval(
    values: ArrayLike, level: float = 0.95, *, estimand: Estimand, n_dropped: int = 0
) -> Result:
    """Return the interval for the value of one more seed.

    Parameters
    ----------
    values : array-like of shape (N,)
        One value a seed.
    level : float
        Probability that a new value lies inside, in (0, 1).
    estimand : Estimand
        What is predicted.
    n_dropped : int
        Seeds left out before, for the record.

    Returns
    -------
    Estimate or NotEstimable
        ``se`` is that of the prediction, ``d sqrt(1 + 1/N)``. With skewed values a warning
        says that the limits lean on normality; whatever the distribution, a new value lies
        between ``diagnostics["smallest"]`` and ``["largest"]`` with probability
        ``["range_level"]``, ``(N - 1) / (N + 1)``.
    """
    x = np.asarray(values, dtype=float)
    if reason := too_few(estimand, len(x)):
        return reason
    skewed = ("seeds are skewed: the limits for one more run lean on normality",)
    found = t_estimate(
        estimand,
        float(x.mean()),
        float(x.std(ddof=1) * np.sqrt(1 + 1 / len(x))),
        len(x) - 1,
        level=validate_level(level),
        method="prediction t",
        n_seeds=len(x),
        n_dropped=n_dropped,
        warnings=skewed if is_skewed(x) else (),
        diagnostics={
            "smallest": float(x.min()),
            "largest": float(x.max()),
            "range_level": (len(x) - 1) / (len(x) + 1),
        },
    )
    # That a single run differs from 0 is no question anybody asks.
    return replace(found, p_value=None)


def _published(record: Record, declared: Published, settings: Settings) -> Sequence[Result]:
    arms = [declared.arm, *([declared.reference] if declared.reference else [])]
    whole = declared.estimand(with_unit("replicates", declared.outcome), " - ".join(arms))
    if missing := absent(record, whole, *arms):
        return [missing]
    if declared.data and record.data not in ("", declared.data):
        return [NotEstimable(whole, f"the figure is of {declared.data}, the run of {record.data}")]
    panel = paired_panel(record.replicates, [declared.outcome], arms)
    values = panel.column(declared.outcome, declared.arm)
    if declared.reference:
        values = values - panel.column(declared.outcome, declared.reference)
    mean = mean_interval(
        values,
        estimand=whole,
        null=declared.published,
        n_dropped=panel.n_dropped,
        settings=settings,
    )
    sentence = f"{declared.sentence} Value of one more seed."
    new = prediction_interval(
        values,
        settings.level,
        estimand=replace(whole, sentence=sentence),
        n_dropped=panel.n_dropped,
    )
    found = {"mean": mean, "new_run": new}
    return [
        as_declared(declared, _placed(one, declared), name, part=name)
        for name, one in found.items()
    ]


def _placed(one: Result, declared: Published) -> Result:
    """Say in the estimate's own line whether the published figure lies inside.

    Limits of a fraction stay between 0 and 1.
    """
    if not isinstance(one, Estimate):
        return one
    if one.estimand.unit == FRACTION:
        one = replace(one, low=max(one.low, 0.0), high=min(one.high, 1.0))
    inside = one.low <= declared.published <= one.high
    return replace(
        one,
        method=f"{one.method}; published {declared.published:g} {'in' if inside else 'out'}side",
        diagnostics={**one.diagnostics, "published": declared.published, "inside": inside},
    )


REPLICATION_METHODS: Mapping[str, Method] = {"published": Method(Published, _published)}
