"""Make a run of tables that other programs wrote: check them, and write replicate by replicate."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sublim_causal.errors import DataError, RequestError, nearest
from sublim_causal.own.replicate import Replicate
from sublim_causal.own.run import MAX_SEED, OwnRun, open_run, validate_arm
from sublim_causal.own.sources import REASON, SECONDS, STATUS
from sublim_causal.store.manifest import FILE, read_manifest, write_manifest
from sublim_causal.store.own_columns import NAME

SHOWN = 3
"""Examples that an error shows."""


@dataclass(frozen=True)
class Asked:
    """What stands where in a table.

    Attributes
    ----------
    seed, arm, outcome : str
        Its columns.
    step : str or None
        Column of the steps; None: one row a replicate.
    renamed : mapping of str to str
        What columns of the tables, or own ones, are called there: ``ours: theirs``.
    """

    seed: str
    arm: str
    outcome: str
    step: str | None
    renamed: Mapping[str, str]


@dataclass(frozen=True)
class Checked:
    """A table whose columns have our names.

    Attributes
    ----------
    frame : DataFrame
        With seed, arm, the outcome, and step where there are steps; sorted by these.
    outcome : str
        Name of the outcome's column.
    remarks : tuple of str
        What was found: renamed columns, seeds without a pair, outcomes that are not finite.
    """

    frame: pd.DataFrame
    outcome: str
    remarks: tuple[str, ...]


def check_table(frame: pd.DataFrame, asked: Asked) -> Checked:
    """Check a table of others, and give its columns our names.

    Raises
    ------
    RequestError
        If a column is not there.
    DataError
        If a seed or a step is missing or not a whole number, an arm is missing, or rows are twice.
    """
    known = list(map(str, frame.columns))
    _validate_asked(asked, known)
    named, given = _names_of(asked, known), _asked_columns(asked).values()
    remarks = [
        f"{column!r} is called {name!r}"
        for column, name in named.items()
        if column not in given and column != name
    ]
    table = frame.rename(columns=named).assign(arm=lambda one: _arms(one["arm"]))
    table["seed"] = _whole(table["seed"], "seed", MAX_SEED)
    keys = ["arm", "seed"]
    if asked.step:
        table["step"] = _whole(table["step"], "step", 2**31 - 1)
        keys.append("step")
    _validate_once(table, keys, asked.step is not None)
    outcome = named[asked.renamed.get(asked.outcome, asked.outcome)]
    table = table.apply(lambda column: column if column.name in keys else _values(column))
    if not pd.api.types.is_numeric_dtype(table[outcome]):
        raise RequestError("--outcome", asked.outcome, "a column of numbers")
    table = table.sort_values(keys, ignore_index=True)
    return Checked(table, outcome, (*remarks, *_pairs(table), *_not_finite(table, outcome, asked)))


def _asked_columns(asked: Asked) -> dict[str, str]:
    """Return the columns that were named, by the names that they get."""
    step = {"step": asked.step} if asked.step else {}
    return {**asked.renamed, "seed": asked.seed, "arm": asked.arm, **step}


def _validate_asked(asked: Asked, known: list[str]) -> None:
    """Refuse a column that the table lacks."""
    for option, column in (
        ("--seed", asked.seed),
        ("--arm", asked.arm),
        ("--outcome", asked.renamed.get(asked.outcome, asked.outcome)),
        *([("--step", asked.step)] if asked.step else []),
        *((f"--map {ours}", theirs) for ours, theirs in asked.renamed.items()),
    ):
        if column not in known:
            raise RequestError(
                option, column, f"a column: {', '.join(known)}", nearest(column, known)
            )


def _names_of(asked: Asked, known: list[str]) -> dict[str, str]:
    """Return the name that each column gets; refuse two of one name."""
    ours = {theirs: name for name, theirs in _asked_columns(asked).items()}
    named = {column: ours.get(column) or _own_name(column) for column in known}
    if len({*named.values()}) < len(named):
        twice = sorted(c for c in known if [*named.values()].count(named[c]) > 1)
        raise RequestError("--map", ", ".join(twice), "different names for different columns")
    return named


def _values(column: pd.Series) -> pd.Series:
    """Return a column as numbers, also if they are written as text; else as text."""
    there = column.dropna()
    texts = there.astype(str).str.strip()
    numbers = pd.to_numeric(texts.where(texts != "", "nan"), errors="coerce")
    if (numbers.notna() | texts.str.lower().isin(["nan", ""])).all() and not _is_date(column):
        return numbers.reindex(column.index).astype(float)
    return column.astype(object).where(column.notna(), None).map(lambda x: x and str(x))


def _is_date(column: pd.Series) -> bool:
    return bool(pd.api.types.is_datetime64_any_dtype(column))


def _own_name(column: str) -> str:
    """Return `column` as the name of an own column: ``"eval/owl rate"`` as ``"eval_owl_rate"``."""
    name = re.sub(r"[^A-Za-z0-9_]+", "_", column).strip("_")[:64] or "column"
    return name if NAME.fullmatch(name) else f"_{name}"[:64]


def _arms(column: pd.Series) -> pd.Series:
    missing = column.isna() | column.astype(str).str.strip().eq("")
    if missing.any():
        raise DataError(f"{int(missing.sum())} of {len(column)} rows have no arm: {_rows(missing)}")
    arms = column.astype(str).str.strip()
    for arm in sorted(arms.unique()):
        validate_arm(arm)
    return arms


def _whole(column: pd.Series, what: str, largest: int) -> pd.Series:
    numbers = pd.to_numeric(column, errors="coerce")
    bad = numbers.isna() | (numbers % 1 != 0) | (numbers < 0) | (numbers > largest)
    if bad.any():
        raise DataError(
            f"{int(bad.sum())} of {len(column)} rows have no {what} that is a whole number from 0 "
            f"to {largest:,}: {_rows(bad)}\nremedy: number them, or leave these rows out"
        )
    return numbers.astype(np.int64)


def _rows(where: pd.Series) -> str:
    places = np.flatnonzero(where.to_numpy())
    shown = ", ".join(str(place + 1) for place in places[:SHOWN])
    return f"row{'s' * (len(places) > 1)} {shown}{', ...' * (len(places) > SHOWN)}"


def _validate_once(table: pd.DataFrame, keys: Sequence[str], by_step: bool) -> None:
    twice = table.duplicated(list(keys), keep=False)
    if not twice.any():
        return
    groups = table.loc[twice, list(keys)].drop_duplicates()
    shown = "; ".join(
        ", ".join(f"{key} {value}" for key, value in row.items())
        for row in groups.head(SHOWN).to_dict("records")
    )
    remedy = "leave the repeated rows out" if by_step else "leave them out, or name --step"
    raise DataError(
        f"{int(twice.sum())} rows are duplicates of {len(groups)}, by {', '.join(keys)}: {shown}"
        f"{'; ...' * (len(groups) > SHOWN)}\nremedy: {remedy}"
    )


def _pairs(table: pd.DataFrame) -> list[str]:
    """Say which arms lack seeds that others have."""
    seeds = {str(arm): {*part} for arm, part in table.groupby("arm")["seed"]}
    every = set.union(*seeds.values())
    if len(seeds) < 2:
        return []
    if not any(a & b for x, a in seeds.items() for y, b in seeds.items() if x != y):
        return ["no seed is in two arms: they are compared as independent samples, by Welch's t"]
    found = []
    for arm, own in seeds.items():
        if lacking := sorted(every - own):
            shown = ", ".join(map(str, lacking[:SHOWN])) + ", ..." * (len(lacking) > SHOWN)
            found.append(f"{arm}: {len(lacking)} of {len(every)} seeds have no row: {shown}")
    return found


def _not_finite(table: pd.DataFrame, outcome: str, asked: Asked) -> list[str]:
    last = table.groupby(["arm", "seed"])[outcome].last() if asked.step else table[outcome]
    bad = int((~np.isfinite(last)).sum())
    if not bad:
        return []
    return [f"{bad} of {len(last)} replicates have no finite {outcome}: they are not complete"]


def write_import(run: Path, checked: Checked, source: str, **declared: Any) -> OwnRun:
    """Write a checked table as a new run.

    Parameters
    ----------
    run : Path
        Directory or address, where nothing is yet.
    checked : Checked
        What `check_table` returned.
    source : str
        Where the table comes from; kept in the manifest.
    **declared
        As for `open_run`, without the outcome.

    Raises
    ------
    RunError
        If `run` is there.
    """
    if (run / FILE).exists():
        raise RequestError("RUN", str(run), "a directory that holds no run yet")
    opened = open_run(run, outcome=checked.outcome, **declared)
    for (arm, seed), rows in checked.frame.groupby(["arm", "seed"], sort=False):
        one, failure = _replicate(int(str(seed)), str(arm), rows, checked.outcome)
        opened.commit(one, failure)
    manifest = read_manifest(run)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    write_manifest(run, {**manifest, "source": source, "finished": now})
    return opened


def _replicate(seed: int, arm: str, rows: pd.DataFrame, outcome: str) -> tuple[Replicate, str]:
    """Return a replicate, and why it failed, if it did."""
    one = Replicate(seed, arm, outcome)
    last = rows.iloc[-1]
    if last.get(STATUS, "complete") == "failed":
        return one, str(last.get(REASON) or "failed")
    constant = [name for name in (SECONDS,) if name in rows]
    for row in rows.to_dict("records") if "step" in rows else ():
        values = {str(k): v for k, v in row.items() if k not in (*SKIPPED, *constant)}
        one.log(int(row["step"]), **_given(values))
    final = rows[outcome].dropna()
    figures = {outcome: float(final.iloc[-1]) if len(final) else float("nan")}
    own = {str(k): v for k, v in last.items() if k not in SKIPPED and "step" not in rows}
    one.finish(**{**_given(own), **_given({k: last[k] for k in constant}), **figures})
    return one, ""


SKIPPED = ("seed", "arm", "step", STATUS, REASON)


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what there is; an empty cell is none."""
    return {name: value for name, value in values.items() if not pd.isna(value)}
