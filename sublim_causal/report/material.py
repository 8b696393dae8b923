"""What a report is made from: results, replicates, and curves aggregated over seeds.

Steps are read one arm and a few columns at a time, so that memory stays that of one arm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from sublim_causal.analysis.causal.crossworld import CrossWorld
from sublim_causal.analysis.causal.mediation import Mediation
from sublim_causal.analysis.estimates.types import (
    MIN_SEEDS,
    Estimand,
    Estimate,
    Result,
    TestResult,
)
from sublim_causal.analysis.plan.declaration import Contrasted, Declared
from sublim_causal.analysis.plan.file import Plan
from sublim_causal.analysis.plan.record import complete_steps, same_setting
from sublim_causal.analysis.plan.results import Results
from sublim_causal.report import supplement
from sublim_causal.report.ranges import ANY, Range, range_of
from sublim_causal.report.supplement import Headline, Ledgers
from sublim_causal.report.wording import counted
from sublim_causal.store.manifest import read_manifest
from sublim_causal.store.tables import read_table

DRAWN_SEEDS = 60
"""At most so many single seeds are drawn in a picture."""
Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Curve:
    """A column of one arm over steps.

    Attributes
    ----------
    steps : ndarray of shape (T,)
        Steps, rising.
    seeds : ndarray of shape (R, T)
        One row a complete seed; NaN where a step is missing.
    level : float
        Confidence level of the band.
    bounds : Range
        What the column can be; the band is cut there.
    """

    steps: NDArray[np.int64]
    seeds: Floats
    level: float
    bounds: Range = ANY

    @cached_property
    def mean(self) -> Floats:
        """Mean over seeds, shape (T,); NaN where no seed has a value."""
        return _means(np.nansum(self.seeds, axis=0), np.isfinite(self.seeds).sum(axis=0))

    @property
    def is_measured(self) -> bool:
        """Whether any seed has a value at any step."""
        return bool(np.isfinite(self.seeds).any())

    @cached_property
    def half_width(self) -> Floats:
        """Half the pointwise t interval, shape (T,); NaN where fewer than `MIN_SEEDS` are."""
        n = np.isfinite(self.seeds).sum(axis=0)
        half, enough = np.full(len(self.steps), np.nan), n >= MIN_SEEDS
        sd = np.nanstd(self.seeds[:, enough], axis=0, ddof=1)
        n_ = n[enough]
        half[enough] = stats.t.isf((1 - self.level) / 2, n_ - 1) * sd / np.sqrt(n_)
        return half

    @property
    def low(self) -> Floats:
        """Lower end of the band, shape (T,)."""
        return np.maximum(self.mean - self.half_width, self.bounds.low)

    @property
    def high(self) -> Floats:
        """Upper end of the band, shape (T,)."""
        return np.minimum(self.mean + self.half_width, self.bounds.high)

    @property
    def drawn(self) -> Floats:
        """At most `DRAWN_SEEDS` seeds, evenly spaced, shape (S, T)."""
        n = len(self.seeds)
        return self.seeds[np.unique(np.linspace(0, n - 1, min(n, DRAWN_SEEDS)).astype(int))]

    def scaled(self, factor: float) -> Curve:
        """Multiply by a positive `factor`."""
        return Curve(self.steps, factor * self.seeds, self.level, self.bounds.scaled(factor))

    def binned(self, width: int) -> Curve:
        """Average what is there over bins of `width` steps; a step is that of the bin's middle."""
        starts = np.arange(0, len(self.steps), width)
        sums = np.add.reduceat(np.nan_to_num(self.seeds), starts, axis=1)
        counts = np.add.reduceat(np.isfinite(self.seeds).astype(int), starts, axis=1)
        middles = np.add.reduceat(self.steps, starts) // np.diff([*starts, len(self.steps)])
        return Curve(middles, _means(sums, counts), self.level, self.bounds)


def _means(sums: Floats, counts: NDArray[np.integer[Any]]) -> Floats:
    """Divide; NaN where there is nothing to divide by."""
    return np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)


