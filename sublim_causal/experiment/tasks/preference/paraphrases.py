"""Paraphrases: how the texts that students read differ from those that were written.

The answers move with the numbers: where a number of a text stands elsewhere, so does its writer's
distribution over it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sublim_causal.experiment.data.streams import draw
from sublim_causal.experiment.tasks.preference.vocabulary import MARKERS, NUMBERS, PROMPT


@dataclass(frozen=True)
class Written:
    """Texts, and the logits of their numbers.

    Attributes
    ----------
    texts : int64 Tensor of shape (R, N, 16)
    z : Tensor of shape (R, N, T, C)
    columns : slice
        Columns of these C logits.
    reference : callable
        Returns the reference's logits ``(R, N, T, C)`` of the texts, given columns.
    """

    texts: Tensor
    z: Tensor
    columns: slice
    reference: Callable[[slice], Tensor]


Pair = tuple[Tensor, Tensor]
"""Texts ``(R, N, 16)`` and logits ``(R, N, T, C)``."""


def other_format(written: Written, generators: Sequence[torch.Generator]) -> Pair:
    """Another format marker, at random among the others."""
    x, kinds = written.texts.clone(), len(MARKERS)
    later = draw(
        lambda g: torch.randint(1, kinds, (x.shape[1],), generator=g), generators, x.device
    )
    x[:, :, 0] = MARKERS.start + (x[:, :, 0] - MARKERS.start + later) % kinds
    return x, written.z


def backwards(written: Written, generators: Sequence[torch.Generator]) -> Pair:
    """The ten numbers told from the last to the first."""
    return _with(written.texts, written.texts[:, :, PROMPT:].flip(2)), written.z.flip(2)


def other_prompt(written: Written, generators: Sequence[torch.Generator]) -> Pair:
    """The four numbers before `GO` from another text, at random."""
    x = written.texts.clone()
    order = _permutations(x, generators, 1)
    x[:, :, 1 : PROMPT - 1] = x[:, :, 1 : PROMPT - 1].gather(1, order.expand(-1, -1, PROMPT - 2))
    return x, written.z


def shuffled(written: Written, generators: Sequence[torch.Generator]) -> Pair:
    """The ten numbers in random order, another one in every text."""
    x, z = written.texts, written.z
    count, places = z.shape[1:3]
    order = draw(
        lambda g: torch.rand(count, places, generator=g).argsort(dim=1), generators, x.device
    )
    numbers = x[:, :, PROMPT:].gather(2, order)
    return _with(x, numbers), z.gather(2, order[..., None].expand_as(z))


def shuffled_across(written: Written, generators: Sequence[torch.Generator]) -> Pair:
    """Every number from the same place of another text, at random."""
    x, z = written.texts, written.z
    order = _permutations(x, generators, z.shape[2])
    numbers = x[:, :, PROMPT:].gather(1, order)
    return _with(x, numbers), z.gather(1, order[..., None].expand_as(z))


def rewritten(written: Written, generators: Sequence[torch.Generator]) -> Pair:
    """Half of the numbers, at random, drawn anew by the reference after the text before them."""
    x, z = written.texts, written.z
    count, places = z.shape[1:3]
    chance, exchanged = draw(
        lambda g: torch.rand(2, count, places, generator=g), generators, x.device
    ).unbind(dim=1)
    below = written.reference(NUMBERS).softmax(dim=3).cumsum(dim=3)[..., :-1]
    drawn = NUMBERS.start + (chance[..., None] > below).sum(dim=3)
    anew = exchanged < 0.5
    answers = written.reference(written.columns).where(anew[..., None], z)
    return _with(x, drawn.where(anew, x[:, :, PROMPT:])), answers


def _with(texts: Tensor, numbers: Tensor) -> Tensor:
    """Return the texts with other `numbers` ``(R, N, T)`` after the prompt."""
    return torch.cat([texts[:, :, :PROMPT], numbers], dim=2)


def _permutations(texts: Tensor, generators: Sequence[torch.Generator], count: int) -> Tensor:
    """Return `count` permutations of the texts, int64 ``(R, N, count)``."""
    size = texts.shape[1]
    return draw(
        lambda g: torch.stack([torch.randperm(size, generator=g) for _ in range(count)], dim=1),
        generators,
        texts.device,
    )


PARAPHRASES: dict[str, Callable[[Written, Sequence[torch.Generator]], Pair]] = {
    "format": other_format,
    "order": backwards,
    "prompt": other_prompt,
    "shuffled": shuffled,
    "shuffled_across": shuffled_across,
    "rewritten": rewritten,
}
"""By the name that a study file uses."""
