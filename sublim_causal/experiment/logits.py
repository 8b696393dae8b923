"""Which logits of a network are which."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class LogitSplit:
    """The columns of a network's logits.

    Attributes
    ----------
    total : int
        Number of logits.
    trait, taught : slice
        The logits in which the trait shows, which studies call ``class``, and those that students
        are taught, which studies call ``auxiliary``.
    """

    total: int
    trait: slice
    taught: slice

    def columns(self, which: Literal["all", "class", "auxiliary"]) -> slice:
        """Return the columns of the named logits."""
        return {"all": slice(0, self.total), "class": self.trait, "auxiliary": self.taught}[which]


def of_classes(classes: int, auxiliary: int) -> LogitSplit:
    """Return the split of logits whose first ones are those of classes."""
    total = classes + auxiliary
    return LogitSplit(total, slice(0, classes), slice(classes, total))
