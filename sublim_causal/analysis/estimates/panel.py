"""Run-level tables as seed x arm matrices of complete seeds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sublim_causal.analysis.estimates.columns import numbers
from sublim_causal.analysis.estimates.types import Floats
from sublim_causal.errors import DataError, nearest

_ULPS = 4
"""Units in the last place that differences of rounded numbers may vary by."""


@dataclass(frozen=True)
class Panel:
    """Columns of a run-level table, seeds by arms, complete seeds only.

    Attributes
    ----------
    seeds : ndarray of shape (R,)
        Labels of the seeds that have a finite value in every column under every arm, sorted.
    arms : tuple of str
        Arms in the order asked for; A of them.
    columns : mapping of str to ndarray of shape (R, A)
        The values.
    dropped : mapping of str to int
        The other seeds of the table, counted by the first arm that they lack, and why.
    """

    seeds: NDArray[Any]
    arms: tuple[str, ...]
    columns: Mapping[str, Floats]
    dropped: Mapping[str, int]

    @property
    def n_dropped(self) -> int:
        """Number of seeds left out."""
        return sum(self.dropped.values())

    def column(self, name: str, arm: str) -> Floats:
        """Return the R values of `name` under `arm`."""
        return self.columns[name][:, self.arms.index(arm)]

    def difference(self, name: str, arm: str, reference: str) -> Floats:
        """Return the R paired differences `arm` minus `reference`, equal if but for rounding."""
        return differences(self.column(name, arm), self.column(name, reference))

    def changes(self, name: str) -> Floats:
        """Return the paired changes of `name` from the first arm, shape (R, A - 1)."""
        first, *others = self.columns[name].T
        found = [differences(other, first) for other in others]
        return np.stack(found, axis=1) if found else np.empty((len(self.seeds), 0))


def differences(ones: Floats, others: Floats) -> Floats:
    """Return `ones` minus `others`; one number for all where they vary by rounding only.

    What is rounding follows from the numbers that are subtracted, not from their difference, and
    from the precision that they came with: values of float32 stay so when they are converted.
    """
    found = ones - others
    if not found.size:
        return found
    size = max(np.abs(ones).max(), np.abs(others).max())
    single = np.finfo(np.float32)
    with np.errstate(over="ignore"):
        coarse = all(np.array_equal(x, x.astype(np.float32)) for x in (ones, others))
    rounding = _ULPS * float(single.eps if coarse else np.finfo(float).eps) * size
    middle = float(np.median(found))
    if np.ptp(found) > rounding:
        return found
    return np.full_like(found, middle if abs(middle) > rounding else 0.0)


def validate_columns(frame: pd.DataFrame, columns: Sequence[str]) -> None:
    """Check that `frame` has every one of `columns`.

    Raises
    ------
    DataError
        If one is missing; the message names it and the closest column there is.
    """
    for column in columns:
        if column not in frame.columns:
            hint = nearest(column, map(str, frame.columns))
            raise DataError(f"the table has no column {column!r}; {hint or 'see store/schema.py'}")


def seeds_and_arms(
    frame: pd.DataFrame, cluster: str = "seed", arm_column: str = "arm"
) -> pd.DataFrame:
    """Return `frame` with its clusters in the column seed, and its arms as text in arm.

    Parameters
    ----------
    frame : DataFrame
        One row a seed and arm, or a step.
    cluster, arm_column : str
        Columns that hold the seeds, of any type that can be sorted, and the arms: numbers, text,
        or categories.

    Raises
    ------
    DataError
        If a column is not there, a seed or arm is missing, or numbers and text are mixed.
    """
    validate_columns(frame, [cluster, arm_column])
    found = frame.assign(seed=frame[cluster], arm=frame[arm_column])
    for name, column in (("seed", cluster), ("arm", arm_column)):
        if found[name].isna().any():
            count = int(found[name].isna().sum())
            raise DataError(f"{count} rows have no {name} (column {column!r}); drop or repair them")
    if pd.api.types.infer_dtype(found["seed"], skipna=True).startswith("mixed"):
        raise DataError(f"the seeds (column {cluster!r}) mix numbers and text; use one of them")
    if pd.api.types.infer_dtype(found["arm"]) == "string":
        return found
    return found.assign(arm=found["arm"].astype(object).astype(str).astype(object))


def validate_arms(frame: pd.DataFrame, arms: Sequence[str]) -> None:
    """Check that every one of `arms` occurs in `frame`.

    Raises
    ------
    DataError
        If one does not.
    """
    present = sorted(map(str, frame["arm"].unique()))
    for arm in arms:
        if arm not in present:
            raise DataError(f"the table has no arm {arm!r}; it has {', '.join(map(repr, present))}")


def complete_runs(frame: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Keep the finished runs: status ``complete`` where there is one, `columns` finite.

    Parameters
    ----------
    frame : DataFrame
        One row per seed and arm.
    columns : sequence of str
        Columns that must be finite.

    Returns
    -------
    DataFrame
        The columns seed, arm and `columns`, one row per run.

    Raises
    ------
    DataError
        If a column is missing or holds no numbers, or a seed has two rows under one arm.
    """
    validate_columns(frame, ["seed", "arm", *columns])
    frame = seeds_and_arms(frame)
    if "status" in frame.columns:
        frame = frame.loc[frame["status"] == "complete"]
    values = numbers(frame, columns)
    frame = frame.assign(**dict(zip(columns, values.T, strict=True)))
    kept = frame.loc[pd.Series(np.isfinite(values).all(axis=1), frame.index)]
    twice = kept.duplicated(["seed", "arm"])
    if twice.any():
        row = kept.loc[twice].iloc[0]
        raise DataError(
            f"seed {row['seed']} has more than one row under arm {row['arm']!r}; "
            "give one row per seed and arm"
        )
    return kept.loc[:, ["seed", "arm", *columns]]


