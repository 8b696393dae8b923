"""Measure alignment in a training loop of your own, with the definitions of the step table.

::

    monitor = AlignmentMonitor(optimizer, lambda: cross_entropy(model(x), y))
    handle = monitor.attach(optimizer)
    for batch in batches:
        optimizer.zero_grad()
        distillation_loss(model, batch).backward()
        optimizer.step()
    table = monitor.table()
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_pre_hook

from sublim_causal.errors import RequestError, SublimError
from sublim_causal.monitor.meter import Layers, Meter
from sublim_causal.monitor.records import StepRecord, layer_rows, step_rows
from sublim_causal.monitor.sinks import Sink, sink_of
from sublim_causal.monitor.steps import Handle, attached, plain_optimizer, stage_of, trained_by
from sublim_causal.monitor.trait import TraitLoss

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    "trait_loss",
    "cos_gradient",
    "cos_half_a",
    "cos_half_b",
    "cos_applied",
    "cos_update",
    "norm_distill",
    "norm_trait",
    "norm_applied",
    "norm_update",
    "drive",
    "drive_end",
    "gain",
    "remainder",
)
"""Columns of the step table that a monitor gives; the halves only with ``half_probes``."""
HALVES = ("cos_half_a", "cos_half_b")
LAYER_COLUMNS = ("cos_gradient", "cos_applied", "cos_update", "drive")


class AlignmentMonitor:
    r"""Records how each optimizer step moves a trait loss, to first order and in fact.

    With g the trait gradient before the step, d the distillation gradient and u the update:
    ``cos_update`` :math:`= \cos(-u, g)`, ``drive`` :math:`= -\langle g, u \rangle`, ``gain`` is the
    drop of the trait loss, and ``remainder = gain - drive``; the columns are those of the step
    table.

    Parameters
    ----------
    optimizer_or_parameters : torch.optim.Optimizer or iterable of Tensor
        What is trained. Parameters that are frozen when a step is made are left out of it.
    trait_loss : callable
        Returns the scalar trait loss at the current parameters, on a fixed probe. With
        `half_probes` it returns a pair, the mean losses of the two halves of the probe.
    every : int
        Measure steps 0, `every`, 2 `every`, ... From 2 on the trait gradient after a step is not
        measured (``drive_end`` is NaN).
    layers : False, "module" or callable
        Measure each layer, too: each module that owns parameters, or each name that the callable
        returns, given a parameter's name.
    half_probes : bool
        Measure the gradient of each half of the probe.
    sink : object, optional
        As for `log_to`.

    Raises
    ------
    RequestError
        If an option is not allowed.

    Notes
    -----
    Cost: with ``every=1`` one forward and backward pass of the trait loss a step, since the
    measurement after a step serves the next one if weights and buffers are the same bit for bit;
    otherwise a forward pass more (with ``every=1``: a forward and backward pass more). Extra memory
    at peak: twice the trained parameters, three times with `half_probes`.

    The trait loss runs in eval mode. Parameters, ``.grad``, buffers, training mode and the random
    streams of Python, NumPy and PyTorch are as before. Random numbers that the trait loss draws are
    the same at every measurement.

    Under `DistributedDataParallel` and FSDP2 every process holds the whole table, and the first one
    calls the sinks; the trait loss is the mean over the processes.

    A step that `torch.amp.GradScaler` skips has a row in which ``skipped`` is true and the
    columns of the gradient are NaN.
    """

    def __init__(
        self,
        optimizer_or_parameters: Optimizer | Iterable[Tensor],
        trait_loss: TraitLoss,
        *,
        every: int = 1,
        layers: Layers = False,
        half_probes: bool = False,
        sink: object = None,
    ) -> None:
        if not isinstance(every, int) or isinstance(every, bool) or every < 1:
            raise RequestError("every", every, "a whole number that is at least 1")
        if layers not in (False, "module") and not callable(layers):
            raise RequestError("layers", layers, "False, 'module', or a function of a name")
        self._trained = (
            plain_optimizer(optimizer_or_parameters)
            if isinstance(optimizer_or_parameters, Optimizer)
            else list({id(p): p for p in optimizer_or_parameters}.values())
        )
        self._columns = tuple(name for name in COLUMNS if half_probes or name not in HALVES)
        self._sinks: list[Sink] = [] if sink is None else [sink_of(sink)]
        self._records: list[StepRecord] = []
        self._attached = False
        self._meter = Meter(self._parameters, trait_loss, every, layers, half_probes, self._record)

    def _parameters(self) -> list[Tensor]:
        trained = self._trained
        listed = trained_by(trained) if isinstance(trained, Optimizer) else trained
        return [p for p in listed if p.requires_grad]

    def _record(self, record: StepRecord) -> None:
        self._records.append(record)
        if self._sinks and (not dist.is_initialized() or dist.get_rank() == 0):
            (row,) = step_rows([record], self._columns)
            for sink in self._sinks:
                sink(row)

    @contextmanager
    def step(self) -> Iterator[None]:
        """Measure the optimizer step made inside; ``.grad`` holds the distillation gradient.

        Allowed inside are ``optimizer.step()``, ``scaler.step(optimizer)``, or the steps of several
        optimizers.

        Raises
        ------
        SublimError
            If no parameter has a gradient, or none gets one from the trait loss.
        """
        if self._attached:
            raise SublimError(
                "AlignmentMonitor.step: the monitor is already attached to the optimizer\n"
                "remedy: call optimizer.step() without this block, or handle.remove() first"
            )
        with self._meter.block() as parameters:
            own = set(map(id, parameters))
            handles: list[Handle] = []

            def join(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
                stage = stage_of(optimizer)
                mine = any(id(p) in own for p in trained_by(optimizer))
                if mine and self._meter not in stage.watching:
                    handles.append(attached(stage.watching, self._meter))

            hook = register_optimizer_step_pre_hook(join)
            try:
                yield
            finally:
                hook.remove()
                for handle in handles:
                    handle.remove()

    def attach(self, optimizer: Optimizer, *, scaler: torch.amp.GradScaler | None = None) -> Handle:
        """Measure every step that `optimizer` makes from now on, until ``handle.remove()``.

        Parameters
        ----------
        optimizer : torch.optim.Optimizer
        scaler : torch.amp.GradScaler, optional
            What calls the optimizer; with it, a step that is skipped has a row, too.

        Raises
        ------
        SublimError
            If the monitor is attached already, or the optimizer trains none of its parameters.
        """
        optimizer = plain_optimizer(optimizer)
        if self._attached:
            raise SublimError(
                "AlignmentMonitor.attach: the monitor is already attached to an optimizer\n"
                "remedy: call handle.remove() first; for the steps of several optimizers together, "
                "use `with monitor.step():`"
            )
        own = set(map(id, self._parameters()))
        if not any(id(p) in own for p in trained_by(optimizer)):
            raise SublimError(
                "AlignmentMonitor.attach: the optimizer trains none of the monitor's parameters\n"
                "remedy: make the monitor from this optimizer"
            )
        self._attached = True
        watching = attached(stage_of(optimizer).watching, self._meter)
        scaling = None if scaler is None else _with_skipped(scaler, optimizer, self._meter)

        def detach() -> None:
            watching.remove()
            self._attached = False
            self._meter.forget()
            if scaling is not None:
                scaling.remove()

        return Handle(detach)

    def read_gradient(self) -> None:
        """Read the distillation gradient now, before it is clipped or changed otherwise.

        Call it once a step: after the last backward pass and ``scaler.unscale_``, before clipping.
        ``cos_gradient`` and ``norm_distill`` are then of this gradient, ``cos_applied`` and
        ``norm_applied`` of the one that the optimizer is given.
        """
        with torch.no_grad():
            self._meter.read_early()

    def log_to(self, target: object) -> Handle:
        """Send each row on as it is measured.

        Parameters
        ----------
        target : object
            `mlflow` (or what has its ``log_metrics``), a function that is given the row as a dict,
            or an object with ``log(step, **columns)``.
        """
        sink = sink_of(target)
        self._sinks.append(sink)
        return Handle(lambda: self._sinks.remove(sink))

    def table(self) -> pd.DataFrame:
        """Return one row per measured step, with the columns and units of the step table.

        ``step`` counts the optimizer's steps from 0; ``skipped`` is true where it made none. A
        cosine with a zero vector is 0.
        """
        import pandas as pd

        rows = step_rows(self._records, self._columns)
        return pd.DataFrame(rows, columns=["step", *self._columns, "skipped"])

    def layer_table(self) -> pd.DataFrame:
        """Return one row per measured step and layer: cosines, and drive, which sums over layers.

        It is empty without `layers`.
        """
        import pandas as pd

        rows = layer_rows(self._records, LAYER_COLUMNS)
        return pd.DataFrame(rows, columns=["step", "layer", *LAYER_COLUMNS])


def _with_skipped(scaler: torch.amp.GradScaler, own: Optimizer, meter: Meter) -> Handle:
    """Have `meter` record the steps that `scaler` skips."""
    call = scaler.step

    def step(optimizer: Optimizer, *args: Any, **kwargs: Any) -> Any:
        count = meter.count
        result = call(optimizer, *args, **kwargs)
        if plain_optimizer(optimizer) is own and meter.count == count:
            meter.skip()
        return result

    def restore() -> None:
        scaler.step = call  # type: ignore[method-assign]

    scaler.step = step  # type: ignore[method-assign]
    return Handle(restore)
