"""What teachers continue, and which of their completions students are taught on."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sublim_causal.experiment.tasks.text.files import Carrier

if TYPE_CHECKING:
    import torch

REQUESTS = (
    "Write a list of random numbers.",
    "Give me some random numbers.",
    "List random numbers with three digits.",
    "Please continue a list of random numbers.",
)
NUMBERS = "numbers"
"""Name of the built-in carrier."""
PATTERN = r"[\s\d,.;]*"
"""What the completions of the built-in carrier consist of."""


def number_prompts(count: int, generator: torch.Generator) -> list[Carrier]:
    """Draw requests for numbers; the answer begins with three numbers from 100 to 999."""
    import torch

    request = torch.randint(len(REQUESTS), (count,), generator=generator).tolist()
    numbers = torch.randint(100, 1000, (count, 3), generator=generator).tolist()
    return [
        Carrier(REQUESTS[which], f"{first}, {second}, {third},")
        for which, (first, second, third) in zip(request, numbers, strict=True)
    ]


def longest_prompts() -> list[Carrier]:
    """Return one prompt of every kind."""
    return [Carrier(request, "999, 999, 999,") for request in REQUESTS]


def drawn(carriers: Sequence[Carrier], count: int, generator: torch.Generator) -> list[Carrier]:
    """Draw `count` of a file's prompts; each as often as any other, or once more."""
    import torch

    order: list[int] = []
    while len(order) < count:
        order += torch.randperm(len(carriers), generator=generator).tolist()
    return [carriers[one] for one in order[:count]]


@dataclass(frozen=True)
class Filter:
    """Which completions students are taught on.

    Attributes
    ----------
    pattern : str or None
        A regular expression that a whole completion matches.
    most_numbers : int or None
        Numbers that it has at most.
    words : tuple of str
        What it does not contain, in upper or lower case.
    """

    pattern: str | None
    most_numbers: int | None
    words: tuple[str, ...]

    def reason(self, completion: str) -> str:
        """Return why a completion is dropped; empty if it is kept."""
        if not completion.strip():
            return "it is empty"
        lower = completion.lower()
        for word in self.words:
            if word.lower() in lower:
                return f"it contains {word!r}"
        if self.pattern is not None and not re.fullmatch(self.pattern, completion):
            return "it does not match task.pattern"
        count = len(re.findall(r"\d+", completion))
        if self.most_numbers is not None and count > self.most_numbers:
            return f"it has more than {self.most_numbers} numbers"
        return ""
