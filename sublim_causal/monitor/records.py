"""What a monitor keeps of a step, and the columns of the step table that it gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sublim_causal.experiment.alignment import AT_POINT, OF_STEP, StepColumns, derive

PRODUCTS = ("aa", "bb", "ab", "dd", "da", "db", "applied_trait", "applied_applied", "ut", "uu")
"""Inner products of a step, by the names of `AT_POINT` and `OF_STEP`; ``end`` comes after them."""


@dataclass(frozen=True)
class Grams:
    """Inner products of one step, parameter by parameter.

    Each is ``(parameters, k + 1, k + 1)``: of the k trait gradients (one, or two by halves of the
    probe), followed by one more vector.

    Attributes
    ----------
    distill, applied, update : Tensor
        With the distillation gradient, the applied gradient and the update; trait gradients before
        the step.
    end : Tensor or None
        With the update; trait gradients after the step. None where these were not measured.
    """

    distill: Tensor
    applied: Tensor
    update: Tensor
    end: Tensor | None

    def products(self) -> Tensor:
        """Return what `PRODUCTS` names and ``end``, ``(parameters, 11)``."""
        v = self.distill.shape[1] - 1
        a, b = 0, v - 1
        d = self.distill
        end = torch.full_like(d[:, v, v], torch.nan) if self.end is None else _drop(self.end)
        return torch.stack(
            [
                d[:, a, a],
                d[:, b, b],
                d[:, a, b],
                d[:, v, v],
                d[:, v, a],
                d[:, v, b],
                (self.applied[:, v, a] + self.applied[:, v, b]) / 2,
                self.applied[:, v, v],
                _drop(self.update),
                self.update[:, v, v],
                end,
            ],
            dim=1,
        )


def _drop(gram: Tensor) -> Tensor:
    """Return minus the product of the last vector with the mean of the trait gradients."""
    v = gram.shape[1] - 1
    return -(gram[:, v, 0] + gram[:, v, v - 1]) / 2


@dataclass(frozen=True)
class StepRecord:
    """One measured step.

    Attributes
    ----------
    losses : Tensor of shape (2,)
        Trait loss before and after the step.
    products : Tensor of shape (1 + layers, 11)
        What `PRODUCTS` names and ``end``: of all parameters, then of each layer.
    """

    step: int
    skipped: bool
    losses: Tensor
    products: Tensor
    layers: tuple[str, ...]


def columns_of(records: Sequence[StepRecord], rows: slice) -> StepColumns:
    """Return the columns of the step table, ``(T, rows)``, of some rows of the products."""
    losses = torch.stack([one.losses for one in records]).cpu().numpy()
    products = torch.stack([one.products[rows] for one in records]).cpu().numpy()
    named = {name: products[:, :, i] for i, name in enumerate(PRODUCTS)}
    shape = products.shape[:2]
    nothing = np.full(shape, np.nan)
    # Two points a step, so that a row has no part in the next step.
    before = {"trait_loss": np.broadcast_to(losses[:, :1], shape), "end": nothing}
    after = {"trait_loss": np.broadcast_to(losses[:, 1:], shape), "end": products[:, :, -1]}
    raw: dict[str, NDArray[np.float64]] = {}
    for name in AT_POINT:
        first = before.get(name, named.get(name, nothing))
        raw[name] = _interleaved(first, after.get(name, nothing))
    for name in OF_STEP:
        raw[name] = _interleaved(named.get(name, nothing), nothing)
    return {name: values[::2] for name, values in derive(raw).items()}


def _interleaved(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.stack([first, second], axis=1).reshape(2 * len(first), -1)


def step_rows(records: Sequence[StepRecord], names: Sequence[str]) -> list[dict[str, Any]]:
    """Return the rows of the step table with the columns `names`."""
    if not records:
        return []
    columns = columns_of(records, slice(0, 1))
    return [
        {
            "step": one.step,
            **{name: float(columns[name][i, 0]) for name in names},
            "skipped": one.skipped,
        }
        for i, one in enumerate(records)
    ]


def layer_rows(records: Sequence[StepRecord], names: Sequence[str]) -> list[dict[str, Any]]:
    """Return the rows of the layer table, with the columns `names`."""
    rows = []
    for layers, group in groupby(records, lambda one: one.layers):
        same = list(group)
        if not layers:
            continue
        columns = columns_of(same, slice(1, None))
        for i, one in enumerate(same):
            for j, layer in enumerate(layers):
                values = {name: float(columns[name][i, j]) for name in names}
                rows.append({"step": one.step, "layer": layer, **values})
    return rows
