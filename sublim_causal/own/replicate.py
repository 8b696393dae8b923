"""One replicate of a run of the user's own: what it logs, and the rows that this makes."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from sublim_causal.errors import RequestError
from sublim_causal.store.outcome import Outcome
from sublim_causal.store.own_columns import NAME, UNITLESS, own_column
from sublim_causal.store.schema import ARM, EVALUATIONS, REPLICATES, SEED, STEP, STEPS, Column

Value = float | str
GIVEN = {SEED.name, ARM.name, STEP.name, "status", "reason"}
"""Columns that a replicate does not log."""
SUMS = ("drive", "gain", "remainder")
"""Columns of ``steps`` that are summed over a whole run."""
SHARES = {"cos_gradient": "share_positive", "cos_update": "share_positive_update"}
LARGEST_STEP = 2**31 - 1


@dataclass(frozen=True)
class Replicate:
    """What one replicate logs, kept in memory until its end.

    Attributes
    ----------
    seed : int
    arm : str
    outcome : str
        Column that `finish` has to be given.
    steps : dict of int to dict
        Logged columns by step.
    figures : dict of str to float or str
        What the replicate has in the end.
    """

    seed: int
    arm: str
    outcome: str
    steps: dict[int, dict[str, Value]] = field(default_factory=dict)
    figures: dict[str, Value] = field(default_factory=dict)

    @property
    def is_finished(self) -> bool:
        """Whether `finish` was called."""
        return self.outcome in self.figures

    def log(self, step: int, **columns: object) -> None:
        """Keep columns of one step; of a column that is logged again the last value stays.

        Parameters
        ----------
        step : int
            Optimizer steps done before, from 0.
        **columns
            Numbers or texts by name. Columns of the tables ``steps`` and ``evaluations`` keep their
            meaning; the outcome, if it is logged, makes the curve of the report.

        Raises
        ------
        RequestError
            If the step is not valid, or a name or a value is not allowed.
        """
        if isinstance(step, bool) or not isinstance(step, numbers.Integral):
            raise RequestError("step", step, "a whole number that is at least 0")
        if not 0 <= step <= LARGEST_STEP:
            raise RequestError("step", step, f"a whole number from 0 to {LARGEST_STEP}")
        self.steps.setdefault(int(step), {}).update(_checked(columns))

    def finish(self, **figures: object) -> None:
        """Give the outcome, and what else the replicate has in the end.

        Parameters
        ----------
        **figures
            Numbers or texts by name; the outcome is among them. ``initial_<outcome>`` is what it
            began with, ``teacher_<outcome>`` what its teacher has.

        Raises
        ------
        RequestError
            If the outcome is missing, or a name or a value is not allowed.
        """
        checked = _checked(figures)
        if not isinstance(checked.get(self.outcome), float):
            raise RequestError(self.outcome, checked.get(self.outcome), "a number: the outcome")
        self.figures.update(checked)


def _checked(columns: Mapping[str, object]) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for name, value in columns.items():
        if name in GIVEN or not NAME.fullmatch(name):
            raise RequestError(name, value, "columns other than seed, arm, step, status, reason")
        if isinstance(value, str):
            found[name] = value
            continue
        try:
            found[name] = float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError, RuntimeError):
            raise RequestError(name, value, "a number or a string") from None
    return found


def tables_of(
    one: Replicate, outcome: Outcome, units: Mapping[str, str], failure: str = ""
) -> tuple[dict[str, pd.DataFrame], dict[str, list[Column]]]:
    """Return the rows of a replicate by table, and the own columns that they have.

    Parameters
    ----------
    one : Replicate
    outcome : Outcome
    units : mapping of str to str
        Units of own columns.
    failure : str
        Why it failed; what it logged is left out then.
    """
    tables: dict[str, pd.DataFrame] = {}
    own: dict[str, list[Column]] = {}
    figures: dict[str, Value] = {"status": "failed", "reason": failure}
    if not failure:
        evaluated = {outcome.name, outcome.curve, *(column.name for column in EVALUATIONS)}
        for table, known in (("steps", STEPS), ("evaluations", EVALUATIONS)):
            rows = _logged(one, evaluated, inside=table == "evaluations")
            if rows:
                tables[table], own[table] = framed(pd.DataFrame(rows), known, units)
        figures = {**_summaries(tables.get("steps")), **_status(one), **one.figures}
    row = pd.DataFrame([{"seed": one.seed, **figures}])
    tables["replicates"], own["replicates"] = framed(row, REPLICATES, units)
    return tables, own


def _logged(one: Replicate, evaluated: set[str], *, inside: bool) -> list[dict[str, Value]]:
    """Return the logged rows with the columns that are, or are not, among `evaluated`."""
    return [
        {"seed": one.seed, "step": step, **kept}
        for step, columns in sorted(one.steps.items())
        if (kept := {k: v for k, v in columns.items() if (k in evaluated) == inside})
    ]


def framed(
    frame: pd.DataFrame, known: Sequence[Column], units: Mapping[str, str]
) -> tuple[pd.DataFrame, list[Column]]:
    """Return `frame` with all columns of its table, typed, and the own columns it has besides.

    Raises
    ------
    RequestError
        If a column mixes numbers and texts, or one that has to hold numbers holds texts.
    """
    names = [column.name for column in known if column is not ARM]
    texts = {c.name for c in known if c.type == "string"}
    own = []
    for name in frame.columns:
        is_text = [isinstance(value, str) for value in frame[name].dropna()]
        if any(is_text) and (not all(is_text) or (name in names and name not in texts)):
            raise RequestError(str(name), frame[name].dropna().iloc[0], "numbers in every row")
        if name not in names:
            unit = units.get(str(name), UNITLESS)
            own.append(own_column(str(name), unit, text=any(is_text)))
    typed = frame.reindex(columns=[*names, *(column.name for column in own)])
    for column in known:
        if column is not ARM and column.type == "int32":
            typed[column.name] = typed[column.name].astype("Int64")
    return typed, own


def _status(one: Replicate) -> dict[str, Value]:
    value = one.figures[one.outcome]
    finite = isinstance(value, float) and math.isfinite(value)
    return {
        "status": "complete" if finite else "diverged",
        "reason": "" if finite else f"{one.outcome} is {value}",
    }


def _summaries(steps: pd.DataFrame | None) -> dict[str, Value]:
    """Return what ``replicates`` says of the steps; a sum only where every step was logged."""
    if steps is None:
        return {}
    found: dict[str, Value] = {}
    whole = np.array_equal(steps["step"], np.arange(len(steps)))
    for name in SUMS if whole else ():
        found[f"sum_{name}"] = float(steps[name].sum(skipna=False))
    for name, share in SHARES.items():
        values = steps[name].dropna()
        if len(values):
            found[f"mean_{name}"] = float(values.mean())
            found[share] = float((values > 0).mean())
    last = steps["distill_loss"].dropna()
    return found | ({"final_distill_loss": float(last.iloc[-1])} if len(last) else {})
