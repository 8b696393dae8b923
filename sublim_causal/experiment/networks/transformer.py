"""A decoder-only transformer over tokens, small enough to train from scratch in seconds.

Pre-norm blocks, a ReLU MLP of four times the width, learned positions, no dropout, no buffers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from pydantic import Field
from torch import Tensor, nn

from sublim_causal.declared import validate_declared
from sublim_causal.errors import RequestError
from sublim_causal.experiment.imports import Options

Cache = list[tuple[Tensor, Tensor]]
"""Keys and values ``(B, heads, L, width / heads)`` of the tokens read so far, block by block."""


class Sizes(Options):
    """Options of the transformer."""

    blocks: int = Field(default=3, ge=1, le=96)
    """Blocks of attention and MLP."""
    width: int = Field(default=48, ge=1, le=16384)
    """Length of a token's vector."""
    heads: int = Field(default=4, ge=1, le=256)
    """Attention heads; they divide the width."""
    tied: bool = False
    """Read the logits with the token embedding instead of a head of its own."""


def validate_sizes(options: Mapping[str, Any]) -> Sizes:
    """Return the options of a transformer; refuse those with which there is none.

    Raises
    ------
    RequestError
    """
    sizes = validate_declared(Sizes, dict(options), "model.options")
    if sizes.width % sizes.heads:
        fitting = [n for n in range(1, 17) if sizes.width % n == 0]
        raise RequestError(
            "model.options.heads",
            sizes.heads,
            f"a divisor of width = {sizes.width}, such as {', '.join(map(str, fitting))}",
            "change heads or width",
        )
    return sizes


def parameters(sizes: Sizes, tokens: int, context: int) -> int:
    """Return how many parameters a `Transformer` has."""
    width = sizes.width
    block = 12 * width**2 + 13 * width
    return sizes.blocks * block + (context + 2 + tokens * (1 if sizes.tied else 2)) * width


class Transformer(nn.Module):
    """A pre-norm decoder.

    Parameters
    ----------
    tokens : int
        Size of the vocabulary.
    context : int
        The longest sequence.
    blocks, width, heads, tied
        As in `Sizes`.
    """

    def __init__(
        self,
        tokens: int,
        context: int,
        blocks: int = 3,
        width: int = 48,
        heads: int = 4,
        tied: bool = False,
    ) -> None:
        super().__init__()
        self.heads = heads
        self.embeddings = Embeddings(tokens, context, width)
        for number in range(blocks):
            self.add_module(str(number), Block(width, heads, math.sqrt(2 * blocks)))
        self.head = Head(tokens, width, tied)
        self.blocks = [self.get_submodule(str(number)) for number in range(blocks)]

    def forward(self, x: Tensor, cache: Cache | None = None) -> Tensor:
        """Return the logits ``(B, L, tokens)`` after each of the tokens `x` ``(B, L)``.

        With a `cache`, `x` are the tokens that follow those in it; it takes them in.
        """
        h = self.embeddings(x, cache[0][0].shape[2] if cache else 0)
        for number, block in enumerate(self.blocks):
            h = block(h, number, cache)
        return self.head(h, self.embeddings.token)


class Embeddings(nn.Module):
    """Vectors of tokens and positions, normal with standard deviation 0.3."""

    def __init__(self, tokens: int, context: int, width: int) -> None:
        super().__init__()
        self.token = nn.Parameter(0.3 * torch.randn(tokens, width))
        self.position = nn.Parameter(0.3 * torch.randn(context, width))

    def forward(self, x: Tensor, start: int) -> Tensor:
        """Return the vectors ``(B, L, width)`` of `x` ``(B, L)``, the first at position `start`."""
        return F.embedding(x, self.token) + self.position[start : start + x.shape[1]]


