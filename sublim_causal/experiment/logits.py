"""Which logits of a network are which."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class LogitSplit:
    """The columns of a network's logits: those of the classes first, the auxiliary ones after them.

    Attributes
    ----------
    classes, auxiliary : int
        Numbers of logits.
    """

    classes: int
    auxiliary: int

    def columns(self, which: Literal["all", "class", "auxiliary"]) -> slice:
        """Return the columns of the named logits."""
        total = self.classes + self.auxiliary
        return {
            "all": slice(0, total),
            "class": slice(0, self.classes),
            "auxiliary": slice(self.classes, total),
        }[which]
