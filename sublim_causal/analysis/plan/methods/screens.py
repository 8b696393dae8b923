"""What a plan can ask of screens: how well a number that is known early predicts the transfer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from pydantic import Field

from sublim_causal.analysis.estimates.panel import validate_columns
from sublim_causal.analysis.estimates.ranks import ranked_by_cluster
from sublim_causal.analysis.estimates.settings import Settings
from sublim_causal.analysis.estimates.types import (
    FEW_SEEDS,
    Estimate,
    NotEstimable,
    Result,
    too_few,
)
from sublim_causal.analysis.plan.declaration import Declared, ReplicateColumn, StepColumn, with_unit
from sublim_causal.analysis.plan.method import Method
from sublim_causal.analysis.plan.record import Record

SPEARMAN, WITHIN, AUROC = PARTS = ("spearman", "spearman_within_arms", "auroc")
FIRST = "first"
"""Column for what a replicate's first step has."""
ENOUGH_DRAWS = 0.9
"""Share of the bootstrap replicates in which a statistic has to be defined."""


class PredictiveValidity(Declared):
    """How well a column predicts what replicates acquire, over all arms of a run.

    Three results: Spearman's correlation over all replicates, the same within arms (ranks after the
    arm's mean is subtracted from both), and the area under the ROC curve of telling replicates that
    acquire the trait from those that do not.
    """

    predictor: ReplicateColumn = "coverage"
    """Column of ``replicates`` that is known early."""
    first_step: StepColumn | None = None
    """Column of ``steps`` whose value at a replicate's first step predicts, instead of
    `predictor`."""
    outcome: ReplicateColumn = "final_accuracy"
    """Column of ``replicates`` that is predicted."""
    start: ReplicateColumn = "initial_accuracy"
    """Column that is subtracted from it: its value before training."""
    threshold: float = Field(default=0.5, gt=0, lt=1)
    """Share of what the reference arm acquires on average from which on the trait counts as
    acquired."""

    def endings(self) -> tuple[str, ...]:
        """The three statistics."""
        return PARTS

    def about(self) -> dict[str, str]:
        """Column."""
        return {"column": self.first_step or self.predictor, "unit": "1"}

    def step_columns(self) -> tuple[str, ...]:
        """The column of the first step."""
        return (self.first_step,) if self.first_step else ()


def _predictive_validity(
    record: Record, declared: PredictiveValidity, settings: Settings
) -> Sequence[Result]:
    complete, predictor, name = record.complete, declared.predictor, declared.predictor
    if declared.first_step:
        predictor, name = FIRST, f"{declared.first_step} of the first step"
        first = record.steps.groupby(["seed", "arm"])[declared.first_step].first()
        complete = complete.join(first.rename(FIRST), on=["seed", "arm"])
    columns = [predictor, declared.outcome, declared.start]
    validate_columns(complete, columns)
    rows = complete.dropna(subset=columns)
    outcome = with_unit("replicates", declared.outcome)
    estimands = {
        part: declared.estimand(outcome, f"{name} over replicates", part, part=part)
        for part in PARTS
    }
    n_seeds = rows["seed"].nunique()
    if refusal := too_few(estimands[SPEARMAN], n_seeds):
        return [NotEstimable(one, refusal.reason) for one in estimands.values()]
    x = rows[predictor].to_numpy(float)
    acquired = rows[declared.outcome].to_numpy(float) - rows[declared.start].to_numpy(float)
    of_reference = acquired[(rows["arm"] == record.reference).to_numpy()]
    limit = declared.threshold * of_reference.mean() if len(of_reference) else np.nan
    targets = {
        SPEARMAN: (x, acquired),
        WITHIN: (_centred(x, rows["arm"]), _centred(acquired, rows["arm"])),
        AUROC: (x, acquired >= limit),
    }
    reasons = {
        SPEARMAN: "the predictor or the outcome is constant over all replicates",
        WITHIN: "the predictor or the outcome is constant within every arm",
        AUROC: f"all replicates, or none, acquire {100 * declared.threshold:g} % of what the "
        f"reference arm does",
    }
    found: list[Result] = []
    for part, (one, other) in targets.items():
        ranking = ranked_by_cluster(
            one,
            other,
            rows["seed"].to_numpy(),
            binary=part == AUROC,
            n_boot=settings.n_boot,
            rng=np.random.default_rng(settings.rng),
        )
        if not np.isfinite(ranking.value) or len(ranking.draws) < ENOUGH_DRAWS * settings.n_boot:
            found.append(NotEstimable(estimands[part], reasons[part]))
            continue
        low, high = ranking.interval(settings.level)
        found.append(
            Estimate(
                estimand=estimands[part],
                value=ranking.value,
                se=ranking.se,
                low=low,
                high=high,
                level=settings.level,
                df=None,
                p_value=None,
                method="percentiles, seeds resampled",
                n_seeds=n_seeds,
                warnings=_warnings(n_seeds),
                diagnostics={
                    "n_replicates": len(rows),
                    "acquired": int((acquired >= limit).sum()),
                    "limit": float(limit),
                    "null": 0.5 if part == AUROC else 0.0,
                },
                draws=ranking.draws,
            )
        )
    return found


def _warnings(n_seeds: int) -> tuple[str, ...]:
    if n_seeds >= FEW_SEEDS:
        return ()
    return (f"only {n_seeds} seeds: percentiles of so few clusters are too narrow",)


def _centred(values: np.ndarray, arms: pd.Series) -> np.ndarray:
    return values - pd.Series(values, arms.index).groupby(arms).transform("mean").to_numpy()


SCREEN_METHODS: Mapping[str, Method] = {
    "predictive_validity": Method(PredictiveValidity, _predictive_validity)
}
