"""What a mirror shows of a run: thinned curves, final figures and parameters, from tables only."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.dataset as ds

from sublim_causal.errors import RunError
from sublim_causal.store import tables
from sublim_causal.store.schema import REPLICATES, arrow_schema

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
    "evaluations": ("test_accuracy", "teacher_agreement"),
}
"""Columns that become curves; norms, probe halves and layers stay in the tables."""

FIGURES = tuple(c.name for c in REPLICATES if c.name not in {"seed", "arm", "status", "reason"})
"""Columns of ``replicates`` that become final figures."""

MAX_POINTS = 32
"""Points a curve: enough for a chart, and MLflow takes about 0.1 ms for each."""

LAYOUT = 1
"""Version of what is mirrored; part of every digest, so that a new layout replaces old runs."""

Point = tuple[str, int, float]
"""Metric, step and value."""


def thin(steps: np.ndarray, points: int = MAX_POINTS) -> np.ndarray:
    """Return at most `points` of the sorted `steps`, evenly spread, the first and last included.

    Parameters
    ----------
    steps : ndarray, shape (T,)
        Distinct steps in ascending order.
    points : int
        At least 2.
    """
    if len(steps) <= points:
        return steps
    return steps[np.linspace(0, len(steps) - 1, points).round().astype(int)]


def block_curves(run: Path, arm: str, block: str) -> dict[int, list[Point]]:
    """Return the thinned curves of every seed of one arm of one block."""
    curves: dict[int, list[Point]] = {}
    for table, metrics in CURVES.items():
        frame = _read(run, table, ["seed", "step", *metrics], arms=[arm], blocks=[block])
        for seed, one in frame.groupby("seed"):
            kept = one[one["step"].isin(thin(np.unique(one["step"])))]
            curves.setdefault(int(str(seed)), []).extend(_points(kept.set_index("step"), metrics))
    return curves


def mean_curves(run: Path, arm: str, seeds: Sequence[int]) -> list[Point]:
    """Return the curves of `arm`, the mean over `seeds` at each of the thinned steps.

    The mean at a step is over the seeds for which the quantity is defined there. Only the kept
    steps are read into memory.
    """
    points: list[Point] = []
    for table, metrics in CURVES.items():
        steps = _read(run, table, ["step"], arms=[arm])["step"]
        kept = ds.field("step").isin(thin(np.unique(steps)).tolist())
        wanted = kept & ds.field("seed").isin(list(seeds))
        frame = _read(run, table, ["step", *metrics], arms=[arm], rows=wanted)
        points.extend(_points(frame.groupby("step").mean(), metrics))
    return points


def figures(values: pd.Series) -> list[Point]:
    """Return the finite final figures among `values` as metrics at step 0."""
    return [(name, 0, float(values[name])) for name in FIGURES if np.isfinite(values[name])]


def flatten(value: object, name: str = "") -> dict[str, str]:
    """Return nested mappings and lists of mappings as dotted names and texts.

    ``{"a": {"b": 1}, "c": [True]}`` becomes ``{"a.b": "1", "c": "[true]"}``: strings as they are,
    all else as JSON.
    """
    return dict(_flat(value, name))


def _flat(value: object, name: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
        value = {str(number): item for number, item in enumerate(value)}
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _flat(item, f"{name}.{key}" if name else str(key))
    else:
        yield name, value if isinstance(value, str) else json.dumps(value)


def digest_of_rows(rows: pd.DataFrame) -> str:
    """Return a digest of rows of ``replicates``, whatever their order."""
    text = rows.sort_values(["arm", "seed"]).to_csv(index=False)
    return hashlib.sha256(f"{LAYOUT}\n{text}".encode()).hexdigest()[:16]


def digest_of_files(files: Mapping[str, Path]) -> str:
    """Return a digest of `files`, their contents by name."""
    total = hashlib.sha256()
    for name, file in sorted(files.items()):
        content = hashlib.sha256(file.read_bytes()).hexdigest()
        total.update(f"{name} {content}\n".encode())
    return total.hexdigest()[:16]


def arm_points(run: Path, arm: str, rows: pd.DataFrame) -> list[Point]:
    """Return the arm's mean curves and figures over complete replicates, and how many there are."""
    complete = rows[rows["status"] == "complete"]
    counts = rows["status"].value_counts()
    return [
        *mean_curves(run, arm, complete["seed"].tolist()),
        *figures(complete[list(FIGURES)].mean()),
        *((f"replicates_{status}", 0, float(count)) for status, count in counts.items()),
    ]


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Return a row an arm: replicates by status, mean and deviation over the complete ones."""
    counts = rows.groupby(["arm", "status"]).size().unstack(fill_value=0)
    complete = rows[rows["status"] == "complete"].groupby("arm")[list(FIGURES)].agg(["mean", "std"])
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


def _read(
    run: Path,
    table: str,
    columns: list[str],
    *,
    arms: list[str],
    blocks: list[str] | None = None,
    rows: ds.Expression | None = None,
) -> pd.DataFrame:
    try:
        dataset = tables.dataset(run, table, arms=arms, blocks=blocks)
    except RunError:  # a replicate that failed early has no steps, and is mirrored all the same
        return arrow_schema(table).empty_table().select(columns).to_pandas()
    with tables.reading(run, table):
        return dataset.to_table(columns=columns, filter=rows).to_pandas()
