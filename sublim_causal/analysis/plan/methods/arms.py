"""What a plan can ask of a pair of arms: their paired difference, and their equivalence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import Field

from sublim_causal.analysis.arms.contrasts import paired_contrast
from sublim_causal.analysis.arms.equivalence import tost
from sublim_causal.analysis.arms.independent import welch_contrast
from sublim_causal.analysis.estimates.settings import Settings
from sublim_causal.analysis.estimates.types import NotEstimable, Result
from sublim_causal.analysis.plan.declaration import (
    Contrasted,
    ReplicateColumn,
    WithInterval,
    difference_of,
    with_unit,
)
from sublim_causal.analysis.plan.method import Method, Pair, by_pair
from sublim_causal.analysis.plan.record import Record

NO_MARGIN = "the run declares no margin for its outcome: open_run(..., margin=...)"


class PairedContrast(Contrasted, WithInterval):
    """Mean paired difference of a run-level outcome between arms."""

    outcome: ReplicateColumn
    """Column of ``replicates``."""

    def about(self) -> dict[str, str]:
        """Column and unit of the difference."""
        return {**super().about(), **difference_of(self.outcome)}


class Equivalence(PairedContrast):
    """Equivalence of two arms within a margin."""

    margin: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None
    """Largest difference that would not matter, in the outcome's unit; None, where a run of one's
    own declares none for its outcome."""
    alpha: float = Field(default=0.05, gt=0, lt=0.5)
    """Level of each one-sided test; the interval has level 1 - 2 alpha."""


def _paired_contrast(
    record: Record, declared: PairedContrast, settings: Settings
) -> Sequence[Result]:
    contrast = paired_contrast if record.paired else welch_contrast

    def estimate(pair: Pair) -> list[Result]:
        found = contrast(
            record.replicates,
            declared.outcome,
            pair.arm,
            pair.reference,
            estimand=pair.estimand,
            settings=settings,
        )
        return [found]

    return by_pair(record, declared, with_unit("replicates", declared.outcome), estimate)


def _equivalence(record: Record, declared: Equivalence, settings: Settings) -> Sequence[Result]:
    def estimate(pair: Pair) -> list[Result]:
        if declared.margin is None:
            return [NotEstimable(pair.estimand, NO_MARGIN)]
        found = tost(
            record.replicates,
            declared.outcome,
            pair.arm,
            pair.reference,
            margin=declared.margin,
            alpha=declared.alpha,
            estimand=pair.estimand,
            settings=settings,
            paired=record.paired,
        )
        return [found]

    return by_pair(record, declared, with_unit("replicates", declared.outcome), estimate)


CONTRAST_METHODS: Mapping[str, Method] = {
    "paired_contrast": Method(PairedContrast, _paired_contrast),
    "equivalence": Method(Equivalence, _equivalence),
}
