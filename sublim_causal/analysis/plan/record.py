"""What an analysis reads of a run: arms, replicates, and the steps of complete ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sublim_causal.analysis.arms.stopping import StoppingRule, recorded_rule
from sublim_causal.store.blocks import files_of
from sublim_causal.store.damage import validate_undamaged
from sublim_causal.store.manifest import FILE, is_own, read_manifest, reference_of
from sublim_causal.store.outcome import ACCURACY, Outcome, data_of, outcome_of
from sublim_causal.store.own_columns import (
    Columns,
    knowing_columns,
    known_columns,
    own_column,
    own_columns,
)
from sublim_causal.store.tables import read_table

SETTING = ("student", "channel", "targets", "inputs")
"""Options of an arm beside its intervention."""


@dataclass(frozen=True)
class Record:
    """The tables of a run.

    Attributes
    ----------
    name, run_id : str
        From the manifest.
    arms : tuple of str
        Arms with at least one replicate, in the study's order.
    replicates : DataFrame
        One row per seed and arm, also of those that are not complete.
    steps : DataFrame
        seed, arm and the columns asked for, of complete replicates only; empty without columns.
    layers : DataFrame
        seed, arm, step, layer and drive of complete replicates; empty unless asked for and
        recorded.
    interventions : mapping of str to mapping
        Options of each arm, as the study declared them.
    data : str
        Name of the data set, or of a task without one; empty if it is not known.
    resolved : mapping of str to mapping
        Options of each arm with their defaults, as resolved when it ran.
    evaluations : DataFrame
        seed, arm, step and the outcome of complete replicates; empty unless asked for.
    outcome : Outcome
        By what students are judged.
    reference : str
        Arm that the study compares the others with; empty if it has none.
    own : bool
        Whether it is a run of the user's own, without a study; it may hold no measured steps, or
        measure some columns in some steps only.
    paired : bool
        Whether arms share the draws of their seeds. If not, they are independent samples: their
        contrasts are Welch's.
    traits : DataFrame
        Table ``traits``: a row for each seed, arm and thing that may be preferred; empty where it
        was not recorded.
    rule : StoppingRule or None
        The rule by which seeds were added.
    seed_counts : tuple of int
        Numbers of seeds with which the run was complete or analysed, rising.
    """

    name: str
    run_id: str
    arms: tuple[str, ...]
    replicates: pd.DataFrame
    steps: pd.DataFrame
    layers: pd.DataFrame
    interventions: Mapping[str, Mapping[str, Any]]
    data: str = ""
    resolved: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    evaluations: pd.DataFrame = field(default_factory=pd.DataFrame)
    outcome: Outcome = ACCURACY
    reference: str = ""
    own: bool = False
    paired: bool = True
    traits: pd.DataFrame = field(default_factory=pd.DataFrame)
    rule: StoppingRule | None = None
    seed_counts: tuple[int, ...] = ()

    @property
    def complete(self) -> pd.DataFrame:
        """Replicates that are complete."""
        return self.replicates[self.replicates["status"] == "complete"]

    @property
    def complete_arms(self) -> tuple[str, ...]:
        """Arms that have a complete replicate, in the study's order."""
        present = set(self.complete["arm"])
        return tuple(arm for arm in self.arms if arm in present)

    def options(self, arm: str) -> dict[str, Any]:
        """Return intervention and options of `arm`; if undeclared, it is the arm's name.

        In a run of the user's own it is empty then: a name says nothing.
        """
        declared = self.interventions.get(arm, {})
        return {"intervention": "" if self.own else arm, **declared, **self.resolved.get(arm, {})}

    def stages(self, arm: str) -> list[dict[str, Any]]:
        """Return the options of each intervention that `arm` ran in turn, defaults filled in.

        They are resolved as ``0.strength``, ``1.target``; a run that resolved nothing has none.
        """
        found: dict[str, dict[str, Any]] = {}
        for name, value in self.resolved.get(arm, {}).items():
            stage, _, option = name.partition(".")
            if stage.isdigit():
                found.setdefault(stage, {}).update({option: value} if option else {})
        return [*found.values()]

    def is_comparable(self, arm: str, reference: str) -> bool:
        """Return whether two arms differ in their intervention alone."""
        return same_setting(self.options(arm), self.options(reference))

    def measuring(self, columns: Collection[str]) -> Record:
        """Return the record with the steps that have a value in all of `columns`.

        A column that no step has is not required, so that its absence is reported; of a study all
        steps are kept, because it measures every one.
        """
        if not self.own or not columns:
            return self
        known = [name for name in columns if name in self.steps and self.steps[name].notna().any()]
        return replace(self, steps=self.steps.dropna(subset=known))

    @property
    def n_seeds(self) -> int:
        """Seeds with at least one replicate."""
        return int(self.replicates["seed"].nunique())

    def statuses(self) -> dict[str, int]:
        """Replicates by status, and by reason where they are not complete."""
        rows = zip(self.replicates["status"], self.replicates["reason"], strict=True)
        return dict(sorted(Counter(f"{s}: {r}" if r else str(s) for s, r in rows).items()))


