"""A network whose replicates run one after another, each computed as if it were alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sublim_causal.experiment.networks.base import Batch, Forward, Network


@dataclass(frozen=True)
class OneByOne:
    """A network whose replicates run one after another, so that each is computed as if alone."""

    network: Network

    def forward(self, theta: Tensor, batch: Batch) -> Stacked:
        """Run R models with parameters `theta` ``(R, P)`` on their batches."""
        pairs = zip(theta.split(1), batch.x.split(1), strict=True)
        return Stacked([self.network.forward(one, Batch(x, batch.positions)) for one, x in pairs])

    def __getattr__(self, name: str) -> Any:
        return getattr(self.network, name)


@dataclass(frozen=True)
class Stacked:
    """The forward passes of R replicates as one `Forward`."""

    parts: list[Forward]

    def _each(self, call: Callable[[Forward, Tensor], Tensor], derivative: Tensor) -> Tensor:
        pairs = zip(self.parts, derivative.split(1), strict=True)
        return torch.cat([call(part, one) for part, one in pairs])

    def logits(self, columns: slice) -> Tensor:
        """Return the logits of `columns`, shape ``(R, B, C)``."""
        return torch.cat([part.logits(columns) for part in self.parts])

    def activations(self, layer: str) -> Tensor:
        """Return the activations of a hidden layer, ``(R, B, W)``."""
        return torch.cat([part.activations(layer) for part in self.parts])

    def gradient(self, derivative: Tensor, at: slice | str) -> Tensor:
        """Return the flat gradient ``(R, P)``."""
        return self._each(lambda part, one: part.gradient(one, at), derivative)

    def pixel_gradient(self, derivative: Tensor, at: slice | str) -> Tensor:
        """Return d loss / d pixels ``(R, B, D)``."""
        return self._each(lambda part, one: part.pixel_gradient(one, at), derivative)
