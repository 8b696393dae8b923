"""Networks over blocks of replicates: flat parameters in, logits and flat gradients out.

Everything else in the experiment sees a network only through `Network` and `Forward`, so the
built-in MLP (hand-written backward pass, fastest) and any ``nn.Module`` (autograd) are the same
to it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Protocol

import torch
from torch import Tensor

from sublim_causal.experiment.products import FastLinear, batched_outer_product, transposed

relu_backward = torch.ops.aten.threshold_backward.grad_input


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
    pixels : Tensor of shape (R, B, D)
        Flattened images in [-1, 1].
    """

    pixels: Tensor

    @cached_property
    def transposed(self) -> Tensor:
        """The pixels as ``(R, D, B)``, contiguous."""
        return transposed(self.pixels)


class Forward(Protocol):
    """One forward pass, kept for the backward passes that start from it."""

    def logits(self, columns: slice) -> Tensor:
        """Return the logits of `columns`, shape ``(R, B, C)``."""

    def activations(self, layer: str) -> Tensor:
        """Return what the hidden layer puts out, flattened, shape ``(R, B, W)``."""

    def gradient(self, derivative: Tensor, at: slice | str) -> Tensor:
        """Return the flat gradient ``(R, P)``.

        `derivative` is d loss / d logits ``(R, B, C)`` of the columns `at`, or
        d loss / d activations ``(R, B, W)`` of the hidden layer `at`.
        """

    def pixel_gradient(self, derivative: Tensor, columns: slice) -> Tensor:
        """Return d loss / d pixels ``(R, B, D)`` given d loss / d logits ``(R, B, C)``.

        The batch's pixels must require gradients, else an autograd network does not keep them.
        """


class Network(Protocol):
    """A network as a function of flat parameters."""

    @property
    def layout(self) -> Layout:
        """Names and shapes of the parameters."""

    def initialise(self, generator: torch.Generator) -> Tensor:
        """Return initial parameters ``(P,)``, float32, drawn from `generator`."""

    @property
    def hidden_layers(self) -> tuple[str, ...]:
        """Names of the layers whose activations `Forward` can tell, from the input on."""

    def forward(self, theta: Tensor, images: Batch) -> Forward:
        """Run R models with parameters `theta` ``(R, P)`` on their batches."""


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


@dataclass(frozen=True)
class MLP:
    """Fully connected ReLU network with a hand-written backward pass.

    Attributes
    ----------
    sizes : tuple of int
        Widths from the input to the logits: ``(784, 256, 256, 13)``.
    """

    sizes: tuple[int, ...]

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

    def initialise(self, generator: torch.Generator) -> Tensor:
        """Weights N(0, 1/fan_in), biases 0."""
        return scaled_normal(self.layout, generator)

    def forward(self, theta: Tensor, images: Batch) -> MLPForward:
        """Run the hidden layers; logits are computed when asked for."""
        parameters = self.layout.views(theta)
        hidden = []
        x = images.pixels
        for weight, bias in zip(parameters[:-2:2], parameters[1:-2:2], strict=True):
            x = batched_outer_product(x, weight).add_(bias[:, None]).relu_()
            hidden.append(x)
        return MLPForward(self.layout, images, parameters, hidden)


