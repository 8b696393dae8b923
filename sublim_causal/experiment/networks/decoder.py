"""The transformer over blocks of replicates, with its backward pass written out.

Autograd spends a large part of a step of so small a network on administration, and takes the
halves of a probe one after another. Here all replicates share each operation, and the last block
and the head see only the positions that are asked for. In this module N is the number of tokens
B * L of a replicate's batch, W the width, and H the heads of D numbers each.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from sublim_causal.experiment.networks.base import Batch, Layout, PassCost, as_index, taken
from sublim_causal.experiment.networks.module import ModuleForward, ModuleNetwork
from sublim_causal.experiment.networks.products import product
from sublim_causal.experiment.networks.transformer import Transformer

EPSILON = 1e-5
"""What torch adds to a variance in a layer norm."""
Named = Mapping[str, Tensor]
"""Parameters ``(R, ...)`` by name."""


@dataclass(frozen=True)
class TransformerNetwork:
    """A `Transformer` as a function of flat parameters.

    Attributes
    ----------
    of_module : ModuleNetwork
        The same through autograd: gives parameters, initialisation and hidden activations.
    """

    of_module: ModuleNetwork
    batches_replicates: ClassVar = True

    @property
    def module(self) -> Transformer:
        """A skeleton whose own parameters are never used."""
        module = self.of_module.module
        assert isinstance(module, Transformer)
        return module

    @property
    def layout(self) -> Layout:
        """Names and shapes of the parameters."""
        return self.of_module.layout

    @property
    def cost(self) -> PassCost:
        """Every parameter takes part in three products of a token."""
        tokens = len(self.module.embeddings.position)
        return PassCost(100 * len(self.module.blocks), 6 * tokens * self.layout.size)

    @property
    def hidden_layers(self) -> tuple[str, ...]:
        """Names of the layers whose activations are returned."""
        return self.of_module.hidden_layers

    def initialise(self, generator: torch.Generator) -> Tensor:
        """Return initial parameters ``(P,)``."""
        return self.of_module.initialise(generator)

    def forward(self, theta: Tensor, batch: Batch) -> TransformerForward:
        """Run R models with parameters `theta` ``(R, P)`` on their tokens."""
        named = dict(zip(self.layout.names, self.layout.views(theta), strict=True))
        blocks, heads = len(self.module.blocks), self.module.heads
        length = batch.x.shape[2]
        every = tuple(range(length))
        h, kept = embed(named, batch.x), list[Attended | Transformed]()
        for number in range(blocks):
            asked = batch.positions or every if number == blocks - 1 else every
            attended = attend(named, number, h, length, asked, heads)
            transformed = transform(named, number, attended.output)
            kept += [attended, transformed]
            h = transformed.output
        return TransformerForward(self, theta, batch, named, kept, normed(named, "head", h))


@dataclass(frozen=True)
class TransformerForward:
    """A forward pass, kept for the backward passes that start from it: a `Forward`."""

    network: TransformerNetwork
    theta: Tensor
    batch: Batch
    named: Named
    kept: list[Attended | Transformed]
    last: Normed

    @property
    def _head(self) -> str:
        """The name of the weights ``(R, K, W)`` that give the logits."""
        return "head.weight" if "head.weight" in self.named else "embeddings.token"

    def logits(self, columns: slice) -> Tensor:
        """Return the logits of `columns`, shape ``(R, B * T, C)``."""
        return product(self.last.output, self.named[self._head][:, columns].mT)

    @cached_property
    def _of_module(self) -> ModuleForward:
        return self.network.of_module.forward(self.theta, self.batch)

    def activations(self, layer: str) -> Tensor:
        """Return what a part of the module returns, ``(R, B, W)``, from a pass of its own."""
        return self._of_module.activations(layer)

    def pixel_gradient(self, derivative: Tensor, at: slice | str) -> Tensor:
        """Tokens have no gradient.

        Raises
        ------
        TypeError
        """
        raise TypeError("the examples are tokens")

    def gradient(self, derivative: Tensor, at: slice | str) -> Tensor:
        """Return the flat gradient ``(R, P)``, given d loss / d logits of the columns `at`."""
        if isinstance(at, str):
            return self._of_module.gradient(derivative, at)
        weight, gradients = self.named[self._head], dict[str, Tensor]()
        of_head = torch.zeros_like(weight)
        of_head[:, at] = product(derivative.mT, self.last.output)
        h = self.last.backward(product(derivative, weight[:, at]), gradients)
        for part in reversed(self.kept):
            h = part.backward(h, gradients)
        embed_backward(self.named, self.batch.x, h, gradients)
        gradients[self._head] = gradients.get(self._head, 0) + of_head
        return torch.cat([gradients[name].flatten(1) for name in self.named], dim=1)


def embed(named: Named, x: Tensor) -> Tensor:
    """Return the vectors ``(R, N, W)`` of tokens `x` ``(R, B, L)``."""
    token, position = named["embeddings.token"], named["embeddings.position"]
    rows = token.flatten(0, 1).index_select(0, _rows(x, token.shape[1]))
    vectors = rows.view(*x.shape, -1) + position[:, None, : x.shape[2]]
    return vectors.flatten(1, 2)


def embed_backward(named: Named, x: Tensor, h: Tensor, gradients: dict[str, Tensor]) -> None:
    """Put the derivatives of the embeddings into `gradients`, given that at the vectors."""
    token, position = named["embeddings.token"], named["embeddings.position"]
    of_token = torch.zeros_like(token)
    of_token.view(-1, token.shape[2]).index_add_(0, _rows(x, token.shape[1]), h.flatten(0, 1))
    of_position = torch.zeros_like(position)
    of_position[:, : x.shape[2]] = h.unflatten(1, x.shape[1:]).sum(dim=1)
    gradients["embeddings.token"], gradients["embeddings.position"] = of_token, of_position


def _rows(x: Tensor, tokens: int) -> Tensor:
    """Return where the vectors of tokens ``(R, B, L)`` stand among those of all replicates."""
    return (x + tokens * torch.arange(len(x), device=x.device)[:, None, None]).flatten()


@dataclass(frozen=True)
class Normed:
    """A layer norm: rows `h` ``(R, N, W)``, normalised, then scaled and shifted to `output`."""

    layer: str
    weight: Tensor
    h: Tensor
    normalised: Tensor
    mean: Tensor
    rstd: Tensor
    output: Tensor

    def backward(self, derivative: Tensor, gradients: dict[str, Tensor]) -> Tensor:
        """Return the derivative at `h`; put those of the parameters into `gradients`."""
        gradients[f"{self.layer}.norm_weight"] = (derivative * self.normalised).sum(dim=1)
        gradients[f"{self.layer}.norm_bias"] = derivative.sum(dim=1)
        given = derivative * self.weight, self.h, self.h.shape[-1:], self.mean, self.rstd
        at_h: Tensor = torch.ops.aten.native_layer_norm_backward(
            *given, None, None, (True, False, False)
        )[0]
        return at_h


def normed(named: Named, layer: str, h: Tensor) -> Normed:
    """Normalise rows `h` ``(R, N, W)``."""
    weight, bias = (named[f"{layer}.norm_{name}"][:, None] for name in ("weight", "bias"))
    normalised, mean, rstd = torch.native_layer_norm(h, h.shape[-1:], None, None, EPSILON)
    output = torch.addcmul(bias, normalised, weight)
    return Normed(layer, weight, h, normalised, mean, rstd, output)


@dataclass(frozen=True)
class Linear:
    """Rows `x` ``(R, N, n_in)`` times a weight ``(R, n_out, n_in)``, plus a bias."""

    name: str
    weight: Tensor
    x: Tensor
    output: Tensor

    def backward(self, derivative: Tensor, gradients: dict[str, Tensor]) -> Tensor:
        """Return the derivative at `x`; put those of the parameters into `gradients`."""
        gradients[f"{self.name}_weight"] = product(derivative.mT, self.x)
        gradients[f"{self.name}_bias"] = derivative.sum(dim=1)
        return product(derivative, self.weight)


def linear(named: Named, name: str, x: Tensor) -> Linear:
    """Multiply by the weight `name`."""
    weight = named[f"{name}_weight"]
    return Linear(name, weight, x, product(x, weight.mT).add_(named[f"{name}_bias"][:, None]))


@dataclass(frozen=True)
class Transformed:
    """The MLP of a block, added to what it is given."""

    norm: Normed
    up: Linear
    active: Tensor
    down: Linear
    output: Tensor

    def backward(self, derivative: Tensor, gradients: dict[str, Tensor]) -> Tensor:
        """Return the derivative at what was given; put those of parameters into `gradients`."""
        at = self.down.backward(derivative, gradients)
        at = torch.ops.aten.threshold_backward(at, self.active, 0)
        at = self.up.backward(at, gradients)
        return self.norm.backward(at, gradients) + derivative


def transform(named: Named, number: int, h: Tensor) -> Transformed:
    """Apply the MLP of block `number` to rows `h` ``(R, N, W)``."""
    layer = f"{number}.mlp"
    norm = normed(named, layer, h)
    up = linear(named, f"{layer}.up", norm.output)
    active = up.output.relu()
    down = linear(named, f"{layer}.down", active)
    return Transformed(norm, up, active, down, h + down.output)


@dataclass(frozen=True)
class Attended:
    """The attention of a block, added to what it is given, at some positions.

    Attributes
    ----------
    asked : tuple of int
        The T positions that go on.
    length : int
        L.
    q : Tensor of shape (R * B * H, T, D)
    k, v : Tensor of shape (R * B * H, L, D)
    p : Tensor of shape (R * B * H, T, L)
        How much each position takes of each other.
    output : Tensor of shape (R, B * T, W)
    """

    asked: tuple[int, ...]
    length: int
    heads: int
    norm: Normed
    qkv: Linear
    q: Tensor
    k: Tensor
    v: Tensor
    p: Tensor
    out: Linear
    output: Tensor

    def backward(self, derivative: Tensor, gradients: dict[str, Tensor]) -> Tensor:
        """Return the derivative at what was given; put those of parameters into `gradients`."""
        scale = 1 / math.sqrt(self.k.shape[2])
        mixed = self.out.backward(derivative, gradients)
        mixed = _by_head(mixed, len(self.asked), self.heads)
        at_p = torch.bmm(mixed, self.v.mT)
        at_scores = torch._softmax_backward_data(at_p, self.p, 2, self.p.dtype).mul_(scale)
        parts = (
            _spread(torch.bmm(at_scores, self.k), self.asked, self.length),
            torch.bmm(at_scores.mT, self.q),
            torch.bmm(self.p.mT, mixed),
        )
        shape = len(derivative), -1, self.heads, self.length, self.k.shape[2]
        together = torch.stack([part.view(shape) for part in parts], dim=3)
        # (R, B, H, 3, L, D) to (R, B, L, 3, H, D)
        at = together.permute(0, 1, 4, 3, 2, 5).reshape(self.qkv.output.shape)
        at = self.qkv.backward(at, gradients)
        at = self.norm.backward(at, gradients)
        return at + _spread(derivative, self.asked, self.length)


def attend(
    named: Named, number: int, h: Tensor, length: int, asked: tuple[int, ...], heads: int
) -> Attended:
    """Apply the attention of block `number` to rows `h` ``(R, B * L, W)``."""
    layer = f"{number}.attention"
    norm = normed(named, layer, h)
    qkv = linear(named, f"{layer}.qkv", norm.output)
    parts = qkv.output.view(len(h), -1, length, 3, heads, h.shape[2] // heads)
    # (R, B, L, 3, H, D) to three of (R * B * H, L, D)
    q, k, v = parts.permute(3, 0, 1, 4, 2, 5).flatten(1, 3).contiguous()
    future = torch.full((length, length), -math.inf, dtype=h.dtype, device=h.device).triu_(1)
    if len(asked) < length:
        q, future = taken(q, 1, asked), taken(future, 0, asked)
        h = taken(h.unflatten(1, (-1, length)), 2, asked).flatten(1, 2)
    p = torch.baddbmm(future, q, k.mT, alpha=1 / math.sqrt(k.shape[2])).softmax(dim=2)
    mixed = torch.bmm(p, v).view(len(h), -1, heads, len(asked), v.shape[2])
    out = linear(named, f"{layer}.out", mixed.transpose(2, 3).reshape(h.shape))
    return Attended(asked, length, heads, norm, qkv, q, k, v, p, out, h + out.output)


def _by_head(rows: Tensor, length: int, heads: int) -> Tensor:
    """Return rows ``(R, B * T, W)`` as ``(R * B * H, T, D)``."""
    parts = rows.view(len(rows), -1, length, heads, rows.shape[2] // heads)
    return parts.transpose(2, 3).reshape(-1, length, parts.shape[4])


def _spread(values: Tensor, asked: tuple[int, ...], length: int) -> Tensor:
    """Return ``(G, B * T, W)`` at positions `asked` as ``(G, B * L, W)``, 0 elsewhere."""
    if len(asked) == length:
        return values
    parts = values.unflatten(1, (-1, len(asked)))
    whole = parts.new_zeros(*parts.shape[:2], length, parts.shape[3])
    return whole.index_copy_(2, as_index(asked, whole.device), parts).flatten(1, 2)
