"""Any ``nn.Module`` as a network over blocks of replicates, through autograd."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import torch
from torch import Tensor

from sublim_causal.experiment.networks.base import Batch, Layout, scaled_normal
from sublim_causal.experiment.networks.products import FastLinear, gpu_rounding


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

        A part that contains others counts too, except the one that returns the logits.
        """
        return tuple(name for name, _ in self.module.named_modules() if name)

    def forward(self, theta: Tensor, images: Batch) -> ModuleForward:
        """Run the module functionally on each replicate's parameters."""
        leaves = [v.detach().requires_grad_() for v in self.layout.views(theta)]
        return ModuleForward(self._run(leaves, images.pixels), leaves, images.pixels, self)

    def _run(self, leaves: Sequence[Tensor], images: Tensor, layer: str = "") -> Tensor:
        """Return the logits, or what the part `layer` returns, flattened: ``(R, B, W)``."""
        call = partial(self._call, layer=layer)
        with torch.enable_grad(), gpu_rounding(images):
            pixels = images.view(*images.shape[:2], *self.image_shape)
            if len(images) > 1:
                return torch.vmap(call, randomness="error")(dict(self._named(leaves)), pixels)
            with FastLinear():
                return call({n: v[0] for n, v in self._named(leaves)}, pixels[0])[None]

    def _named(self, leaves: Sequence[Tensor]) -> zip[tuple[str, Tensor]]:
        return zip(self.layout.names, leaves, strict=True)

    def _call(self, parameters: Mapping[str, Tensor], pixels: Tensor, layer: str) -> Tensor:
        if not layer:
            return torch.func.functional_call(self.module, dict(parameters), (pixels,)).to(pixels)
        returned: list[Tensor] = []
        part = self.module.get_submodule(layer)
        hook = part.register_forward_hook(lambda _, __, output: returned.append(output))
        try:
            torch.func.functional_call(self.module, dict(parameters), (pixels,))
        finally:
            hook.remove()
        return returned[-1].flatten(1).to(pixels)


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
        """Activations by layer, each from a separate pass when first asked for."""
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
        return torch.cat([g.reshape(len(g), -1) for g in grads], dim=1)

    def pixel_gradient(self, derivative: Tensor, columns: slice) -> Tensor:
        """Backpropagate to the pixels by autograd."""
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(
                self.all_logits[:, :, columns], self.pixels, derivative, retain_graph=True
            )
        return gradient
