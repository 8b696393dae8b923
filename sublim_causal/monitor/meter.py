"""Take the inner products of one step after another."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

from sublim_causal.errors import SublimError
from sublim_causal.monitor.products import gram, local, validate_visible
from sublim_causal.monitor.records import Grams, StepRecord
from sublim_causal.monitor.steps import loss_scale, skips, trained_by
from sublim_causal.monitor.trait import Point, State, TraitLoss, measure

Layers = Literal[False, "module"] | Callable[[str], str]


@dataclass
class OpenStep:
    """The step that is being measured.

    Attributes
    ----------
    parameters, before : list of Tensor
        The trained parameters, and what this process holds of them before the step; at the end
        `before` holds the update.
    distill, applied : Tensor or None
        Inner products, as in `Grams`.
    read_early : bool
        The distillation gradient was read before the step began.
    stepped, skipped : bool
        An optimizer made its step; it left the parameters alone.
    """

    number: int
    parameters: list[Tensor]
    point: Point
    before: list[Tensor]
    distill: Tensor | None = None
    applied: Tensor | None = None
    read_early: bool = False
    stepped: bool = False
    skipped: bool = False


class Meter:
    """Measures steps; `record` is called with each.

    It watches an optimizer (`steps.Watching`), or a block of code that makes the step.
    """

    def __init__(
        self,
        parameters: Callable[[], list[Tensor]],
        trait_loss: TraitLoss,
        every: int,
        layers: Layers,
        halves: bool,
        record: Callable[[StepRecord], None],
    ) -> None:
        self.count = 0
        self._parameters, self._trait_loss = parameters, trait_loss
        self._every, self._layers, self._halves = every, layers, halves
        self._record = record
        self._kept: tuple[Point, State] | None = None
        self.forget()

    def forget(self) -> None:
        """Drop the step that is being measured."""
        self._current: OpenStep | None = None
        self._begun = self._entered = self._in_block = False

    def _begin(self) -> None:
        """Measure the trait where the step begins, if this step is measured."""
        self._begun = True
        if self.count % self._every:
            return
        parameters = self._parameters()
        if not parameters:
            raise SublimError(
                "AlignmentMonitor: no parameter requires a gradient\n"
                "remedy: give the parameters that are trained"
            )
        validate_visible(parameters)
        self._current = OpenStep(self.count, parameters, self._point(parameters), [])

    def _point(self, parameters: list[Tensor]) -> Point:
        kept, self._kept = self._kept, None
        if kept is not None and kept[0].still_holds(kept[1], parameters):
            return kept[0]
        del kept  # frees a gradient before another one is made
        return measure(self._trait_loss, parameters, halves=self._halves, gradient=True)

    def before(self) -> None:
        """Copy the parameters."""
        if self._in_block and self._entered:
            return
        if self._entered:  # a step that raised
            self.forget()
        if not self._begun:
            self._begin()
        self._entered = True
        if self._current is not None:
            self._current.before = [local(p.detach()).clone() for p in self._current.parameters]

    @contextmanager
    def block(self) -> Iterator[list[Tensor]]:
        """Measure the step that is made inside; yield the parameters that are measured."""
        with torch.no_grad():
            self.before()
            step = self._current
            if step is not None and not step.read_early and _have_gradient(step.parameters):
                self._read(step, None)
        self._in_block = True
        try:
            yield [] if step is None else step.parameters
        except BaseException:
            self.forget()
            raise
        with torch.no_grad():
            self._finish()

    def read_early(self) -> None:
        """Read the gradient before the step begins, or in the closure that makes it."""
        if self._begun and not self._entered:
            self.skip()
        if not self._begun:
            self._begin()
        if self._current is not None:
            self._read(self._current, None)
            self._current.read_early = True

    def skip(self) -> None:
        """Record a step that was not made."""
        with torch.no_grad():
            self.before()
            self._finish()

    def read_gradient(self, optimizer: Optimizer) -> None:
        """Take the products with the gradients of the optimizer's parameters."""
        step = self._current
        if step is not None and not step.read_early:
            self._read(step, optimizer)

    def read_applied(self, optimizer: Optimizer, *, changed: bool) -> None:
        """Take the products with the gradients that the optimizer is given."""
        step = self._current
        if step is None:
            return
        if changed or step.read_early:
            step.applied = self._with_gradient(step, optimizer, step.applied)
        else:
            step.applied = step.distill

    def _read(self, step: OpenStep, optimizer: Optimizer | None) -> Tensor:
        if not _have_gradient(step.parameters):
            raise SublimError(
                "AlignmentMonitor: no parameter has a gradient\n"
                "remedy: call backward() on the distillation loss before the optimizer steps, and "
                "zero_grad() after it; DeepSpeed keeps gradients to itself: train with "
                "DistributedDataParallel or FSDP2"
            )
        step.distill = self._with_gradient(step, optimizer, step.distill)
        return step.distill

    def _with_gradient(
        self, step: OpenStep, optimizer: Optimizer | None, known: Tensor | None
    ) -> Tensor:
        """Return products with ``.grad``; of other parameters than the optimizer's, the `known`."""
        gradients = [p.grad for p in step.parameters]
        own = None if optimizer is None else set(map(id, trained_by(optimizer)))
        rows = [i for i, p in enumerate(step.parameters) if own is None or id(p) in own]
        parameters = [step.parameters[i] for i in rows]
        vectors = [[v[i] for i in rows] for v in (*step.point.gradients, gradients)]
        found = gram(vectors, parameters)
        scale = 1.0 if optimizer is None else loss_scale(optimizer)
        found[:, -1] /= scale
        found[:, :, -1] /= scale
        if known is None and len(rows) == len(step.parameters):
            return found
        if known is None:
            nothing = [None] * len(step.parameters)
            known = gram([*step.point.gradients, nothing], step.parameters)
        return known.index_copy(0, torch.tensor(rows, device=known.device), found)

    def after(self, optimizer: Optimizer) -> None:
        """Measure what the step did."""
        if self._current is not None:
            self._current.stepped = True
            self._current.skipped |= skips(optimizer)
        if not self._in_block:
            self._finish()

    def _finish(self) -> None:
        """Measure the trait where the step ends, and record the step."""
        step = self._current
        if step is not None:
            self._record(self._measured(step))
        self.count += 1
        self.forget()

    def _measured(self, step: OpenStep) -> StepRecord:
        for p, before in zip(step.parameters, step.before, strict=True):
            torch.sub(local(p.detach()), before, out=before)
        update: Sequence[Tensor] = step.before
        moved = gram([*step.point.gradients, update], step.parameters)
        if not step.stepped:
            step.skipped = not bool(moved[:, -1, -1].any())
        distill = self._read(step, None) if step.distill is None else step.distill
        if step.skipped:
            distill = distill.clone()
            distill[:, -1], distill[:, :, -1] = torch.nan, torch.nan
        loss, step.point = step.point.loss, replace(step.point, gradients=())
        end = measure(
            self._trait_loss, step.parameters, halves=self._halves, gradient=self._every == 1
        )
        after = None
        if end.gradients:
            after = gram([*end.gradients, update], step.parameters)
            self._kept = end, end.state(step.parameters)
        applied = distill if step.applied is None or step.skipped else step.applied
        products = Grams(distill, applied, moved, after).products()
        layers = self._layer_rows(step.parameters, end)
        sums = [products.sum(0), *(products[rows].sum(0) for rows in layers.values())]
        return StepRecord(
            step.number,
            step.skipped,
            torch.stack([loss, end.loss]),
            torch.stack(sums),
            tuple(layers),
        )

    def _layer_rows(self, parameters: Sequence[Tensor], point: Point) -> dict[str, list[int]]:
        """Return which parameters belong to each layer."""
        if self._layers is False:
            return {}
        known, rows = point.called.parameters(), dict[str, list[int]]()
        for i, parameter in enumerate(parameters):
            name = known[id(parameter)][0] if id(parameter) in known else f"parameter {i}"
            module = name.rpartition(".")[0] or name
            layer = self._layers(name) if callable(self._layers) else module
            rows.setdefault(layer, []).append(i)
        return rows


def _have_gradient(parameters: Sequence[Tensor]) -> bool:
    return any(p.grad is not None for p in parameters)