def paired_panel(frame: pd.DataFrame, columns: Sequence[str], arms: Sequence[str]) -> Panel:
    """Arrange run-level `columns` as seed x arm matrices of the seeds complete in all `arms`.

    Parameters
    ----------
    frame : DataFrame
        One row per seed and arm (the table ``replicates``).
    columns : sequence of str
        Numeric columns.
    arms : sequence of str
        Arms, distinct; their order is the order of the matrix columns.

    Raises
    ------
    DataError
        If a column or an arm is missing, or a run occurs twice.
    """
    validate_columns(frame, ["seed", "arm", *columns])
    frame = seeds_and_arms(frame)
    validate_arms(frame, arms)
    seeds = np.asarray(pd.factorize(frame["seed"], sort=True)[1])
    frame = frame.loc[frame["arm"].isin(arms)]
    runs = complete_runs(frame, columns)
    rows = pd.Index(seeds).get_indexer(pd.Index(runs["seed"]))
    places = pd.Index(arms).get_indexer(pd.Index(runs["arm"]))
    cube = np.full((len(columns), len(seeds), len(arms)), np.nan)
    cube[:, rows, places] = runs[list(columns)].to_numpy(float).T
    usable = np.isfinite(cube).all(axis=0)
    whole = usable.all(axis=1)
    lacking = pd.Index(arms)[usable[~whole].argmin(axis=1)]
    return Panel(
        seeds=seeds[whole],
        arms=tuple(arms),
        columns={name: cube[i][whole] for i, name in enumerate(columns)},
        dropped={} if whole.all() else _reasons(frame, seeds[~whole], lacking),
    )


def _reasons(frame: pd.DataFrame, seeds: np.ndarray, arms: pd.Index) -> dict[str, int]:
    """Count why each of `seeds` is left out: the status of its run under the arm in `arms`."""
    runs = frame.drop_duplicates(["seed", "arm"], keep="last").set_index(["seed", "arm"])
    status = runs["status"] if "status" in runs else pd.Series("complete", runs.index)
    found = status.astype(str).reindex(pd.MultiIndex.from_arrays([seeds, arms])).fillna("missing")
    found = found.replace("complete", "without outcome")
    counts = Counter(f"{arm} {why}" for arm, why in zip(arms, found, strict=True))
    return dict(sorted(counts.items()))
