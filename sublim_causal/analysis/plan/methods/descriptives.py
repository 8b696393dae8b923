"""What a plan can ask to be counted: descriptions of a run, which have no interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import nan
from typing import Any

from sublim_causal.analysis.estimates.panel import validate_columns
from sublim_causal.analysis.estimates.settings import Settings
from sublim_causal.analysis.estimates.types import Estimand, Estimate, NotEstimable, Result
from sublim_causal.analysis.plan.declaration import (
    Declared,
    OfArm,
    ReplicateColumn,
    column_unit,
    with_unit,
)
from sublim_causal.analysis.plan.method import Method, absent
from sublim_causal.analysis.plan.record import Record

STATES = ("complete", "unreached", "diverged", "failed")
"""Statuses of a replicate."""


class ReplicateCounts(OfArm):
    """Number of replicates of an arm of each status."""

    def about(self) -> dict[str, str]:
        """Arm and unit."""
        return {**super().about(), "unit": "replicates"}

    def endings(self) -> tuple[str, ...] | None:
        """The statuses; followed by the arm where each is asked for."""
        return None if self.each else STATES


class SeedRange(OfArm):
    """Smallest and largest value of a run-level column over the complete seeds of an arm."""

    outcome: ReplicateColumn
    """Column of ``replicates``."""
    published: float | None = None
    """A figure, in the outcome's unit; where it is given, the seeds below it are counted."""

    @property
    def parts(self) -> tuple[str, ...]:
        """Endings of the results of one arm."""
        return ("smallest", "largest", *(["below"] if self.published is not None else []))

    def about(self) -> dict[str, str]:
        """Arm, column and unit."""
        unit = column_unit("replicates", self.outcome)
        return {**super().about(), "column": self.outcome, "unit": unit}

    def endings(self) -> tuple[str, ...] | None:
        """The parts; followed by the arm where each is asked for."""
        return None if self.each else self.parts


class RunTotals(Declared):
    """Seeds with a complete replicate, steps of a student, and the time that training took."""

    def step_columns(self) -> tuple[str, ...]:
        """The step."""
        return ("step",)

    def endings(self) -> tuple[str, ...]:
        """The quantities."""
        return ("complete_seeds", "steps", "training", "median_training")


def described(
    estimand: Estimand,
    value: float,
    method: str,
    *,
    n_seeds: int,
    level: float,
    diagnostics: Mapping[str, Any] | None = None,
) -> Estimate:
    """Return a number that describes the run: without standard error, interval and p-value."""
    return Estimate(
        estimand=estimand,
        value=float(value),
        se=nan,
        low=nan,
        high=nan,
        level=level,
        df=None,
        p_value=None,
        method=method,
        n_seeds=n_seeds,
        diagnostics=dict(diagnostics or {}),
    )


def _one(declared: OfArm, outcome: str, arm: str, part: str, **own: str) -> Estimand:
    ending = f"{part}_{arm}" if declared.each else part
    return declared.estimand(outcome, f"arm {arm}", ending, arm=arm, part=part, **own)


def _replicate_counts(
    record: Record, declared: ReplicateCounts, settings: Settings
) -> Sequence[Result]:
    results: list[Result] = []
    for arm in declared.chosen(record.arms):
        if missing := absent(record, declared.estimand("replicates", f"arm {arm}"), arm):
            return [missing]
        rows = record.replicates[record.replicates["arm"] == arm]
        for state in STATES:
            found = rows[rows["status"] == state]
            seeds = {str(why): sorted(group) for why, group in found.groupby("reason")["seed"]}
            results.append(
                described(
                    _one(declared, "replicates", arm, state),
                    len(found),
                    "count",
                    n_seeds=rows["seed"].nunique(),
                    level=settings.level,
                    diagnostics={} if state == "complete" else {"seeds": seeds},
                )
            )
    return results


def _seed_range(record: Record, declared: SeedRange, settings: Settings) -> Sequence[Result]:
    outcome, complete = with_unit("replicates", declared.outcome), record.complete
    validate_columns(complete, [declared.outcome])
    results: list[Result] = []
    for arm in declared.chosen(record.arms):
        whole = declared.estimand(outcome, f"arm {arm}", arm if declared.each else "", arm=arm)
        values = complete.loc[complete["arm"] == arm, declared.outcome].dropna()
        if missing := absent(record, whole, arm) or none_complete(whole, len(values)):
            results.append(missing)
            continue
        common: dict[str, Any] = {"n_seeds": len(values), "level": settings.level}
        for part, value in (("smallest", values.min()), ("largest", values.max())):
            one = _one(declared, outcome, arm, part)
            results.append(described(one, value, f"{part} of the seeds", **common))
        if declared.published is not None:
            one = _one(declared, outcome, arm, "below", unit="seeds")
            count = int((values < declared.published).sum())
            method = f"count of seeds below {declared.published:g}"
            results.append(described(one, count, method, **common))
    return results


def _run_totals(record: Record, declared: RunTotals, settings: Settings) -> Sequence[Result]:
    replicates, complete = record.replicates, record.complete
    validate_columns(replicates, ["seconds"])
    seeds = int(complete["seed"].nunique())
    if missing := none_complete(declared.estimand("replicates"), seeds):
        return [missing]
    n_steps = int(record.steps["step"].max()) + 1 if len(record.steps) else 0
    found = {
        "complete_seeds": (seeds, "seeds", "count"),
        "steps": (n_steps, "steps", "number of the last recorded step"),
        "training": (replicates["seconds"].sum(), "s", "sum over all replicates"),
        "median_training": (complete["seconds"].median(), "s", "median of complete replicates"),
    }
    return [
        described(
            declared.estimand(f"{part} ({unit})", "", part, part=part, unit=unit),
            value,
            method,
            n_seeds=record.n_seeds,
            level=settings.level,
        )
        for part, (value, unit, method) in found.items()
    ]


def none_complete(estimand: Estimand, n_seeds: int) -> NotEstimable | None:
    """Return a refusal where there are no complete seeds; else None."""
    return None if n_seeds else NotEstimable(estimand, "no complete seeds")


DESCRIPTIVE_METHODS: Mapping[str, Method] = {
    "replicate_counts": Method(ReplicateCounts, _replicate_counts),
    "seed_range": Method(SeedRange, _seed_range),
    "run_totals": Method(RunTotals, _run_totals),
}
