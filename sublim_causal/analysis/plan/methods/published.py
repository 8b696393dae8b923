"""What a plan can ask of a published figure: as our mean, and as one more run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

from pydantic import Field

from sublim_causal.analysis.arms.prediction import POWER, prediction_interval
from sublim_causal.analysis.estimates.intervals import mean_interval
from sublim_causal.analysis.estimates.panel import paired_panel
from sublim_causal.analysis.estimates.settings import Settings
from sublim_causal.analysis.estimates.types import (
    FRACTION,
    Estimate,
    NotEstimable,
    Result,
    difference_unit,
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
    """A published figure, compared with the mean over seeds and with one more run."""

    outcome: ReplicateColumn
    """Column of ``replicates``."""
    arm: str
    """The arm that the figure is of."""
    reference: str = ""
    """Where the figure is a difference: the arm that is subtracted."""
    published: float = Field(allow_inf_nan=False)
    """The figure, in the outcome's unit."""
    data: str = ""
    """The data set that the figure is of; a run of another one is not compared with it."""
    arm_fields: ClassVar[tuple[str, ...]] = ("arm", "reference")

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
        estimand=replace(whole, sentence=sentence),
        level=settings.level,
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
    method = f"{one.method}; published {declared.published:g} {'in' if inside else 'out'}side"
    if "detectable" in one.diagnostics:
        method += f"; {one.diagnostics['detectable']:.2g} off would be outside in {100 * POWER:g} %"
    return replace(
        one,
        method=method,
        diagnostics={**one.diagnostics, "published": declared.published, "inside": inside},
    )


REPLICATION_METHODS: Mapping[str, Method] = {"published": Method(Published, _published)}
