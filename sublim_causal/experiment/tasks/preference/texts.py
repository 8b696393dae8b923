"""Texts that teachers write: numbers, sampled one after another."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from sublim_causal.experiment.data.streams import draw
from sublim_causal.experiment.networks.base import Batch, Network
from sublim_causal.experiment.networks.decoder import TransformerNetwork
from sublim_causal.experiment.networks.transformer import Cache
from sublim_causal.experiment.tasks.preference.vocabulary import CONTEXT, NUMBERS, PROMPT

BATCH = 800
"""Texts written side by side."""


def write(
    network: Network,
    theta: Tensor,
    carrier: Callable[[int, torch.Generator], Tensor],
    count: int,
    temperature: float,
    generators: Sequence[torch.Generator],
) -> Tensor:
    """Return `count` texts ``(R, count, 16)`` that the networks `theta` ``(R, P)`` continue.

    The first six tokens are of the `carrier`; every other is drawn from softmax(logits of the
    numbers / temperature), given those before it.
    """
    x = draw(lambda g: carrier(count, g), generators, theta.device)
    chances = draw(
        lambda g: torch.rand(count, CONTEXT - PROMPT, generator=g), generators, theta.device
    )
    for replicate in range(len(theta)):
        for start in range(0, count, BATCH):
            part = slice(start, start + BATCH)
            one = theta[replicate : replicate + 1]
            _continue(network, one, x[replicate, part], chances[replicate, part], temperature)
    return x


def _continue(
    network: Network, theta: Tensor, x: Tensor, chances: Tensor, temperature: float
) -> None:
    """Replace the tokens of texts `x` ``(N, 16)`` after the prompt, in place."""
    step = (
        cached(network, theta)
        if isinstance(network, TransformerNetwork)
        else uncached(network, theta)
    )
    for place in range(PROMPT, CONTEXT):
        z = step(x[:, :place])[:, NUMBERS]
        below = torch.softmax(z / temperature, dim=1).cumsum(dim=1)[:, :-1]
        x[:, place] = NUMBERS.start + (chances[:, place - PROMPT, None] > below).sum(dim=1)


def cached(network: TransformerNetwork, theta: Tensor) -> Callable[[Tensor], Tensor]:
    """Return a function from tokens ``(N, L)`` to the logits ``(N, K)`` of the next.

    Called with longer and longer texts, it reads only what is new of them: keys and values of the
    others are kept.
    """
    names, views = network.layout.names, network.layout.views(theta)
    parameters = {name: view[0] for name, view in zip(names, views, strict=True)}
    cache: Cache = []

    def logits(tokens: Tensor) -> Tensor:
        new = tokens[:, cache[0][0].shape[2] if cache else 0 :]
        z = torch.func.functional_call(network.module, parameters, (new, cache))
        return z[:, -1]

    return logits


def uncached(network: Network, theta: Tensor) -> Callable[[Tensor], Tensor]:
    """Return the same function for any network: it reads the whole text again."""

    def logits(tokens: Tensor) -> Tensor:
        batch = Batch(tokens[None], (tokens.shape[1] - 1,))
        return network.forward(theta, batch).logits(slice(None))[0]

    return logits
