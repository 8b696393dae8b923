"""Two runs side by side, and what the comparison of them found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sublim_causal.analysis.estimates.types import Estimate, Result
from sublim_causal.analysis.plan.file import Plan
from sublim_causal.analysis.plan.generated.comparison import MARGINS, comparison_plan, join_runs
from sublim_causal.analysis.plan.outcomes import for_outcome
from sublim_causal.analysis.plan.results.results import Results
from sublim_causal.analysis.plan.run import run_plan
from sublim_causal.report.material import Material
from sublim_causal.report.wording import scale_of, unit_of
from sublim_causal.store.outcome import Outcome

FREE = "precision"
"""Runs whose definitions differ in this alone share every random draw, seed by seed."""


@dataclass(frozen=True)
class Sides:
    """Two runs, analysed by one plan.

    Attributes
    ----------
    first, second : Material
        Each run by itself.
    """

    first: Material
    second: Material

    @cached_property
    def names(self) -> tuple[str, str]:
        """Different names for the two runs."""
        return apart(self.first.run.resolve().name, self.second.run.resolve().name)

    @property
    def both(self) -> tuple[Material, Material]:
        """The first and the second."""
        return self.first, self.second

    @cached_property
    def shares_draws(self) -> bool:
        """Whether seeds mean the same draws in both: one definition but for `FREE`."""
        one, other = (_definition(side) for side in self.both)
        return one is not None and one == other

    @cached_property
    def arms(self) -> tuple[str, ...]:
        """Arms that both completed."""
        return tuple(arm for arm in self.first.shown_arms if arm in self.second.shown_arms)

    @cached_property
    def alike(self) -> tuple[str, ...]:
        """Arms that both define alike."""
        return tuple(arm for arm in self.arms if self._is_one(arm))

    def _is_one(self, arm: str) -> bool:
        """Whether both runs define `arm`, and the arms that it follows, alike."""

        def definition(side: Material) -> list[Any]:
            arms = side.manifest.get("arms", {})
            stages = side.design.record.stages(arm)
            followed = [one["target"] for one in stages if "target" in one]
            return [arms.get(name) for name in (arm, *followed)]

        return definition(self.first) == definition(self.second)

    @cached_property
    def n_common(self) -> int:
        """Seeds that both completed."""
        (found,) = self._by("common_seeds")
        return int(found.value or 0)

    @cached_property
    def plan(self) -> Plan:
        """What the comparison estimates."""
        found = comparison_plan(
            self.first.plan, self.alike, self.first.reference, paired=self.shares_draws
        )
        return for_outcome(found, self.first.outcome)

    @cached_property
    def results(self) -> Results:
        """What the comparison found."""
        first, second = (side.design.record for side in self.both)
        joined = join_runs(first, second, self.names, paired=self.shares_draws)
        return run_plan(joined, self.plan)

    @cached_property
    def differences(self) -> tuple[Result, ...]:
        """Differences of each column and arm, the first minus the second."""
        return self._by("run_difference")

    @cached_property
    def agreements(self) -> tuple[Result, ...]:
        """Equivalence tests of runs that share their draws; else empty."""
        return self._by("run_equivalence")

    def _by(self, method: str) -> tuple[Result, ...]:
        chosen = {one.name for one in self.plan.estimands if one.method == method}
        return tuple(one for one in self.results.results if one.estimand.declared in chosen)


def apart(one: str, other: str) -> tuple[str, str]:
    """Return different names for two runs that may be called the same."""
    return (one, other) if one != other else (f"{one} (first)", f"{other} (second)")


def _definition(side: Material) -> Mapping[str, Any] | None:
    found = side.manifest.get("definition")
    return found and {key: value for key, value in found.items() if key != FREE}


def equal(result: Result) -> bool:
    """Return whether the runs are shown to be equal in this figure, within its margin."""
    return isinstance(result, Estimate) and bool(result.diagnostics["equivalent"])


def margin_of(test: Result, outcome: Outcome) -> str:
    """Write the margin of an equivalence test in the unit of its estimate."""
    margin = MARGINS.get(test.estimand.column) or outcome.margin or 0.0
    value = f"{scale_of(test) * margin:g}"
    return f"{value}{unit_of(test, value)}"
