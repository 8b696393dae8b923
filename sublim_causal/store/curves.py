"""What a mirror shows of a run: binned curves, final figures and parameters, from tables only."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.dataset as ds
from pandas.api.types import is_numeric_dtype

from sublim_causal.declared import flatten
from sublim_causal.errors import RunError
from sublim_causal.store import tables
from sublim_causal.store.own_columns import own_columns
from sublim_causal.store.schema import EVALUATIONS, arrow_schema

CURVES = {
    "steps": (
        "distill_loss",
        "trait_loss",
        "trait_accuracy",
        "cos_gradient",
        "cos_applied",
        "cos_update",
        "drive",
        "gain",
        "remainder",
    ),
    "evaluations": tuple(c.name for c in EVALUATIONS if c.name not in {"seed", "arm", "step"}),
}
"""Columns that become curves; norms, probe halves and layers stay in the tables."""

NO_FIGURES = {"seed", "arm", "status", "reason"}
"""Columns of ``replicates`` that do not become final figures."""

MAX_POINTS = 32
"""Points per curve: enough for a chart, and MLflow takes about 0.1 ms for each."""

LAYOUT = 2
"""Version of what is mirrored; part of every digest, so that a new layout replaces old runs."""

Point = tuple[str, int, float]
"""Metric, step and value."""

BinSums = pd.DataFrame
"""Columns ``sum`` and ``count`` over the defined values of a bin; indexed by metric and step."""

ArmCurves = dict[str, BinSums]
"""The sums of every arm of a block."""


def _metrics(run: Path, table: str) -> list[str]:
    """Return the columns of a table that become curves, those of a run of one's own among them."""
    own = own_columns(run).get(table, ())
    return [*CURVES[table], *(c.name for c in own if c.type == "double")]


