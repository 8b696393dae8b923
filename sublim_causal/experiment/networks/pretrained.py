"""A pretrained language model as a network: its adapter is the parameter vector.

The model itself is frozen; reference, teachers and students of all seeds and arms differ in the
flat parameters ``(R, P)`` alone, and one pass of the model serves all R of a block.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from sublim_causal.errors import RequestError
from sublim_causal.experiment.config import ModelConfig
from sublim_causal.experiment.networks.base import Batch, Forward, Layout, as_index
from sublim_causal.experiment.networks.checkpoints import Source, loaded, skeleton, source_of
from sublim_causal.experiment.networks.one_by_one import OneByOne
from sublim_causal.experiment.networks.products import FastLinear, rounds_factors

NO_TOKEN = -1
"""Stands in examples where there is no token: before a shorter prompt, after a shorter answer."""
ROWS_OF_A_PASS = 8
"""Examples, of all replicates together, that are read at a time where nothing is trained."""


@dataclass(frozen=True)
class PretrainedNetwork:
    """A pretrained causal language model as a function of its trainable parameters.

    Attributes
    ----------
    source : Source
    adapter : str
        The adapter, as JSON, or ``"none"``.
    order : tuple of int, or None
        The model's own number of each token, where tokens of examples and columns of logits are
        numbered otherwise; None: they are not.
    """

    source: Source
    adapter: str
    order: tuple[int, ...] | None = None
    hidden_layers: ClassVar[tuple[str, ...]] = ()
    cost: ClassVar = None

    @property
    def batches_replicates(self) -> bool:
        """Whether replicates run side by side: those of an adapter do."""
        return self.adapter != "none"

    @cached_property
    def layout(self) -> Layout:
        """The trainable parameters, found without loading the model."""
        model = skeleton(self.source, self.adapter)
        named = {name: one for name, one in model.named_parameters() if one.requires_grad}
        return Layout(tuple(named), tuple(tuple(one.shape) for one in named.values()))

    def module(self, like: Tensor) -> nn.Module:
        """Return the model, on the device and in the precision of parameters `like`.

        Where products are rounded to bfloat16, the frozen model is held in it.
        """
        frozen = self.adapter != "none"
        dtype = torch.bfloat16 if frozen and rounds_factors(like) else like.dtype
        key = dtype, str(like.device)
        if key not in self._models:
            self._models.clear()
            self._models[key] = loaded(self.source, self.adapter, *key)
        return self._models[key]

    @cached_property
    def _models(self) -> dict[tuple[torch.dtype, str], nn.Module]:
        """The model by precision and device, as it was last asked for."""
        return {}

    def initialise(self, generator: torch.Generator) -> Tensor:
        """Return initial parameters ``(P,)``.

        Of an adapter: A uniform within 1 / sqrt(n_in), B zero, so that the model is as it was. Of
        all parameters: the pretrained ones.
        """
        if self.adapter == "none":
            named = dict(self.module(torch.empty(0)).named_parameters())
            return torch.cat([named[name].detach().flatten() for name in self.layout.names])
        parts = []
        for name, shape in zip(self.layout.names, self.layout.shapes, strict=True):
            drawn = torch.zeros(shape)
            if name.endswith(".lora_A"):
                bound = shape[1] ** -0.5
                drawn.uniform_(-bound, bound, generator=generator)
            parts.append(drawn.flatten())
        return torch.cat(parts)

    def forward(self, theta: Tensor, batch: Batch) -> Forward:
        """Run R models with parameters `theta` ``(R, P)`` on their tokens.

        Adapters run in one pass of the frozen model over R * B examples; models of which all
        parameters are trained, one after another.
        """
        if len(theta) > 1 and not self.batches_replicates:
            return OneByOne(self).forward(theta, batch)
        leaves = [view.detach().requires_grad_() for view in self.layout.views(theta)]
        with torch.enable_grad():
            return PretrainedForward(self._logits(leaves, batch), leaves)

    def read(self, theta: Tensor, batch: Batch, columns: slice) -> Tensor:
        """Return the logits ``(R, B * T, C)`` of `columns` alone, a few examples at a time."""
        if len(theta) > 1 and not self.batches_replicates:
            pairs = zip(theta.split(1), batch.x.split(1), strict=True)
            alone = (self.read(one, Batch(x, batch.positions), columns) for one, x in pairs)
            return torch.cat(list(alone))
        views = self.layout.views(theta)
        parts = batch.x.split(max(1, ROWS_OF_A_PASS // len(theta)), dim=1)
        with torch.no_grad():
            z = [self._logits(views, Batch(x, batch.positions))[:, :, columns] for x in parts]
        return torch.cat(z, dim=1)

    def _logits(self, parameters: Sequence[Tensor], batch: Batch) -> Tensor:
        """Return the logits ``(R, B * T, K)``; 0 at positions without a token.

        The model sees the columns in which some example has a token.
        """
        x = batch.x.flatten(0, 1)
        at = as_index(batch.positions or tuple(range(x.shape[1])), x.device)
        some = (x != NO_TOKEN).any(dim=0).nonzero()[:, 0]
        first, last = int(some[0]), int(some[-1])
        read = x[:, first : last + 1]
        inside = (at >= first) & (at <= last)
        z = self.call(parameters, read, at[inside] - first).logits
        z = z.where((read[:, at[inside] - first] != NO_TOKEN)[:, :, None], 0).to(parameters[0])
        if not inside.all():
            whole = z.new_zeros(len(x), len(at), z.shape[2])
            z = whole.index_copy(1, inside.nonzero()[:, 0], z)
        return z.view(len(batch.x), -1, z.shape[2])

    def call(
        self, parameters: Sequence[Tensor], read: Tensor, keep: Tensor | int, cache: Any = None
    ) -> Any:
        """Call the model on tokens `read` ``(R * B, L)``, with the logits at the positions `keep`.

        The tokens, and the columns of the logits, are numbered as the network's are.

        Parameters
        ----------
        parameters : sequence of Tensor of shape (R, ...)
            As `Layout.views` returns them.
        keep : int64 Tensor of shape (T,), or int
            Positions, or how many of the last ones.
        cache : object, optional
            Keys and values of what was read before, which `read` begins with.
        """
        model = self.module(parameters[0])
        known = read != NO_TOKEN
        tokens, options = read.clamp(min=0), dict[str, Any]()
        if self.order is not None:
            tokens = self._order(read.device)[tokens]
        if not known[:, 0].all():
            positions = known.cumsum(dim=1) - 1
            options = {"attention_mask": known.long(), "position_ids": positions.clamp(min=0)}
        if cache is not None:
            length = cache.get_seq_length()
            tokens = tokens[:, length:]
            if options:
                options["position_ids"] = options["position_ids"][:, length:]
            options[_cache_argument(model)] = cache
        arguments = {"input_ids": tokens, "logits_to_keep": keep, "use_cache": cache is not None}
        values = parameters if self.batches_replicates else [one[0] for one in parameters]
        named = dict(zip(self.layout.names, values, strict=True))
        with FastLinear():
            output = torch.func.functional_call(model, named, (), arguments | options)
        if self.order is not None:
            output.logits = output.logits.index_select(2, self._order(read.device))
        return output

    def _order(self, device: torch.device) -> Tensor:
        assert self.order is not None
        return _as_tensor(self.order, str(device))


def _cache_argument(model: nn.Module) -> str:
    """Return the name of the argument for kept keys and values, which transformers renamed."""
    named = inspect.signature(model.forward).parameters
    return "cache" if "cache" in named else "past_key_values"


@lru_cache(maxsize=2)
def _as_tensor(order: tuple[int, ...], device: str) -> Tensor:
    return torch.tensor(order, device=device)


@dataclass(frozen=True)
class PretrainedForward:
    """Logits ``(R, B * T, K)`` with the leaves they came from: a `Forward`."""

    all_logits: Tensor
    leaves: list[Tensor]

    def logits(self, columns: slice) -> Tensor:
        """Return the logits of `columns`, shape ``(R, B * T, C)``, detached."""
        return self.all_logits.detach()[:, :, columns]

    def activations(self, layer: str) -> Tensor:
        """Return no activations.

        Raises
        ------
        TypeError
        """
        raise TypeError("activations of a pretrained model are not taught")

    def gradient(self, derivative: Tensor, at: slice | str) -> Tensor:
        """Return the flat gradient ``(R, P)``; the graph is kept for further calls."""
        assert isinstance(at, slice)
        with torch.enable_grad():
            gradients = torch.autograd.grad(
                self.all_logits[:, :, at],
                self.leaves,
                derivative,
                retain_graph=True,
                materialize_grads=True,
            )
        return torch.cat([one.flatten(1) for one in gradients], dim=1)

    def pixel_gradient(self, derivative: Tensor, at: slice | str) -> Tensor:
        """Tokens have no gradient.

        Raises
        ------
        TypeError
        """
        raise TypeError("the examples are tokens")


def build_pretrained(
    config: ModelConfig, order: tuple[int, ...] | None = None
) -> PretrainedNetwork:
    """Turn the ``[model]`` section into a network.

    Raises
    ------
    RequestError
        If there is no such model, it has no causal head, or the adapter fits no layer of it.
    """
    if config.options:
        allowed = "nothing: a pretrained model has its own"
        raise RequestError("model.options", config.options, allowed, "leave it out")
    adapter = config.adapter if config.adapter == "none" else config.adapter.model_dump_json()
    network = PretrainedNetwork(source_of(config), adapter, order)
    _ = network.layout
    return network
