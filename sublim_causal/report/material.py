"""What a report is made from: the results of its plans, and what pictures draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from sublim_causal.analysis.estimates.types import MIN_SEEDS, Estimand, Estimate, Result, TestResult
from sublim_causal.analysis.plan.declaration import Declared, column_unit
from sublim_causal.analysis.plan.file import Plan
from sublim_causal.analysis.plan.generated.design import Design
from sublim_causal.analysis.plan.methods.descriptives import STATES
from sublim_causal.analysis.plan.results.curves import Curve
from sublim_causal.analysis.plan.results.results import Results
from sublim_causal.analysis.plan.run import Analysis, analyse_for_report
from sublim_causal.analysis.plan.stability.verdicts import with_alternatives
from sublim_causal.report.wording import counted
from sublim_causal.store.manifest import read_manifest
from sublim_causal.store.outcome import Outcome


@dataclass(frozen=True)
class Headline:
    """What the answer says of one arm beside the plan's contrast.

    Attributes
    ----------
    removed : Estimate, NotEstimable or None
        Share of what the reference acquires that the arm prevents.
    residue : Estimate, NotEstimable or None
        Accuracy that the arm acquires in training.
    alignment : Estimate, NotEstimable or None
        Mean alignment of its updates.
    """

    removed: Result | None
    residue: Result | None
    alignment: Result | None


@dataclass(frozen=True)
class Material:
    """Everything the sections read.

    Attributes
    ----------
    run : Path
        Run directory.
    analysis : Analysis
        Results of the plan, and of what the report adds.
    manifest : mapping
        As stored with the run.
    asked : str
        Path or built-in name by which the plan was asked for; empty where it was given itself.
    """

    run: Path
    analysis: Analysis
    manifest: Mapping[str, Any]
    asked: str = ""

    @property
    def plan(self) -> Plan:
        """What was declared."""
        return self.design.plan

    @property
    def results(self) -> Results:
        """What came out."""
        return self.analysis.results

    @property
    def design(self) -> Design:
        """The arms of the run, as the plan compares them."""
        return self.analysis.design

    @property
    def arms(self) -> tuple[str, ...]:
        """Arms that have a replicate, in the study's order."""
        return self.results.arms

    @property
    def shown_arms(self) -> tuple[str, ...]:
        """Arms that have a complete replicate, in the study's order."""
        return self.design.arms

    @property
    def reference(self) -> str:
        """Arm that the others are compared with."""
        return self.design.reference

    @property
    def level(self) -> float:
        """Confidence level of the plan."""
        return self.results.level

    def total(self, part: str) -> float:
        """Return a quantity of the whole run: complete seeds, steps, seconds of training."""
        found = self.find("run_totals", part=part)
        assert isinstance(found, Estimate)  # the run has a complete replicate
        return found.value

    @property
    def n_seeds(self) -> int:
        """Seeds with a complete replicate."""
        return int(self.total("complete_seeds"))

    @property
    def n_steps(self) -> int:
        """Steps of a student."""
        return int(self.total("steps"))

    def count(self, status: str, *arms: str) -> int:
        """Return how many replicates of `arms`, by default of all, have a status."""
        return sum(
            int(one.value)
            for one in self.either("replicate_counts")
            if isinstance(one, Estimate)
            and one.estimand.part == status
            and one.estimand.arm in (arms or self.arms)
        )

    @property
    def n_replicates(self) -> int:
        """Replicates that were run, whatever became of them."""
        return sum(map(self.count, STATES))

    def bands(self, cut: str = "") -> str:
        """Return what a caption says of its bands, and where they are `cut`; or that none are."""
        if self.n_seeds < MIN_SEEDS:
            return f"No bands: {counted(self.n_seeds, 'seed is', 'seeds are')} too few."
        limits = f", clipped at {cut}" * bool(cut)
        fewest = min(self.count("complete", arm) for arm in self.shown_arms)
        none = f"; none for fewer than {MIN_SEEDS} seeds" * bool(fewest < MIN_SEEDS)
        return f"Bands: pointwise {100 * self.level:g} % t intervals over seeds{limits}{none}."

    def find(self, method: str, *, arm: str = "", part: str = "", **fields: Any) -> Result | None:
        """Return the first result of the estimand declared with `method` and `fields`.

        Parameters
        ----------
        method : str
            As in a plan.
        arm : str
            Arm of the result; of a contrast, against the reference.
        part : str
            Part of the result, where the estimand has several.
        **fields
            Values the declaration must have: ``outcome="gain"``.

        Returns
        -------
        Estimate, NotEstimable or None
            What the plan declares, before what the report adds.
        """
        for result in (*self.declared(method, **fields), *self.added(method, **fields)):
            if self._is_of(result.estimand, arm, part):
                return result
        return None

    def _is_of(self, estimand: Estimand, arm: str, part: str) -> bool:
        """Whether `estimand` is that of `arm` and `part`; one that names none is that of each."""
        return (
            estimand.arm in ("", arm)
            and estimand.reference in ("", self.reference)
            and (not part or estimand.part in ("", part))
        )

    def declared(self, method: str, **fields: Any) -> tuple[Result, ...]:
        """Return the results of every estimand of the plan with `method` and `fields`."""
        return self._of(self.results, self._declared, method, fields)

    def added(self, method: str, **fields: Any) -> tuple[Result, ...]:
        """Return the same of what the report adds."""
        return self._of(self.analysis.added, self._added, method, fields)

    def either(self, method: str, **fields: Any) -> tuple[Result, ...]:
        """Return the same of both; no quantity is in both."""
        return (*self.declared(method, **fields), *self.added(method, **fields))

    def _of(
        self,
        results: Results,
        declarations: Mapping[str, Declared],
        method: str,
        fields: Mapping[str, Any],
    ) -> tuple[Result, ...]:
        return tuple(
            result
            for result in results.results
            if (one := declarations[result.estimand.declared]).method == method
            and all(getattr(one, name, None) == value for name, value in fields.items())
        )

    def declaration(self, result: Result) -> Declared:
        """Return what the plan, or the report's own, declares for one of its results."""
        return {**self._declared, **self._added}[result.estimand.declared]

    @cached_property
    def _declared(self) -> Mapping[str, Declared]:
        return {one.name: one for one in self.design.estimands}

    @cached_property
    def _added(self) -> Mapping[str, Declared]:
        return {one.name: one for one in self.analysis.added_plan.estimands}

    def source(self, results: Sequence[Result]) -> str:
        """Return whether `results` are declared in the plan, as a sentence of a caption."""
        n_declared = sum(one.estimand.declared in self._declared for one in results)
        if n_declared == len(results):
            return "Declared in the plan."
        return (
            "Partly declared in the plan, partly added." if n_declared else "Added by the report."
        )

    @property
    def curves(self) -> Mapping[str, Mapping[str, Curve]]:
        """Curves of the step columns that pictures draw, by column and arm."""
        return self.analysis.curves.steps

    @property
    def evaluations(self) -> Mapping[str, Curve]:
        """Test accuracy over steps, by arm."""
        return self.analysis.curves.evaluations

    def without(self, *columns: str) -> tuple[str, ...]:
        """Return the arms that have no value in any of `columns` of ``steps``."""
        return tuple(
            arm
            for arm in self.shown_arms
            if not any(self.curves[column][arm].is_measured for column in columns)
        )

    @property
    def is_own(self) -> bool:
        """Whether it is a run of the user's own, without a study."""
        return self.design.record.own

    @property
    def is_paired(self) -> bool:
        """Whether arms share the draws of their seeds."""
        return self.design.record.paired

    @cached_property
    def outcome(self) -> Outcome:
        """By what students are judged."""
        return self.design.record.outcome

    @cached_property
    def scale(self) -> float:
        """By what the outcome is multiplied in pictures: 100 for a fraction."""
        unit = column_unit("replicates", self.outcome.name)
        return 100.0 if unit == "fraction" else 1.0

    @cached_property
    def unit(self) -> str:
        """Unit of the outcome in pictures."""
        unit = column_unit("replicates", self.outcome.name)
        return "%" if unit == "fraction" else unit

    @cached_property
    def points(self) -> str:
        """Unit of a difference of outcomes in pictures."""
        return "percentage points" if self.unit == "%" else self.unit

    @cached_property
    def equal_slopes(self) -> Mapping[tuple[str, str], TestResult]:
        """Tests that the slopes at all levels are one, by the plan's outcomes and predictors."""
        found: dict[tuple[str, str], TestResult] = {}
        for method, fields in (("step_slope", {"split": "levels"}), ("mundlak", {})):
            for result in self.either(method, **fields):
                declared: Any = self.declaration(result)
                pair = (declared.outcome, declared.predictor)
                if pair not in found or found[pair].p_value is None:
                    found[pair] = _equality(result)
        return found

    @cached_property
    def headlines(self) -> Mapping[str, Headline]:
        """What the answer says of each arm that removes or trains away alignment."""
        return {
            arm: Headline(
                self.find("removed_share", arm=arm),
                self.find("arm_mean", arm=arm, outcome=self.outcome.name, start=self.outcome.start),
                self.find("arm_mean", arm=arm, outcome="mean_cos_update", start=None),
            )
            for arm in (*self.design.main_projections(), *self.design.interventions("liminal"))
        }

    @cached_property
    def cross_worlds(self) -> tuple[Mapping[str, Result], ...]:
        """Parts of each effect that was split by yoked runs."""
        found: dict[str, dict[str, Result]] = {}
        for one in self.either("cross_world"):
            if one.estimand.part:
                found.setdefault(one.estimand.declared, {})[one.estimand.part] = one
        return tuple(found.values())

    @property
    def alignment_and_outcome(self) -> dict[str, str]:
        """Fields of a mediation of the outcome by mean alignment."""
        return {"outcome": self.outcome.name, "mediator": "mean_cos_update"}

    @cached_property
    def mediations(self) -> Mapping[str, Mapping[str, Result]]:
        """Parts of the effect of each arm against the reference, split by regression."""
        found: dict[str, dict[str, Result]] = {}
        for one in self.either("mediation", interaction=False, **self.alignment_and_outcome):
            if one.estimand.part and one.estimand.reference == self.reference:
                found.setdefault(one.estimand.arm, {})[one.estimand.part] = one
        return {arm: found[arm] for arm in self.shown_arms if arm in found}


def _equality(result: Result) -> TestResult:
    if not isinstance(result, Estimate):
        return TestResult("", None, None, reason=result.reason)
    test = result.diagnostics["equality"]
    return TestResult(**{**test, "df": tuple(test["df"])})


def read_material(run: Path, plan: Plan | str | Path, *, in_full: bool = True) -> Material:
    """Estimate what the sections read; see `analyse_for_report`."""
    asked = "" if isinstance(plan, Plan) else str(plan)
    analysis = analyse_for_report(run, plan, in_full=in_full)
    if in_full:
        design = analysis.design
        judged = with_alternatives(design.record, design.plan, analysis.results)
        analysis = replace(analysis, results=judged)
    return Material(run, analysis, read_manifest(run), asked)


def values(result: Result | None) -> Estimate | None:
    """Return `result` if it is an estimate."""
    return result if isinstance(result, Estimate) else None
