"""Completions that a model samples, token by token, with its keys and values kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from sublim_causal.experiment.data.streams import draw
from sublim_causal.experiment.networks.pretrained import NO_TOKEN, PretrainedNetwork
from sublim_causal.experiment.tasks.text.vocabulary import padded

BATCH = 64
"""Completions written side by side, of all replicates together."""


@torch.no_grad()
def write(
    network: PretrainedNetwork,
    theta: Tensor,
    prompts: Sequence[Sequence[Sequence[int]]],
    length: int,
    end: int,
    temperature: float,
    generators: Sequence[torch.Generator],
    after_token: Callable[[], None],
) -> Tensor:
    """Return completions, int64 ``(R, N, length)``, of N prompts of each of R networks.

    Each token is drawn from softmax(logits / temperature) until the token `end`, which is part of
    the completion; after it stands `NO_TOKEN`. `after_token` is called after every token of a
    batch.
    """
    replicates, count = len(theta), len(prompts[0])
    chances = draw(lambda g: torch.rand(count, length, generator=g), generators, theta.device)
    together = replicates if network.batches_replicates else 1
    at_a_time = max(1, BATCH // together)
    blocks = []
    for first in range(0, replicates, together):
        block, parts = slice(first, first + together), []
        for start in range(0, count, at_a_time):
            part = slice(start, start + at_a_time)
            rows = [row for one in prompts[block] for row in one[part]]
            width = max(map(len, rows))
            x = torch.tensor(padded(rows, width, left=True, filler=NO_TOKEN), device=theta.device)
            chance = chances[block, part].flatten(0, 1)
            written = _continue(network, theta[block], x, chance, end, temperature, after_token)
            parts.append(written.unflatten(0, (together, -1)))
        blocks.append(torch.cat(parts, dim=1))
    return torch.cat(blocks)


def _continue(
    network: PretrainedNetwork,
    theta: Tensor,
    x: Tensor,
    chances: Tensor,
    end: int,
    temperature: float,
    after_token: Callable[[], None],
) -> Tensor:
    """Return what follows tokens `x` ``(R * N, L)``, given uniform numbers ``(R * N, length)``."""
    from transformers import DynamicCache

    parameters = network.layout.views(theta)
    cache, width, length = DynamicCache(), x.shape[1], chances.shape[1]
    done = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    for place in range(length):
        z = network.call(parameters, x, 1, cache).logits[:, -1].to(theta)
        below = torch.softmax(z / temperature, dim=1).cumsum(dim=1)[:, :-1]
        token = (chances[:, place, None] > below).sum(dim=1)
        x = torch.cat([x, token.where(~done, end)[:, None]], dim=1)
        done |= token == end
        after_token()
        if done.all():
            break
    written = x[:, width:]
    ended = (written == end).cumsum(dim=1) - (written == end).long() > 0
    written = written.masked_fill(ended, NO_TOKEN)
    return torch.nn.functional.pad(written, (0, length - written.shape[1]), value=NO_TOKEN)