def same_setting(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two arms, given by their options, differ in their intervention alone."""
    return all(one.get(name) == other.get(name) for name in SETTING)


def read_runs(run: Path) -> Record:
    """Read the manifest and the replicates of the run directory `run`.

    Raises
    ------
    RunError
        If `run` is not a run directory, has nothing finished yet, or a file of it is damaged.
    """
    manifest = read_manifest(run)
    validate_undamaged(run)
    replicates = read_table(run, "replicates").sort_values(["seed", "arm"], ignore_index=True)
    outcome, replicates = _with_start(outcome_of(manifest), replicates)
    found = set(replicates["arm"])
    interventions = manifest["study"].get("arms", {})
    declared = [arm for arm in interventions if arm in found]
    return Record(
        name=str(manifest["name"]),
        run_id=str(manifest["run_id"]),
        arms=(*declared, *sorted(found - set(declared))),
        replicates=replicates,
        steps=pd.DataFrame(columns=["seed", "arm"]),
        layers=pd.DataFrame(),
        interventions=interventions,
        data=data_of(manifest),
        resolved=manifest.get("arms", {}),
        outcome=outcome,
        reference=_reference(manifest["study"], found),
        own=is_own(manifest),
        paired=not is_own(manifest) or _is_paired(manifest["study"], replicates),
        traits=read_table(run, "traits") if files_of(run, "traits") else pd.DataFrame(),
        rule=recorded_rule(manifest["stopping"]) if "stopping" in manifest else None,
        seed_counts=tuple(manifest.get("seed_counts", ())),
    )


CHANCE = "chance"
"""Column of the outcome before training, where a run of the user's own did not record it."""


def _with_start(outcome: Outcome, replicates: pd.DataFrame) -> tuple[Outcome, pd.DataFrame]:
    """Use the chance level as the outcome before training where no replicate recorded one."""
    if outcome.chance is None or outcome.start in replicates:
        return outcome, replicates
    return replace(outcome, start=CHANCE), replicates.assign(**{CHANCE: outcome.chance})


def _is_paired(study: Mapping[str, Any], replicates: pd.DataFrame) -> bool:
    """Return whether a seed means the same draws in all arms, and two arms have one in common."""
    complete = replicates[replicates["status"] == "complete"]
    common = complete.groupby("seed")["arm"].nunique().max() > 1
    return bool(study.get("paired", True) and (common or complete["arm"].nunique() < 2))


@contextmanager
def columns_of_run(run: Path) -> Iterator[None]:
    """Let plans and reports name the own columns of `run` within the block.

    Of a run of the user's own these include all columns that its outcome can have, so that a plan
    which asks for one is told that it was not recorded.
    """
    columns: Columns = {}
    if (run / FILE).exists() and is_own(manifest := read_manifest(run)):
        columns = own_columns(run)
        outcome = outcome_of(manifest)
        known = {one.name: one for one in (*known_columns("replicates"), *columns["replicates"])}
        unit = known[outcome.name].unit
        more = [n for n in (outcome.start, outcome.teacher, CHANCE) if n not in known]
        columns["replicates"] += [own_column(name, unit) for name in more]
    with knowing_columns(columns):
        yield


def _reference(study: Mapping[str, Any], found: Collection[str]) -> str:
    declared = reference_of({"arms": {}, **study})
    return declared or ("baseline" if "baseline" in found else "")


def read_record(run: Path, step_columns: Collection[str] = (), layers: bool = False) -> Record:
    """Read what an analysis needs of the run directory `run`.

    Parameters
    ----------
    run : Path
        Run directory.
    step_columns : collection of str
        Columns of ``steps`` beside seed and arm.
    layers : bool
        Whether the table ``layers`` is read, where there is one.

    Raises
    ------
    RunError
        If `run` is not a run directory, has nothing finished yet, or a file of it is damaged.
    """
    return with_steps(read_runs(run), run, step_columns, layers=layers)


def has_layers(run: Path) -> bool:
    """Return whether the run directory `run` recorded layers."""
    return bool(files_of(run, "layers"))


def with_steps(
    record: Record,
    run: Path,
    step_columns: Collection[str],
    *,
    layers: bool = False,
    evaluations: bool = False,
) -> Record:
    """Read the steps that `read_runs` left out; parameters as in `read_record`.

    With `evaluations` the table of that name is read too.
    """
    found: dict[str, Any] = {}
    if step_columns:
        columns = ["seed", "arm", *sorted({"step", *step_columns})]
        found["steps"] = _complete(record, run, "steps", columns)
    if layers:
        columns = ["seed", "arm", "step", "layer", "drive"]
        found["layers"] = _complete(record, run, "layers", columns)
    if evaluations:
        columns = ["seed", "arm", "step", record.outcome.curve]
        found["evaluations"] = _complete(record, run, "evaluations", columns)
    return replace(record, **found)


def _complete(record: Record, run: Path, table: str, columns: list[str]) -> pd.DataFrame:
    """Read a table; it is empty where no replicate has it, as in a run without logged steps."""
    if not files_of(run, table):
        return pd.DataFrame(columns=columns)
    return complete_steps(record.replicates, read_table(run, table, columns=columns))


def complete_steps(replicates: pd.DataFrame, steps: pd.DataFrame) -> pd.DataFrame:
    """Keep the steps of complete replicates, sorted by seed, arm and step.

    The steps of a diverged run are in the record, but end in infinities.
    """
    complete = replicates.loc[replicates["status"] == "complete", ["seed", "arm"]]
    arms = pd.Index(sorted(complete["arm"].unique()))
    arm, known = arms.get_indexer(steps["arm"]), arms.get_indexer(complete["arm"])
    run = steps["seed"].to_numpy(dtype=np.int64) * len(arms) + arm
    runs = complete["seed"].to_numpy(dtype=np.int64) * len(arms) + known
    order = np.lexsort((steps["step"], run))
    kept = order[((arm >= 0) & np.isin(run, runs))[order]]
    return steps.take(kept).reset_index(drop=True)  # one copy: steps may be most of the memory
