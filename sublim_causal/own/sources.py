"""Read tables that other programs made: CSV, Parquet, JSON lines, MLflow's runs, W&B's export."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import pandas as pd

from sublim_causal.errors import DataError, RequestError
from sublim_causal.location import locate

MLFLOW = "mlflow:"
STATUS, REASON, SECONDS = "status", "reason", "seconds"
WANDB = {"Name", "State", "Runtime"}
"""Columns of the table of runs that W&B exports."""
FAILED = {"failed", "crashed", "killed", "running", "preempted", "scheduled"}
"""States of runs, in small letters, that did not come to their end."""
READERS: Mapping[str, Callable[[IO[bytes]], pd.DataFrame]] = {
    ".csv": pd.read_csv,
    ".parquet": pd.read_parquet,
    ".jsonl": lambda file: pd.read_json(file, lines=True),
}


def read_source(
    source: str, tracking_uri: str | None = None, *, steps: bool = False
) -> pd.DataFrame:
    """Read a table of replicates or steps.

    Parameters
    ----------
    source : str
        A file that ends in .csv, .parquet or .jsonl, or ``"mlflow:EXPERIMENT"``.
    tracking_uri : str, optional
        MLflow store; default: MLflow's own.
    steps : bool
        Whether the steps of MLflow's metrics are read, with the column ``step``.

    Returns
    -------
    DataFrame
        One row a replicate or step. Runs of MLflow and W&B have ``status``, ``reason`` and
        ``seconds`` by their states.

    Raises
    ------
    RequestError
        If the source is none of these.
    DataError
        If it cannot be read, or holds nothing.
    """
    if source.startswith(MLFLOW):
        frame = _mlflow(source.removeprefix(MLFLOW), tracking_uri, steps)
    else:
        frame = _file(locate(source))
    if frame.empty:
        raise DataError(f"{source}: it holds no rows")
    return frame


def _file(path: Path) -> pd.DataFrame:
    if path.suffix not in READERS or not path.is_file():
        raise RequestError(
            "--from", str(path), f"a file that ends in {', '.join(READERS)}, or mlflow:EXPERIMENT"
        )
    try:
        with path.open("rb") as file:
            frame = READERS[path.suffix](file)
    except (ValueError, OSError) as error:
        raise DataError(f"{path}: cannot be read: {str(error).splitlines()[0]}") from None
    return _of_wandb(frame) if set(frame.columns) >= WANDB else frame


def _of_wandb(frame: pd.DataFrame) -> pd.DataFrame:
    """Give the runs of a W&B export their status; ``Runtime`` is in seconds."""
    states = frame["State"].astype(str)
    lost = states.str.lower().isin(FAILED)
    return frame.assign(
        **{
            STATUS: lost.map({True: "failed", False: "complete"}),
            REASON: ("W&B says: " + states).where(lost, ""),
            SECONDS: pd.to_numeric(frame["Runtime"], errors="coerce"),
        }
    ).drop(columns=["State", "Runtime"])


def _mlflow(experiment: str, tracking_uri: str | None, steps: bool) -> pd.DataFrame:
    """Read the runs of an experiment: parameters, tags and last metrics by their names."""
    from mlflow import MlflowClient

    from sublim_causal.store.connection import TrackingError, reaching

    rows: list[dict[str, Any]] = []
    try:
        with reaching(tracking_uri or "that is MLflow's default"):
            from mlflow import MlflowClient

            client = MlflowClient(tracking_uri)
            found = client.get_experiment_by_name(experiment)
            if found is None:
                raise DataError(
                    f"mlflow:{experiment}: there is no experiment of this name\n"
                    "remedy: name the store with --tracking-uri, or MLFLOW_TRACKING_URI"
                )
            token: str | None = ""
            while token is not None:
                page = client.search_runs([found.experiment_id], page_token=token or None)
                for run in page:
                    rows += _steps_of(client, run) if steps else [_row(run)]
                token = page.token or None
    except TrackingError as error:
        raise DataError(f"{str(error).splitlines()[0]}\nremedy: check --tracking-uri") from None
    return pd.DataFrame(rows)


def _row(run: Any) -> dict[str, Any]:
    tags = {name: value for name, value in run.data.tags.items() if not name.startswith("mlflow.")}
    row: dict[str, Any] = {**tags, **run.data.params, **run.data.metrics}
    state = str(run.info.status)
    done = state == "FINISHED"
    row[STATUS] = "complete" if done else "failed"
    row[REASON] = "" if done else f"MLflow says: {state}"
    if run.info.end_time is not None:
        row[SECONDS] = (run.info.end_time - run.info.start_time) / 1000
    return row


def _steps_of(client: Any, run: Any) -> list[dict[str, Any]]:
    """Return one row per step with all metrics of a run."""
    common = {name: value for name, value in _row(run).items() if name not in run.data.metrics}
    by_step: dict[int, dict[str, Any]] = {}
    for name in run.data.metrics:
        for point in client.get_metric_history(run.info.run_id, name):
            by_step.setdefault(point.step, {})[name] = point.value
    rows = [{**common, "step": step, **values} for step, values in sorted(by_step.items())]
    return rows or [{**common, "step": 0}]
