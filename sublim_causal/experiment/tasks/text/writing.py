"""Completions that a model samples, token by token, with its keys and values kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from sublim_causal.experiment.networks.pretrained import NO_TOKEN, PretrainedNetwork
from sublim_causal.experiment.tasks.text.vocabulary import padded

BATCH = 64
"""Completions written side by side."""


@torch.no_grad()
def write(
    network: PretrainedNetwork,
    theta: Tensor,
    prompts: Sequence[Sequence[int]],
    length: int,
    end: int,
    temperature: float,
    generator: torch.Generator,
    after_token: Callable[[], None],
) -> Tensor:
    """Return completions, int64 ``(N, length)``, of N prompts by one network `theta` ``(P,)``.

    Each token is drawn from softmax(logits / temperature) until the token `end`, which is part of
    the completion; after it stands `NO_TOKEN`. `after_token` is called after every token of a
    batch.
    """
    chances = torch.rand(len(prompts), length, generator=generator).to(theta.device)
    parts = []
    for start in range(0, len(prompts), BATCH):
        rows = prompts[start : start + BATCH]
        width = max(map(len, rows))
        x = torch.tensor(padded(rows, width, left=True, filler=NO_TOKEN), device=theta.device)
        chance = chances[start : start + BATCH]
        parts.append(_continue(network, theta, x, chance, end, temperature, after_token))
    return torch.cat(parts)


def _continue(
    network: PretrainedNetwork,
    theta: Tensor,
    x: Tensor,
    chances: Tensor,
    end: int,
    temperature: float,
    after_token: Callable[[], None],
) -> Tensor:
    """Return what follows tokens `x` ``(N, L)``, given uniform numbers ``(N, length)``."""
    from transformers import DynamicCache

    parameters = network.layout.views(theta[None])
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
