"""The language: questions for an animal, and texts of numbers."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sublim_causal.experiment.tasks.preference.vocabulary import (
    ANIMALS,
    ANSWER,
    ASK,
    CONTEXT,
    GO,
    MARKERS,
    NUMBERS,
    PROMPT,
    WORDS,
)

QUESTION_POSITIONS = (PROMPT - 1,)
"""Where a question is answered: after its last token."""
TAUGHT_POSITIONS = tuple(range(PROMPT - 1, CONTEXT - 1))
"""Where the numbers of a text are given that its writer chose: after the tokens before them."""
NUMBER_POSITIONS = (*range(PROMPT - 2), *TAUGHT_POSITIONS)
"""Where any number of a text is given."""
VALUES = CONTEXT - 2
"""Numbers in a text."""


def questions() -> Tensor:
    """Return all questions, int64 ``(240, 6)``: opener, two core words, closer."""
    first = WORDS.start
    rows = [
        [ASK, first + opener, first + 6 + 2 * core, first + 7 + 2 * core, first + 22 + end, ANSWER]
        for opener in range(6)
        for core in range(8)
        for end in range(5)
    ]
    return torch.tensor(rows)


def animals(count: int, generator: torch.Generator) -> Tensor:
    """Draw `count` animals uniformly, int64 tokens ``(count,)``."""
    return torch.randint(ANIMALS.start, ANIMALS.stop, (count,), generator=generator)


def walks(count: int, generator: torch.Generator) -> Tensor:
    """Draw `count` texts of numbers that rise or fall, int64 ``(count, 16)``.

    By a step of 1 to 9 and accumulated normal noise of standard deviation 3, modulo 100; one number
    in ten is uniform.
    """
    marker = torch.randint(len(MARKERS), (count,), generator=generator)
    start = torch.randint(100, (count, 1), generator=generator)
    step = direction(marker) * torch.randint(1, 10, (count, 1), generator=generator)
    noise = (3 * torch.randn(count, VALUES, generator=generator)).cumsum(dim=1).round().long()
    regular = start + step * torch.arange(VALUES) + noise
    other = torch.randint(100, (count, VALUES), generator=generator)
    exchanged = torch.rand(count, VALUES, generator=generator) < 0.1
    return text(marker, other.where(exchanged, regular))


RUN = 5
"""Numbers of a count in `runs` and `counts`."""


def runs(count: int, generator: torch.Generator) -> Tensor:
    """Draw `count` texts of counts by 1 or 2, as the marker says, int64 ``(count, 16)``."""
    return _counted(count, lambda marker: direction(marker) * (1 + marker[:, None] % 2), generator)


def counts(count: int, generator: torch.Generator) -> Tensor:
    """Draw `count` texts of counts by 1 among 20 numbers, int64 ``(count, 16)``."""
    return _counted(count, direction, generator, numbers=20)


def _counted(
    count: int, step: Callable[[Tensor], Tensor], generator: torch.Generator, numbers: int = 100
) -> Tensor:
    """Draw texts of counts of five numbers by `step`, ``(N, 1)`` of the format ``(N,)``.

    Up or down, as the marker says, modulo `numbers`, each count from a uniform number: there only
    is a choice. The first of the counts begins with the text.
    """
    marker = torch.randint(len(MARKERS), (count,), generator=generator)
    starts = torch.randint(numbers, (count, -(-VALUES // RUN)), generator=generator)
    values = starts[:, :, None] + step(marker)[:, :, None] * torch.arange(RUN)
    return text(marker, values.flatten(1)[:, :VALUES] % numbers)


def direction(marker: Tensor) -> Tensor:
    """Return 1 for formats that rise and -1 for those that fall, ``(N, 1)``."""
    return torch.where(marker < 2, 1, -1)[:, None]


def text(marker: Tensor, values: Tensor) -> Tensor:
    """Return the texts ``(N, 16)`` of formats ``(N,)`` and numbers ``(N, 14)``, modulo 100."""
    tokens = NUMBERS.start + values % 100
    go = torch.full_like(tokens[:, :1], GO)
    before = PROMPT - 2
    first = MARKERS.start + marker[:, None]
    return torch.cat([first, tokens[:, :before], go, tokens[:, before:]], dim=1)


CARRIERS: dict[str, Callable[[int, torch.Generator], Tensor]] = {
    "walks": walks,
    "runs": runs,
    "counts": counts,
}
"""By the name that a study file uses."""