@dataclass(frozen=True)
class MLPForward:
    """Hidden activations of one forward pass of `MLP`.

    Attributes
    ----------
    layout : Layout
    images : Batch
    parameters : list of Tensor
        Weight ``(R, out, in)`` and bias ``(R, out)`` of each layer, in turn.
    hidden : list of Tensor
        Activations ``(R, B, width)`` after each ReLU.
    """

    layout: Layout
    images: Batch
    parameters: list[Tensor]
    hidden: list[Tensor]

    def logits(self, columns: slice) -> Tensor:
        """Return the logits of `columns`, shape ``(R, B, C)``."""
        weight, bias = self.parameters[-2][:, columns], self.parameters[-1][:, columns]
        last = self.hidden[-1] if self.hidden else self.images.pixels
        return torch.baddbmm(bias[:, None], last, weight.transpose(1, 2))

    @cached_property
    def _hidden_transposed(self) -> list[Tensor]:
        return [transposed(h) for h in self.hidden]

    def activations(self, layer: str) -> Tensor:
        """Return the activations ``(R, B, W)`` of a layer, after its ReLU."""
        return self.hidden[self._number(layer)]

    def _number(self, layer: str) -> int:
        return list(self.layout.layers).index(layer)

    def gradient(self, derivative: Tensor, at: slice | str) -> Tensor:
        """Backpropagate; what does not lead to `at` has gradient zero."""
        flat = derivative.new_empty(derivative.shape[0], self.layout.size)
        gradients = self.layout.views(flat)
        inputs_t = [self.images.transposed, *self._hidden_transposed]
        if isinstance(at, str):
            for unused in gradients[2 * self._number(at) + 2 :]:
                unused.zero_()
        else:
            delta_t = derivative.transpose(1, 2)
            gradients[-2].zero_()[:, at] = torch.bmm(delta_t, inputs_t[-1].transpose(1, 2))
            gradients[-1].zero_()[:, at] = delta_t.sum(dim=2)
        for layer, delta_t in self._deltas(derivative, at):
            gradients[2 * layer].copy_(batched_outer_product(delta_t, inputs_t[layer]))
            torch.sum(delta_t, dim=2, out=gradients[2 * layer + 1])
        return flat

    def _deltas(self, derivative: Tensor, at: slice | str) -> Iterator[tuple[int, Tensor]]:
        """Yield d loss / d (what enters the ReLU) ``(R, width, B)``, layer by layer downwards."""
        if isinstance(at, str):
            top = self._number(at)
            delta_t = derivative.mT.clone(memory_format=torch.contiguous_format)
        elif self.hidden:
            top = len(self.hidden) - 1
            delta_t = torch.bmm(self.parameters[-2][:, at].transpose(1, 2), derivative.mT)
        else:
            return
        for layer in range(top, -1, -1):
            relu_backward(delta_t, self._hidden_transposed[layer], 0, grad_input=delta_t)
            yield layer, delta_t
            if layer:
                weight_t = transposed(self.parameters[2 * layer])
                delta_t = batched_outer_product(weight_t, transposed(delta_t))

    def pixel_gradient(self, derivative: Tensor, columns: slice) -> Tensor:
        """Backpropagate to the pixels."""
        if not self.hidden:
            return torch.bmm(derivative, self.parameters[-2][:, columns])
        *_, (_, delta_t) = self._deltas(derivative, columns)
        return batched_outer_product(transposed(delta_t), transposed(self.parameters[0]))


@dataclass(frozen=True)
class ModuleNetwork:
    """Any ``nn.Module`` without state or randomness of its own, through autograd.

    Attributes
    ----------
    build : callable
        Makes the module; it takes images ``(B, *image_shape)`` and returns logits ``(B, K)``.
    image_shape : tuple of int
        ``(channels, height, width)``.
    scaled : bool
        Initialise by `scaled_normal` instead of by the module itself.
    """

    build: Callable[[], torch.nn.Module]
    image_shape: tuple[int, ...]
    scaled: bool = False

    @cached_property
    def module(self) -> torch.nn.Module:
        """A skeleton whose own parameters are never used."""
        return self.build()

    @cached_property
    def layout(self) -> Layout:
        """The module's parameters in its own order."""
        named = dict(self.module.named_parameters())
        return Layout(tuple(named), tuple(tuple(p.shape) for p in named.values()))

    def initialise(self, generator: torch.Generator) -> Tensor:
        """Draw from `scaled_normal`, or build the module anew under a seed from `generator`."""
        if self.scaled:
            return scaled_normal(self.layout, generator)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(torch.randint(2**62, (1,), generator=generator)))
            parameters = self.build().parameters()
        return torch.cat([p.detach().flatten().float() for p in parameters])

    @cached_property
    def hidden_layers(self) -> tuple[str, ...]:
        """All parts of the module, by their dotted names; their activations are what they return.

        A part that holds others counts too, but for the one that returns the logits last.
        """
        return tuple(name for name, _ in self.module.named_modules() if name)

    def forward(self, theta: Tensor, images: Batch) -> ModuleForward:
        """Run the module functionally on each replicate's parameters."""
        leaves = [v.detach().requires_grad_() for v in self.layout.views(theta)]
        return ModuleForward(self._run(leaves, images.pixels), leaves, images.pixels, self)

    def _run(self, leaves: Sequence[Tensor], images: Tensor, layer: str = "") -> Tensor:
        """Return the logits, or what the part `layer` returns, flattened: ``(R, B, W)``."""
        call = partial(self._call, layer=layer)
        with torch.enable_grad():
            pixels = images.view(*images.shape[:2], *self.image_shape)
            if len(images) > 1:
                return torch.vmap(call, randomness="error")(dict(self._named(leaves)), pixels)
            with FastLinear():
                return call({n: v[0] for n, v in self._named(leaves)}, pixels[0])[None]

    def _named(self, leaves: Sequence[Tensor]) -> zip[tuple[str, Tensor]]:
        return zip(self.layout.names, leaves, strict=True)

    def _call(self, parameters: Mapping[str, Tensor], pixels: Tensor, layer: str) -> Tensor:
        if not layer:
            return torch.func.functional_call(self.module, dict(parameters), (pixels,))
        returned: list[Tensor] = []
        part = self.module.get_submodule(layer)
        hook = part.register_forward_hook(lambda _, __, output: returned.append(output))
        try:
            torch.func.functional_call(self.module, dict(parameters), (pixels,))
        finally:
            hook.remove()
        return returned[-1].flatten(1)


