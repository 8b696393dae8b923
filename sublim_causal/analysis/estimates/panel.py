"""Run-level tables as seed x arm matrices of complete seeds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sublim_causal.analysis.estimates.types import Floats
from sublim_causal.errors import DataError, nearest


@dataclass(frozen=True)
class Panel:
    """Columns of a run-level table, seeds by arms, complete seeds only.

    Attributes
    ----------
    seeds : ndarray of shape (R,)
        Seeds that have a finite value in every column under every arm, sorted.
    arms : tuple of str
        Arms in the order asked for; A of them.
    columns : mapping of str to ndarray of shape (R, A)
        The values.
    dropped : mapping of str to int
        The other seeds of the table, counted by the first arm that they lack, and why.
    """

    seeds: NDArray[np.int64]
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
        """Return the R paired differences `arm` minus `reference`."""
        return self.column(name, arm) - self.column(name, reference)

    def changes(self, name: str) -> Floats:
        """Return the paired changes of `name` from the first arm, shape (R, A - 1)."""
        return self.columns[name][:, 1:] - self.columns[name][:, :1]


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
            raise DataError(f"the table has no arm {arm!r}; it has {', '.join(present)}")


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
        If a column is missing or a seed has two rows under one arm.
    """
    validate_columns(frame, ["seed", "arm", *columns])
    if "status" in frame.columns:
        frame = frame.loc[frame["status"] == "complete"]
    kept = frame.loc[np.isfinite(frame[list(columns)].to_numpy(float)).all(axis=1)]
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
    validate_arms(frame, arms)
    seeds = np.sort(frame["seed"].unique())
    frame = frame.loc[frame["arm"].isin(arms)]
    runs = complete_runs(frame, columns)
    rows = np.searchsorted(seeds, runs["seed"])
    places = pd.Index(arms).get_indexer(pd.Index(runs["arm"].astype(str)))
    cube = np.full((len(columns), len(seeds), len(arms)), np.nan)
    cube[:, rows, places] = runs[list(columns)].to_numpy(float).T
    usable = np.isfinite(cube).all(axis=0)
    whole = usable.all(axis=1)
    lacking = pd.Index(arms)[usable[~whole].argmin(axis=1)]
    return Panel(
        seeds=seeds[whole].astype(np.int64),
        arms=tuple(arms),
        columns={name: cube[i][whole] for i, name in enumerate(columns)},
        dropped=_reasons(frame, seeds[~whole], lacking),
    )


def _reasons(frame: pd.DataFrame, seeds: np.ndarray, arms: pd.Index) -> dict[str, int]:
    """Count why each of `seeds` is left out: what became of its run under the arm in `arms`."""
    runs = frame.drop_duplicates(["seed", "arm"], keep="last").set_index(["seed", "arm"])
    status = runs["status"] if "status" in runs else pd.Series("complete", runs.index)
    found = status.astype(str).reindex(pd.MultiIndex.from_arrays([seeds, arms])).fillna("missing")
    found = found.replace("complete", "without outcome")
    counts = Counter(f"{arm} {why}" for arm, why in zip(arms, found, strict=True))
    return dict(sorted(counts.items()))