@dataclass(frozen=True)
class Material:
    """Everything the sections read.

    Attributes
    ----------
    run : Path
        Run directory.
    plan : Plan
        What was declared.
    results : Results
        What came out.
    manifest : mapping
        As stored with the run.
    replicates : DataFrame
        One row a seed and arm, also of those that are not complete.
    asked : str
        Path or built-in name by which the plan was asked for; empty where it was given itself.
    """

    run: Path
    plan: Plan
    results: Results
    manifest: Mapping[str, Any]
    replicates: pd.DataFrame
    asked: str = ""

    @property
    def arms(self) -> tuple[str, ...]:
        """Arms that have a replicate, in the study's order."""
        return self.results.arms

    @property
    def level(self) -> float:
        """Confidence level of the plan."""
        return self.results.level

    @cached_property
    def complete(self) -> pd.DataFrame:
        """Replicates that are complete."""
        return self.replicates[self.replicates["status"] == "complete"]

    @cached_property
    def shown_arms(self) -> tuple[str, ...]:
        """Arms that have a complete replicate, in the study's order."""
        present = set(self.complete["arm"])
        return tuple(arm for arm in self.arms if arm in present)

    @cached_property
    def reference(self) -> str:
        """Arm that the others are compared with.

        The first that a contrast of the plan subtracts and the run has; else the first whose
        intervention is ``baseline``; else the study's first.
        """
        subtracted = [one.reference for one in self.plan.estimands if isinstance(one, Contrasted)]
        plain = [arm for arm in self.arms if self.options(arm)["intervention"] == "baseline"]
        return next(arm for arm in (*subtracted, *plain, *self.arms) if arm in self.arms)

    @property
    def n_seeds(self) -> int:
        """Seeds with a complete replicate."""
        return int(self.complete["seed"].nunique())

    def bands(self, cut: str = "") -> str:
        """Return what a caption says of its bands, and where they are `cut`; or that none are."""
        if self.n_seeds < MIN_SEEDS:
            return f"No bands: {counted(self.n_seeds, 'seed is', 'seeds are')} too few."
        limits = f", cut at {cut}" * bool(cut)
        fewest = self.complete.groupby("arm")["seed"].nunique().min()
        none = f"; none for fewer than {MIN_SEEDS} seeds" * bool(fewest < MIN_SEEDS)
        return f"Bands: pointwise {100 * self.level:g} % t intervals over seeds{limits}{none}."

    def interventions(self, kind: str) -> tuple[str, ...]:
        """Return the arms whose intervention is `kind`, or that are called so where none says."""
        return tuple(arm for arm in self.shown_arms if self.options(arm)["intervention"] == kind)

    def options(self, arm: str) -> dict[str, Any]:
        """Return intervention and options of `arm`, as resolved when it ran."""
        study = self.manifest["study"].get("arms", {})
        resolved = self.manifest.get("arms", {})
        return {"intervention": arm, **study.get(arm, {}), **resolved.get(arm, {})}

    def stages(self, arm: str) -> list[dict[str, Any]]:
        """Return the options of each intervention that `arm` ran in turn, defaults filled in.

        They stand in the manifest as ``0.strength``, ``1.target``; a run that resolved nothing has
        none.
        """
        found: dict[str, dict[str, Any]] = {}
        for name, value in self.manifest.get("arms", {}).get(arm, {}).items():
            stage, _, option = name.partition(".")
            if stage.isdigit():
                found.setdefault(stage, {}).update({option: value} if option else {})
        return [*found.values()]

    def main_projections(self) -> tuple[str, ...]:
        """Return, for each space of projection, the arm that is nearest the paper's.

        That is a projection in all layers, of positive alignment, with a strength near 1; the
        reference, and arms whose student, channel, targets or inputs are not its, are left out.
        """
        found: dict[str, str] = {}
        for arm in filter(self.is_comparable, self.interventions("projection")):
            if arm == self.reference:
                continue
            space = self.space(arm)
            if space not in found or self._off(arm) < self._off(found[space]):
                found[space] = arm
        return tuple(found.values())

    def space(self, arm: str) -> str:
        """Return the space in which a projection `arm` removes alignment."""
        return str(self.options(arm).get("space", "gradient"))

    def is_comparable(self, arm: str) -> bool:
        """Return whether `arm` differs from the reference in its intervention alone."""
        return self.same_setting(arm, self.reference)

    def same_setting(self, arm: str, other: str) -> bool:
        """Return whether two arms have one student, channel, targets and inputs."""
        return same_setting(self.options(arm), self.options(other))

    def _off(self, arm: str) -> tuple[bool, bool, float]:
        """How far from the paper's projection `arm` is, as something to sort by."""
        options = self.options(arm)
        always = options.get("when", "positive") != "positive"
        return bool(options.get("layers")), always, abs(float(options.get("strength", 1.0)) - 1.0)

    def find(self, method: str, *, arm: str = "", part: str = "", **fields: Any) -> Result | None:
        """Return the first result of the estimand declared with `method` and `fields`.

        Parameters
        ----------
        method : str
            As in the plan.
        arm : str
            Arm of the result; of a contrast, against the reference.
        part : str
            Part of the result, where the estimand has several.
        **fields
            Values the declaration must have: ``outcome="gain"``.
        """
        for result in self.declared(method, **fields):
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
        """Return the results of every estimand declared with `method` and `fields`."""
        return tuple(
            result
            for result in self.results.results
            if (one := self.declaration(result)) is not None
            and one.method == method
            and all(getattr(one, name, None) == value for name, value in fields.items())
        )

    def declaration(self, result: Result) -> Declared | None:
        """Return what the plan declared for `result`."""
        return self._by_name.get(result.estimand.declared)

    @cached_property
    def _by_name(self) -> Mapping[str, Declared]:
        return {one.name: one for one in self.plan.estimands}

    def steps(self, columns: Sequence[str]) -> pd.DataFrame:
        """Read seed, arm, step and `columns` of every complete replicate."""
        names = dict.fromkeys(["seed", "arm", "step", *columns])
        return complete_steps(self.replicates, read_table(self.run, "steps", columns=[*names]))

    @cached_property
    def curves(self) -> Mapping[str, Mapping[str, Curve]]:
        """Curves of the step columns that pictures draw, by column and arm."""
        found: dict[str, dict[str, Curve]] = {name: {} for name in CURVES}
        for arm in self.shown_arms:
            rows = read_table(
                self.run, "steps", columns=["seed", "arm", "step", *CURVES], arms=[arm]
            )
            rows = complete_steps(self.replicates, rows)
            for name in CURVES:
                found[name][arm] = curve(rows, name, self.level)
        return found

    @property
    def unmeasured(self) -> tuple[str, ...]:
        """Arms whose alignment was not measured (``measure.alignment = false``)."""
        return tuple(arm for arm, one in self.curves["cos_update"].items() if not one.is_measured)

    @cached_property
    def evaluations(self) -> Mapping[str, Curve]:
        """Test accuracy over steps, by arm."""
        rows = complete_steps(self.replicates, read_table(self.run, "evaluations"))
        return {
            arm: curve(rows[rows["arm"] == arm], "test_accuracy", self.level)
            for arm in self.shown_arms
        }

    @cached_property
    def n_steps(self) -> int:
        """Steps of a run."""
        return int(self.curves["gain"][self.shown_arms[0]].steps[-1]) + 1

    @cached_property
    def ledgers(self) -> Ledgers:
        """The ledger's estimates."""
        return supplement.ledgers(self)

    @cached_property
    def equal_slopes(self) -> Mapping[tuple[str, str], TestResult]:
        """Tests that the slopes at all levels are one, by the plan's outcomes and predictors."""
        return supplement.equal_slopes(self)

    @cached_property
    def mediations(self) -> tuple[Mediation, ...]:
        """Run-level mediation of every arm against the reference; empty where it cannot be."""
        return supplement.mediations(self)

    @cached_property
    def cross_worlds(self) -> tuple[CrossWorld, ...]:
        """What yoked arms show; empty where there are none."""
        return supplement.cross_worlds(self)

    @cached_property
    def doses(self) -> Mapping[str, Mapping[str, float]]:
        """Strengths by arm for each space in which projection was dosed; empty where none was."""
        return supplement.doses(self)

    @cached_property
    def headlines(self) -> Mapping[str, Headline]:
        """What the answer says of each arm that removes or trains away alignment."""
        return supplement.headlines(self)


