"""How estimators compute intervals: confidence level, kind of interval, bootstrap draws."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from sublim_causal.errors import RequestError, nearest

IntervalRule = Literal["auto", "t", "bootstrap-t"]
INTERVAL_RULES: tuple[IntervalRule, ...] = ("auto", "t", "bootstrap-t")

N_BOOT = 1999
"""Default number of replicates: (1999 + 1) * 0.025 is a whole number."""


@dataclass(frozen=True)
class Settings:
    """How estimators compute their intervals.

    Attributes
    ----------
    level : float
        Confidence level in (0, 1).
    interval : {"auto", "t", "bootstrap-t"}
        ``"auto"``: the t interval (Fieller's set for a ratio), or where the skewness rule
        asks for it the hull of that and the studentised bootstrap; or always one of the two.
    n_boot : int
        Bootstrap replicates, at least 1.
    rng : Generator or int
        Randomness of the bootstrap. With an integer the draws depend on nothing but the numbers
        of seeds and replicates, so that equal values have equal intervals wherever they are
        estimated; plans use 0. A generator advances from call to call.

    Raises
    ------
    RequestError
        If a value is not allowed.
    """

    level: float = 0.95
    interval: IntervalRule = "auto"
    n_boot: int = N_BOOT
    rng: np.random.Generator | int = 0

    def __post_init__(self) -> None:
        validate_level(self.level)
        if self.interval not in INTERVAL_RULES:
            raise RequestError(
                "interval",
                self.interval,
                ", ".join(INTERVAL_RULES),
                nearest(self.interval, INTERVAL_RULES),
            )
        if self.n_boot < 1:
            raise RequestError("n_boot", self.n_boot, "a whole number, at least 1")


def validate_level(level: float) -> float:
    """Return `level` if it is a confidence level strictly between 0 and 1.

    Raises
    ------
    RequestError
        If it is not.
    """
    if not 0 < level < 1:
        raise RequestError("level", level, "a number strictly between 0 and 1", "use 0.95")
    return level