@dataclass(frozen=True)
class ModuleForward:
    """Logits ``(R, B, K)`` of `ModuleNetwork` with the graph and leaves they came from.

    Its pixels are part of the graph if they require gradients.
    """

    all_logits: Tensor
    leaves: list[Tensor]
    pixels: Tensor
    network: ModuleNetwork

    def logits(self, columns: slice) -> Tensor:
        """Return the logits of `columns`, shape ``(R, B, C)``, detached."""
        return self.all_logits.detach()[:, :, columns]

    @cached_property
    def _activations(self) -> dict[str, Tensor]:
        """Activations by layer, each from a pass of its own when first asked for."""
        return {}

    def _at(self, layer: str) -> Tensor:
        if layer not in self._activations:
            self._activations[layer] = self.network._run(self.leaves, self.pixels, layer)
        return self._activations[layer]

    def activations(self, layer: str) -> Tensor:
        """Return what a part of the module returns, ``(R, B, W)``, detached."""
        return self._at(layer).detach()

    def gradient(self, derivative: Tensor, at: slice | str) -> Tensor:
        """Backpropagate `derivative` by autograd; the graph is kept for further calls."""
        with torch.enable_grad():
            grads = torch.autograd.grad(
                self._at(at) if isinstance(at, str) else self.all_logits[:, :, at],
                self.leaves,
                derivative,
                retain_graph=True,
                materialize_grads=True,
            )
        return torch.cat([g.flatten(1) for g in grads], dim=1)

    def pixel_gradient(self, derivative: Tensor, columns: slice) -> Tensor:
        """Backpropagate to the pixels by autograd."""
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(
                self.all_logits[:, :, columns], self.pixels, derivative, retain_graph=True
            )
        return gradient


def outputs(
    network: Network, theta: Tensor, pixels: Tensor, at: slice | str, batch_size: int = 1024
) -> Tensor:
    """Return logits ``(R, N, C)`` or a hidden layer's activations ``(R, N, W)``, batch by batch.

    Parameters
    ----------
    pixels : Tensor of shape (R, N, D) or (N, D)
        The same images for every replicate where R is missing.
    at : slice or str
        Columns of the logits, or the hidden layer.
    """
    shared = pixels.dim() == 2
    parts = []
    for start in range(0, pixels.shape[-2], batch_size):
        part = pixels[..., start : start + batch_size, :]
        part = part.expand(theta.shape[0], -1, -1) if shared else part
        forward = network.forward(theta, Batch(part))
        parts.append(forward.activations(at) if isinstance(at, str) else forward.logits(at))
    return torch.cat(parts, dim=1)
