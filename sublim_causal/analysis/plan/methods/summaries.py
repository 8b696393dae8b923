"""What a plan can ask of the steps of a run: their mean by seed, or the share above 0."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import pandas as pd

from sublim_causal.analysis.estimates.intervals import mean_interval
from sublim_causal.analysis.estimates.settings import Settings
from sublim_causal.analysis.estimates.shares import share_interval
from sublim_causal.analysis.estimates.types import (
    FRACTION,
    Estimand,
    Estimate,
    Result,
    difference_unit,
)
from sublim_causal.analysis.plan.declaration import OfArm, StepColumn, WithInterval, column_unit
from sublim_causal.analysis.plan.method import Method, absent
from sublim_causal.analysis.plan.record import Record
from sublim_causal.analysis.steps.within_runs import finite_columns
from sublim_causal.errors import DataError

DROP = "early - late"
"""The window that is a difference of two."""


class SeedSummary(OfArm, WithInterval):
    """Mean over seeds of a summary of each run's steps.

    The null of a share is one half, that of a mean or a difference 0.
    """

    outcome: StepColumn
    """Column of ``steps``."""
    summary: Literal["mean", "share_positive"]
    """Mean over the steps, or share of steps above 0."""
    window: Literal["all", "early", "late", "early - late"] = "all"
    """`early` is the first epoch, `late` all later ones."""

    def about(self) -> dict[str, str]:
        """Column, unit and window."""
        is_share = self.summary == "share_positive"
        unit = FRACTION if is_share else column_unit("steps", self.outcome)
        if self.window == DROP:
            unit = difference_unit(unit)
        return {**super().about(), "column": self.outcome, "unit": unit, "part": self.window}

    def step_columns(self) -> tuple[str, ...]:
        """Outcome and epoch."""
        return (self.outcome, "epoch")


def of_each_arm(
    record: Record,
    declared: OfArm,
    outcome: str,
    estimate: Callable[[Estimand, pd.DataFrame], Result],
) -> list[Result]:
    results: list[Result] = []
    for arm in declared.chosen(record.arms):
        estimand = declared.estimand(outcome, f"arm {arm}", arm if declared.each else "", arm=arm)
        missing = absent(record, estimand, arm)
        results.append(missing or estimate(estimand, record.steps[record.steps["arm"] == arm]))
    return results


def _seed_summary(record: Record, declared: SeedSummary, settings: Settings) -> Sequence[Result]:
    # A gradient that is unrelated to the trait is aligned in half of the steps.
    share = declared.summary == "share_positive" and declared.window != DROP
    null = 0.5 if share else 0.0

    def estimate(estimand: Estimand, rows: pd.DataFrame) -> Result:
        values = per_seed_summary(rows, declared.outcome, declared.summary, declared.window)
        found = (share_interval if share else mean_interval)(
            values, estimand=estimand, null=null, diagnostics={"null": null}, settings=settings
        )
        if share and isinstance(found, Estimate):
            return replace(found, low=max(found.low, 0.0), high=min(found.high, 1.0))
        return found

    return of_each_arm(
        record, declared, f"{declared.summary} of {declared.outcome}, {declared.window}", estimate
    )


def per_seed_summary(steps: pd.DataFrame, column: str, summary: str, window: str) -> pd.Series:
    """Summarise one arm's `column` by seed over a window of epochs.

    Parameters
    ----------
    steps : DataFrame
        seed, epoch and `column` of one arm.
    summary : {"mean", "share_positive"}
        Mean, or share of steps above 0.
    window : {"all", "early", "late", "early - late"}
        Epoch 0 is early, the others are late; the difference is taken by seed.

    Returns
    -------
    Series indexed by seed
        Seeds without a step in the window are left out.

    Raises
    ------
    DataError
        If a value is missing or infinite.
    """
    values = finite_columns(steps, [column])[:, 0]
    values = (values > 0).astype(float) if summary == "share_positive" else values
    frame = pd.DataFrame(
        {"seed": steps["seed"].to_numpy(), "early": steps["epoch"].to_numpy() == 0, "x": values}
    )
    if window != "all" and steps["epoch"].isna().any():
        raise DataError(f"{int(steps['epoch'].isna().sum())} of {len(steps)} steps have no epoch")
    if window == "all":
        return frame.groupby("seed")["x"].mean()
    means = frame.groupby(["seed", "early"])["x"].mean().unstack()
    means = means.reindex(columns=[True, False], fill_value=np.nan)
    parts = {"early": means[True], "late": means[False], "early - late": means[True] - means[False]}
    return parts[window].dropna()


SUMMARY_METHODS: Mapping[str, Method] = {"seed_summary": Method(SeedSummary, _seed_summary)}
