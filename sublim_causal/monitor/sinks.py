"""Where rows go while training runs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from sublim_causal.errors import RequestError

Row = dict[str, Any]
Sink = Callable[[Row], None]


@runtime_checkable
class Metrics(Protocol):
    """What takes metrics as `mlflow` does: the module itself, or an object with the same method."""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> Any:
        """Take the metrics of one step."""


@runtime_checkable
class StepLog(Protocol):
    """What takes the columns of one step by name."""

    def log(self, step: int, **columns: Any) -> Any:
        """Take the columns of one step."""


def sink_of(target: object) -> Sink:
    """Return a function of a row for `target`: `mlflow`, a recorder with `log`, or a function.

    MLflow is given finite numbers only.

    Raises
    ------
    RequestError
    """
    if isinstance(target, Metrics):
        metrics = target

        def log_metrics(row: Row) -> None:
            finite = {
                name: float(value)
                for name, value in row.items()
                if name != "step" and math.isfinite(value)
            }
            metrics.log_metrics(finite, step=row["step"])

        return log_metrics
    if isinstance(target, StepLog):
        log = target.log
        return lambda row: log(**row)
    if callable(target):
        return target
    allowed = "mlflow, a function of a row, or an object with log(step, **columns)"
    raise RequestError("sink", target, allowed)
