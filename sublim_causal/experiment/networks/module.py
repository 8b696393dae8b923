"""Any ``nn.Module`` as a network over blocks of replicates, through autograd."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import ClassVar

import torch
from torch import Tensor

from sublim_causal.experiment.networks.base import Batch, Layout, scaled_normal, taken
from sublim_causal.experiment.networks.products import FastLinear, gpu_rounding


@dataclass(frozen=True)
class ModuleNetwork:
    """Any ``nn.Module`` without state or randomness of its own, through autograd.

    Attributes
    ----------
    build : callable
        Makes the module; it takes examples ``(B, *shape)`` and returns logits ``(B, K)``, or of
        tokens ``(B, L)`` those of every position, ``(B, L, K)``.
    shape : tuple of int
        Shape of an example: ``(channels, height, width)``, or ``(-1,)`` for tokens of any number.
    scaled : bool
        Initialise by `scaled_normal` instead of by the module itself.
    """

    build: Callable[[], torch.nn.Module]
    shape: tuple[int, ...]
    scaled: bool = False
    batches_replicates: ClassVar = False
    cost: ClassVar = None

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
        """Draw from `scaled_normal`, or build the module again under a seed from `generator`."""
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

    def forward(self, theta: Tensor, batch: Batch) -> ModuleForward:
        """Run the module functionally on each replicate's parameters."""
        leaves = [v.detach().requires_grad_() for v in self.layout.views(theta)]
        return ModuleForward(self._run(leaves, batch), leaves, batch, self)

    def _run(self, leaves: Sequence[Tensor], batch: Batch, layer: str = "") -> Tensor:
        """Return the logits ``(R, B * T, K)``, or what the part `layer` returns, ``(R, B, W)``."""
        call = partial(self._call, layer=layer, positions=batch.positions)
        with torch.enable_grad(), gpu_rounding(leaves[0]):
            x = batch.x.view(*batch.x.shape[:2], *self.shape)
            if len(x) > 1:
                return torch.vmap(call, randomness="error")(dict(self._named(leaves)), x)
            with FastLinear():
                return call({n: v[0] for n, v in self._named(leaves)}, x[0])[None]

    def _named(self, leaves: Sequence[Tensor]) -> zip[tuple[str, Tensor]]:
        return zip(self.layout.names, leaves, strict=True)

    def _call(
        self, parameters: Mapping[str, Tensor], x: Tensor, layer: str, positions: tuple[int, ...]
    ) -> Tensor:
        like = next(iter(parameters.values()))
        if not layer:
            z = torch.func.functional_call(self.module, dict(parameters), (x,)).to(like)
            return taken(z, 1, positions).flatten(0, 1) if positions else z
        returned: list[Tensor] = []
        part = self.module.get_submodule(layer)
        hook = part.register_forward_hook(lambda _, __, output: returned.append(output))
        try:
            torch.func.functional_call(self.module, dict(parameters), (x,))
        finally:
            hook.remove()
        return returned[-1].flatten(1).to(like)


@dataclass(frozen=True)
class ModuleForward:
    """Logits ``(R, B * T, K)`` of `ModuleNetwork` with the graph and leaves they came from.

    The batch is part of the graph if it requires gradients.
    """

    all_logits: Tensor
    leaves: list[Tensor]
    batch: Batch
    network: ModuleNetwork

    def logits(self, columns: slice) -> Tensor:
        """Return the logits of `columns`, shape ``(R, B * T, C)``, detached."""
        return self.all_logits.detach()[:, :, columns]

    @cached_property
    def _activations(self) -> dict[str, Tensor]:
        """Activations by layer, each from a separate pass when first asked for."""
        return {}

    def _at(self, layer: str) -> Tensor:
        if layer not in self._activations:
            self._activations[layer] = self.network._run(self.leaves, self.batch, layer)
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

    def pixel_gradient(self, derivative: Tensor, at: slice | str) -> Tensor:
        """Backpropagate to the pixels by autograd."""
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(
                self._at(at) if isinstance(at, str) else self.all_logits[:, :, at],
                self.batch.x,
                derivative,
                retain_graph=True,
            )
        return gradient