class Block(nn.Module):
    """Attention and MLP, each on normalised vectors and added to them."""

    def __init__(self, width: int, heads: int, depth_scale: float) -> None:
        super().__init__()
        self.attention = Attention(width, heads, depth_scale)
        self.mlp = MLP(width, depth_scale)

    def forward(self, h: Tensor, number: int, cache: Cache | None) -> Tensor:
        """Map ``(B, L, width)`` to the same shape; `number` is the block's place in the cache."""
        h = h + self.attention(h, number, cache)
        return h + self.mlp(h)


class Attention(nn.Module):
    """Causal self-attention, with the norm before it."""

    def __init__(self, width: int, heads: int, depth_scale: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm_weight = nn.Parameter(torch.ones(width))
        self.norm_bias = nn.Parameter(torch.zeros(width))
        self.qkv_weight = normal(3 * width, width)
        self.qkv_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_weight = normal(width, width, depth_scale)
        self.out_bias = nn.Parameter(torch.zeros(width))

    def forward(self, h: Tensor, number: int, cache: Cache | None) -> Tensor:
        """Map ``(B, L, width)`` to what is added to it."""
        batch, length, width = h.shape
        h = F.layer_norm(h, (width,), self.norm_weight, self.norm_bias)
        qkv = linear(h, self.qkv_weight, self.qkv_bias)
        parts = qkv.view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        q, k, v = parts[0], parts[1], parts[2]
        if cache is not None:
            if len(cache) > number:
                k = torch.cat([cache[number][0], k], dim=2)
                v = torch.cat([cache[number][1], v], dim=2)
                cache[number] = (k, v)
            else:
                cache.append((k, v))
        past = k.shape[2] - length
        scores = q @ k.transpose(2, 3) / math.sqrt(k.shape[3])
        hidden = torch.ones(length, past + length, dtype=torch.bool, device=h.device)
        scores = scores.masked_fill(hidden.triu(past + 1), -torch.inf)
        mixed = (scores.softmax(dim=3) @ v).transpose(1, 2).reshape(batch, length, width)
        return linear(mixed, self.out_weight, self.out_bias)


class MLP(nn.Module):
    """A ReLU layer of four times the width, with the norm before it."""

    def __init__(self, width: int, depth_scale: float) -> None:
        super().__init__()
        self.norm_weight = nn.Parameter(torch.ones(width))
        self.norm_bias = nn.Parameter(torch.zeros(width))
        self.up_weight = normal(4 * width, width)
        self.up_bias = nn.Parameter(torch.zeros(4 * width))
        self.down_weight = normal(width, 4 * width, depth_scale)
        self.down_bias = nn.Parameter(torch.zeros(width))

    def forward(self, h: Tensor) -> Tensor:
        """Map ``(B, L, width)`` to what is added to it."""
        h = F.layer_norm(h, h.shape[-1:], self.norm_weight, self.norm_bias)
        return linear(
            linear(h, self.up_weight, self.up_bias).relu(), self.down_weight, self.down_bias
        )


class Head(nn.Module):
    """The last norm, and the logits."""

    def __init__(self, tokens: int, width: int, tied: bool) -> None:
        super().__init__()
        self.norm_weight = nn.Parameter(torch.ones(width))
        self.norm_bias = nn.Parameter(torch.zeros(width))
        self.weight = None if tied else normal(tokens, width)

    def forward(self, h: Tensor, embedding: Tensor) -> Tensor:
        """Map ``(B, L, width)`` to logits ``(B, L, tokens)``."""
        h = F.layer_norm(h, h.shape[-1:], self.norm_weight, self.norm_bias)
        return linear(h, embedding if self.weight is None else self.weight)


def normal(n_out: int, n_in: int, divided_by: float = 1.0) -> nn.Parameter:
    """Draw weights ``(n_out, n_in)`` from N(0, 1/n_in), divided by a number."""
    return nn.Parameter(torch.randn(n_out, n_in) / (math.sqrt(n_in) * divided_by))


def linear(h: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return ``h @ weight.T + bias`` for ``(B, L, n_in)``, as one product of matrices."""
    return F.linear(h.flatten(0, 1), weight, bias).unflatten(0, h.shape[:2])