CURVES = (
    "cos_gradient",
    "cos_applied",
    "cos_update",
    "trait_accuracy",
    "trait_loss",
    "drive",
    "drive_end",
    "gain",
)
"""Columns of ``steps`` that pictures draw."""


def curve(rows: pd.DataFrame, column: str, level: float) -> Curve:
    """Arrange `column` of one arm's `rows` as seeds by steps."""
    seeds, row = np.unique(rows["seed"], return_inverse=True)
    steps, place = np.unique(rows["step"], return_inverse=True)
    values = np.full((len(seeds), len(steps)), np.nan)
    values[row, place] = rows[column]
    return Curve(steps.astype(np.int64), values, level, range_of(column))


def read_material(run: Path, plan: Plan, results: Results, asked: str = "") -> Material:
    """Collect what the sections read; `asked` is the path or name that stands for `plan`.

    Raises
    ------
    RunError
        If `run` is no run directory or has nothing finished yet.
    """
    return Material(
        run=run,
        plan=plan,
        results=results,
        manifest=read_manifest(run),
        replicates=read_table(run, "replicates").sort_values(["seed", "arm"], ignore_index=True),
        asked=asked,
    )


def values(result: Result | None) -> Estimate | None:
    """Return `result` if it is an estimate."""
    return result if isinstance(result, Estimate) else None
