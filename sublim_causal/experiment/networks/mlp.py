"""The fully connected network, with its backward pass written by hand: the fastest path."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from sublim_causal.experiment.networks.base import Batch, Layout, PassCost, scaled_normal
from sublim_causal.experiment.networks.products import (
    batched_outer_product,
    linear_backward,
    product,
    relu_layer,
    transposed,
    wants_transposed,
)

relu_backward = torch.ops.aten.threshold_backward.grad_input


@dataclass(frozen=True)
class MLP:
    """Fully connected ReLU network with a hand-written backward pass.

    Attributes
    ----------
    sizes : tuple of int
        Widths from the input to the logits: ``(784, 256, 256, 13)``.
    """

    sizes: tuple[int, ...]
    batches_replicates: ClassVar = False

    @cached_property
    def layout(self) -> Layout:
        """Weights ``(out, in)`` and biases ``(out,)`` named as in ``nn.Sequential``."""
        names, shapes = [], []
        for i, (n_in, n_out) in enumerate(itertools.pairwise(self.sizes)):
            names += [f"{2 * i}.weight", f"{2 * i}.bias"]
            shapes += [(n_out, n_in), (n_out,)]
        return Layout(tuple(names), tuple(shapes))

    @cached_property
    def hidden_layers(self) -> tuple[str, ...]:
        """All layers but the last; their activations are those after the ReLU."""
        return tuple(self.layout.layers)[:-1]

    @cached_property
    def cost(self) -> PassCost:
        """Every parameter takes part in three products of an example."""
        return PassCost(10 * len(self.layout.layers), 6 * self.layout.size)

    def initialise(self, generator: torch.Generator) -> Tensor:
        """Weights N(0, 1/fan_in), biases 0."""
        return scaled_normal(self.layout, generator)

    def forward(self, theta: Tensor, batch: Batch) -> MLPForward:
        """Run the hidden layers; logits are computed when asked for."""
        parameters = self.layout.views(theta)
        hidden = []
        x = batch.x
        for weight, bias in zip(parameters[:-2:2], parameters[1:-2:2], strict=True):
            x = relu_layer(x, weight, bias)
            hidden.append(x)
        return MLPForward(self.layout, batch, parameters, hidden)


@dataclass(frozen=True)
class MLPForward:
    """Hidden activations of one forward pass of `MLP`.

    Attributes
    ----------
    layout : Layout
    batch : Batch
    parameters : list of Tensor
        Weight ``(R, out, in)`` and bias ``(R, out)`` of each layer, in turn.
    hidden : list of Tensor
        Activations ``(R, B, width)`` after each ReLU.
    """

    layout: Layout
    batch: Batch
    parameters: list[Tensor]
    hidden: list[Tensor]

    def logits(self, columns: slice) -> Tensor:
        """Return the logits of `columns`, shape ``(R, B, C)``."""
        weight, bias = self.parameters[-2][:, columns], self.parameters[-1][:, columns]
        last = self.hidden[-1] if self.hidden else self.batch.x
        return torch.baddbmm(bias[:, None], last, weight.transpose(1, 2))

    @cached_property
    def _inputs(self) -> list[Tensor]:
        """What enters each layer, ``(R, B, width)``."""
        return [self.batch.x, *self.hidden]

    @cached_property
    def _inputs_transposed(self) -> list[Tensor]:
        return [self.batch.transposed, *map(transposed, self.hidden)]

    def activations(self, layer: str) -> Tensor:
        """Return the activations ``(R, B, W)`` of a layer, after its ReLU."""
        return self.hidden[self._number(layer)]

    def _number(self, layer: str) -> int:
        return list(self.layout.layers).index(layer)

    def gradient(self, derivative: Tensor, at: slice | str) -> Tensor:
        """Backpropagate; what does not lead to `at` has gradient zero."""
        flat = derivative.new_empty(derivative.shape[0], self.layout.size)
        gradients = self.layout.views(flat)
        if isinstance(at, str):
            for unused in gradients[2 * self._number(at) + 2 :]:
                unused.zero_()
        else:
            torch.bmm(derivative.mT, self._inputs[-1], out=gradients[-2].zero_()[:, at])
            gradients[-1].zero_()[:, at] = derivative.sum(dim=1)
        for layer, delta in self._deltas(derivative, at):
            if wants_transposed(delta):
                x = self._inputs_transposed[layer]
                gradients[2 * layer].copy_(batched_outer_product(transposed(delta), x))
            else:
                product(delta.mT, self._inputs[layer], out=gradients[2 * layer])
            torch.sum(delta, dim=1, out=gradients[2 * layer + 1])
        return flat

    def _deltas(self, derivative: Tensor, at: slice | str) -> Iterator[tuple[int, Tensor]]:
        """Yield d loss / d (what enters the ReLU) ``(R, B, width)``, layer by layer downwards."""
        if isinstance(at, str):
            top, delta = self._number(at), derivative.clone()
        elif self.hidden:
            top = len(self.hidden) - 1
            delta = torch.bmm(derivative, self.parameters[-2][:, at])
        else:
            return
        for layer in range(top, -1, -1):
            relu_backward(delta, self.hidden[layer], 0, grad_input=delta)
            yield layer, delta
            if layer:
                delta = linear_backward(delta, self.parameters[2 * layer])

    def pixel_gradient(self, derivative: Tensor, at: slice | str) -> Tensor:
        """Backpropagate to the pixels."""
        if isinstance(at, slice) and not self.hidden:
            return torch.bmm(derivative, self.parameters[-2][:, at])
        *_, (_, delta) = self._deltas(derivative, at)
        return linear_backward(delta, self.parameters[0])
