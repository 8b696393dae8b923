"""Networks over blocks of replicates: flat parameters in, logits and flat gradients out.

Everything else in the experiment sees a network only through `Network` and `Forward`, so the
built-in MLP (hand-written backward pass, fastest) and any ``nn.Module`` (autograd) are the same
to it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from sublim_causal.experiment.networks.products import transposed


@dataclass(frozen=True)
class Layout:
    """Where each named parameter lies in a flat vector of length P.

    Attributes
    ----------
    names : tuple of str
        Dotted names, as ``nn.Module.named_parameters`` gives them.
    shapes : tuple of tuple of int
        Shape of each parameter.
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Number of entries of each parameter."""
        return tuple(math.prod(shape) for shape in self.shapes)

    @cached_property
    def size(self) -> int:
        """P, the length of the flat vector."""
        return sum(self.sizes)

    def views(self, flat: Tensor) -> list[Tensor]:
        """Return views ``(R, *shape)`` of each parameter in `flat`, shape ``(R, P)``."""
        parts = flat.split(self.sizes, dim=1)
        return [
            part.view(flat.shape[0], *shape) for part, shape in zip(parts, self.shapes, strict=True)
        ]

    def mask(self, layers: Iterable[str]) -> Tensor:
        """Return which parameters belong to the named layers, bool ``(P,)``."""
        mask = torch.zeros(self.size, dtype=torch.bool)
        for layer in layers:
            mask[self.layers[layer]] = True
        return mask

    @cached_property
    def layers(self) -> dict[str, slice]:
        """The span of each layer: neighbouring parameters that belong to one module."""
        spans: dict[str, slice] = {}
        start = 0
        for name, size in zip(self.names, self.sizes, strict=True):
            layer = name.rpartition(".")[0] or name
            spans[layer] = slice(spans[layer].start if layer in spans else start, start + size)
            start += size
        return spans


@dataclass(frozen=True)
class Batch:
    """A batch for each replicate, kept with its transpose because several products share it.

    Attributes
    ----------
    x : Tensor of shape (R, B, D)
        Examples: flattened images, or tokens.
    positions : tuple of int
        Where in an example of tokens its T answers are given; empty: one answer an example, T = 1.
    """

    x: Tensor
    positions: tuple[int, ...] = ()

    @cached_property
    def transposed(self) -> Tensor:
        """The examples as ``(R, D, B)``, contiguous."""
        return transposed(self.x)


class Forward(Protocol):
    """One forward pass, kept for the backward passes that start from it."""

    def logits(self, columns: slice) -> Tensor:
        """Return the logits of `columns`, shape ``(R, B * T, C)``, example by example."""

    def activations(self, layer: str) -> Tensor:
        """Return the activations of the hidden layer, flattened, shape ``(R, B, W)``."""

    def gradient(self, derivative: Tensor, at: slice | str) -> Tensor:
        """Return the flat gradient ``(R, P)``.

        `derivative` is d loss / d logits ``(R, B * T, C)`` of the columns `at`, or
        d loss / d activations ``(R, B, W)`` of the hidden layer `at`.
        """

    def pixel_gradient(self, derivative: Tensor, at: slice | str) -> Tensor:
        """Return d loss / d pixels ``(R, B, D)`` of images; derivative and `at` as in `gradient`.

        The batch's x must require gradients, else an autograd network does not keep them.
        """


@dataclass(frozen=True)
class PassCost:
    """What a forward and backward pass takes.

    Attributes
    ----------
    operations : int
        About how many operations, whatever the number of replicates.
    flop : float
        Floating-point operations of matrix products for one example.
    """

    operations: int
    flop: float


class Network(Protocol):
    """A network as a function of flat parameters."""

    @property
    def layout(self) -> Layout:
        """Names and shapes of the parameters."""

    def initialise(self, generator: torch.Generator) -> Tensor:
        """Return initial parameters ``(P,)``, float32, drawn from `generator`."""

    @property
    def batches_replicates(self) -> bool:
        """Whether replicates side by side take less time than one after another."""

    @property
    def cost(self) -> PassCost | None:
        """What a pass takes on a CPU; None where replicates share no operation there."""

    @property
    def hidden_layers(self) -> tuple[str, ...]:
        """Names of the layers whose activations `Forward` returns, from the input on."""

    def forward(self, theta: Tensor, batch: Batch) -> Forward:
        """Run R models with parameters `theta` ``(R, P)`` on their batches."""


@runtime_checkable
class Reads(Protocol):
    """A network that gives logits without keeping what a backward pass needs."""

    def read(self, theta: Tensor, batch: Batch, columns: slice) -> Tensor:
        """Return the logits ``(R, B * T, C)`` of `columns`; of large batches, part by part."""


def scaled_normal(layout: Layout, generator: torch.Generator) -> Tensor:
    """Draw weights from N(0, 1/fan_in) and set vectors (biases) to 0; shape ``(P,)``."""
    parts = []
    for shape in layout.shapes:
        if len(shape) < 2:
            parts.append(torch.zeros(shape))
        else:
            fan_in = math.prod(shape[1:])
            parts.append(torch.randn(shape, generator=generator) / math.sqrt(fan_in))
    return torch.cat([part.flatten() for part in parts])


def outputs(
    network: Network,
    theta: Tensor,
    x: Tensor,
    at: slice | str,
    positions: tuple[int, ...] = (),
    batch_size: int | None = None,
) -> Tensor:
    """Return logits ``(R, N * T, C)`` or a hidden layer's activations ``(R, N, W)``.

    Parameters
    ----------
    x : Tensor of shape (R, N, D) or (N, D)
        The same examples for every replicate where R is missing.
    at : slice or str
        Columns of the logits, or the hidden layer.
    positions : tuple of int
        As in `Batch`.
    batch_size : int, optional
        Examples of a forward pass; default: 1024, or the power of two that has at most as many
        answers.
    """
    if batch_size is None:
        most = max(1, 1024 // max(1, len(positions)))
        batch_size = 2 ** int(math.log2(most))
    shared = x.dim() == 2
    parts = []
    for start in range(0, x.shape[-2], batch_size):
        part = x[..., start : start + batch_size, :]
        part = part.expand(theta.shape[0], -1, -1) if shared else part
        batch = Batch(part, positions)
        if isinstance(network, Reads) and isinstance(at, slice):
            parts.append(network.read(theta, batch, at))
            continue
        forward = network.forward(theta, batch)
        parts.append(forward.activations(at) if isinstance(at, str) else forward.logits(at))
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def taken(x: Tensor, dim: int, positions: tuple[int, ...]) -> Tensor:
    """Return `x` at some positions of a dimension, in their order."""
    return x.index_select(dim, as_index(positions, x.device))


def as_index(positions: tuple[int, ...], device: torch.device) -> Tensor:
    """Return positions ``(T,)`` as int64 on the device."""
    return torch.tensor(positions).to(device)