def binned(steps: np.ndarray, bins: int = MAX_POINTS) -> np.ndarray:
    """Return the step at which each of `steps` is shown: the middle one of its bin.

    Parameters
    ----------
    steps : ndarray, shape (T,)
        Distinct steps in ascending order.
    bins : int
        Bins of equally many steps, up to one; where there are no more steps, each is a bin.

    Returns
    -------
    ndarray, shape (T,)
    """
    if len(steps) <= bins:
        return steps
    parts = np.array_split(steps, bins)
    return np.concatenate([np.full_like(part, part[len(part) // 2]) for part in parts])


def block_curves(run: Path, arm: str, block: str) -> dict[int, list[Point]]:
    """Return the curves of every seed of one arm of one block, means of bins of steps."""
    curves: dict[int, list[Point]] = {}
    for table in CURVES:
        metrics = _metrics(run, table)
        frame = _read(run, table, ["seed", "step", *metrics], arms=[arm], blocks=[block])
        for seed, one in frame.groupby("seed"):
            steps = np.unique(one["step"])
            shown = one["step"].map(dict(zip(steps, binned(steps), strict=True)))
            means = one[list(metrics)].groupby(shown).mean()
            curves.setdefault(int(str(seed)), []).extend(_points(means, metrics))
    return curves


def bin_sums(run: Path, arm: str, seeds: Sequence[int]) -> BinSums:
    """Return the sums of the curves of `arm` over `seeds`; the rows are read batch by batch."""
    names = pd.MultiIndex.from_tuples([], names=["metric", "step"])
    parts = [pd.DataFrame({"sum": [], "count": []}, index=names)]
    wanted = ds.field("seed").isin(list(seeds))
    for table in CURVES:
        metrics = _metrics(run, table)
        steps = np.unique(_read(run, table, ["step"], arms=[arm])["step"])
        if not len(steps):
            continue
        shown = dict(zip(steps, binned(steps), strict=True))
        sums = pd.DataFrame(0.0, index=np.unique(binned(steps)), columns=list(metrics))
        counts = sums.copy()
        for frame in _batches(run, table, ["step", *metrics], arm, wanted):
            by_bin = frame[list(metrics)].groupby(frame["step"].map(shown))
            sums = sums.add(by_bin.sum(), fill_value=0.0)
            counts = counts.add(by_bin.count(), fill_value=0.0)
        parts.append(pd.DataFrame({"sum": sums.unstack(), "count": counts.unstack()}))
    return pd.concat(parts)


def mean_points(parts: Sequence[BinSums]) -> list[Point]:
    """Return mean curves over all of `parts`: over the values of a bin that are defined."""
    total = pd.concat(parts).groupby(level=[0, 1]).sum()
    means = (total["sum"] / total["count"]).unstack(level=0)
    known = [name for names in CURVES.values() for name in names]
    own = [str(name) for name in means if name not in known]
    return _points(means, [*(name for name in known if name in means), *own])


def figures(values: pd.Series) -> list[Point]:
    """Return the finite final figures among `values` as metrics at step 0."""
    numbers = [(str(name), values[name]) for name in values.index if name not in NO_FIGURES]
    return [
        (name, 0, float(value))
        for name, value in numbers
        if not isinstance(value, str) and value is not None and np.isfinite(value)
    ]


def _figure_names(rows: pd.DataFrame) -> list[str]:
    names = (str(name) for name in rows.columns if is_numeric_dtype(rows[name]))
    return [name for name in names if name not in NO_FIGURES]


def parameters(table: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return a nested table as dotted names and texts: strings as they are, all else as JSON.

    ``{"a": {"b": 1}, "c": [True]}`` becomes ``{"a.b": "1", "c": "[true]"}``.
    """
    flat = flatten(table, prefix, lists=True)
    return {k: v if isinstance(v, str) else json.dumps(v) for k, v in flat.items()}


def digest_of_rows(rows: pd.DataFrame) -> str:
    """Return a digest of rows of ``replicates``, whatever their order."""
    text = rows.sort_values(["arm", "seed"]).to_csv(index=False)
    return hashlib.sha256(f"{LAYOUT}\n{text}".encode()).hexdigest()[:16]


def digest_of_params(params: Mapping[str, str]) -> str:
    """Return a digest of parameters."""
    text = json.dumps(params, sort_keys=True)
    return hashlib.sha256(f"{LAYOUT}\n{text}".encode()).hexdigest()[:16]


def digest_of_files(files: Mapping[str, Path]) -> str:
    """Return a digest of `files`, their contents by name."""
    total = hashlib.sha256()
    for name, file in sorted(files.items()):
        content = hashlib.sha256(file.read_bytes()).hexdigest()
        total.update(f"{name} {content}\n".encode())
    return total.hexdigest()[:16]


def arm_figures(rows: pd.DataFrame) -> list[Point]:
    """Return mean figures over the complete replicates of `rows`, and how many have each status."""
    complete = rows[rows["status"] == "complete"]
    counts = rows["status"].value_counts()
    return [
        *figures(complete[_figure_names(rows)].mean()),
        *((f"replicates_{status}", 0, float(count)) for status, count in counts.items()),
    ]


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Return one row per arm: replicates by status, mean and deviation over the complete ones."""
    counts = rows.groupby(["arm", "status"]).size().unstack(fill_value=0)
    complete = rows[rows["status"] == "complete"]
    complete = complete.groupby("arm")[_figure_names(rows)].agg(["mean", "std"])
    complete.columns = pd.Index(["_".join(pair) for pair in complete.columns])
    return counts.join(complete).reset_index()


def metric_name(name: str) -> str:
    """Return `name` with the characters that MLflow forbids spelt as their code points."""
    return re.sub(r"[^\w.\- ]", lambda match: f"_{ord(match[0]):x}_", name)


def _points(frame: pd.DataFrame, metrics: Sequence[str]) -> list[Point]:
    """Return the finite values of `frame` (index: step); charts cannot show the others."""
    return [
        (metric, int(step), float(value))
        for metric in metrics
        for step, value in zip(frame.index, frame[metric], strict=True)
        if np.isfinite(value)
    ]


def _batches(
    run: Path, table: str, columns: list[str], arm: str, rows: ds.Expression
) -> Iterator[pd.DataFrame]:
    dataset = tables.dataset(run, table, arms=[arm])
    with tables.reading(run, table):
        for batch in dataset.to_batches(columns=columns, filter=rows):
            yield batch.to_pandas()


def _read(
    run: Path, table: str, columns: list[str], *, arms: list[str], blocks: list[str] | None = None
) -> pd.DataFrame:
    try:
        dataset = tables.dataset(run, table, arms=arms, blocks=blocks)
    except RunError:  # a replicate that failed early has no steps, and is mirrored all the same
        schema = arrow_schema(table, own=own_columns(run).get(table, ()))
        return schema.empty_table().select(columns).to_pandas()
    with tables.reading(run, table):
        return dataset.to_table(columns=columns).to_pandas()
