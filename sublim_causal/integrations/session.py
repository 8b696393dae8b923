"""A monitor and a guard for the length of one training, and where its rows go."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sublim_causal.monitor import AlignmentMonitor, Handle, guard
from sublim_causal.monitor.meter import Layers

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

ModelLoss = Callable[["nn.Module"], "Tensor | tuple[Tensor, Tensor]"]


@dataclass(frozen=True)
class SessionOptions:
    """What both callbacks take; see `AlignmentMonitor` and `guard`."""

    trait_loss: ModelLoss
    every: int
    layers: Layers
    half_probes: bool
    sink: object
    guard: Mapping[str, Any] | None


@dataclass(frozen=True)
class Session:
    """What is attached to the optimizer of one training.

    Attributes
    ----------
    pending : list of dict
        Rows since the last call of `means`.
    """

    monitor: AlignmentMonitor
    handles: tuple[Handle, ...]
    pending: list[dict[str, Any]]

    def means(self) -> dict[str, float]:
        """Return ``alignment/COLUMN``, means over the steps since the last call."""
        rows = self.pending.copy()
        self.pending.clear()
        values: dict[str, list[float]] = {}
        for row in rows:
            for name, value in row.items():
                if name not in ("step", "skipped") and math.isfinite(value):
                    values.setdefault(f"alignment/{name}", []).append(value)
        return {name: math.fsum(some) / len(some) for name, some in values.items()}

    def finish(self, folder: Path | None) -> None:
        """Detach everything; write ``alignment.csv``, and ``alignment_layers.csv`` with layers."""
        for handle in self.handles:
            handle.remove()
        if folder is None:
            return
        folder.mkdir(parents=True, exist_ok=True)
        self.monitor.table().to_csv(folder / "alignment.csv", index=False)
        layers = self.monitor.layer_table()
        if len(layers):
            layers.to_csv(folder / "alignment_layers.csv", index=False)


def begin(
    options: SessionOptions,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler | None = None,
) -> Session:
    """Attach a monitor, and a guard if there are options for one."""

    def trait_loss() -> Tensor | tuple[Tensor, Tensor]:
        return options.trait_loss(model)

    def whole() -> Tensor:
        found = trait_loss()
        return (found[0] + found[1]) / 2 if isinstance(found, tuple) else found

    pending: list[dict[str, Any]] = []
    monitor = AlignmentMonitor(
        optimizer,
        trait_loss,
        every=options.every,
        layers=options.layers,
        half_probes=options.half_probes,
        sink=options.sink,
    )
    monitor.log_to(pending.append)
    handles = [monitor.attach(optimizer, scaler=scaler)]
    if options.guard is not None:
        handles.append(guard(optimizer, whole, **options.guard))
    return Session(monitor, tuple(handles), pending)


class WithSession:
    """The options of a callback, and the monitor of its last training."""

    def __init__(
        self,
        trait_loss: ModelLoss,
        *,
        every: int = 1,
        layers: Layers = False,
        half_probes: bool = False,
        sink: object = None,
        guard: Mapping[str, Any] | None = None,
    ) -> None:
        self._options = SessionOptions(trait_loss, every, layers, half_probes, sink, guard)
        self._session: Session | None = None

    @property
    def monitor(self) -> AlignmentMonitor | None:
        """The monitor of the last training; None before the first."""
        return None if self._session is None else self._session.monitor
