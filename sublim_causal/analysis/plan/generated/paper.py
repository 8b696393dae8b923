"""Figures that the paper reports, for comparison with its replication."""

from __future__ import annotations

from dataclasses import dataclass

STUDY = "paper"
"""Name of the study that replicates it."""
SOURCE = "Kitkana and Arora, arXiv 2604.25779 (one draw, no interval given)"
FINAL_ACCURACY = {"baseline": 0.5528, "projection": 0.1014, "liminal": 0.4897}
"""Final test accuracy (fraction) by arm."""
MEAN_COSINE = 0.0075
"""Mean cosine of distillation and trait gradient in the baseline arm."""
SHARE_POSITIVE = 0.781
"""Share of steps with a positive cosine in the baseline arm (fraction)."""


@dataclass(frozen=True)
class PaperFigure:
    """A figure of the paper."""

    label: str
    value: float
    column: str
    """Column of ``replicates`` that measures it."""
    arm: str
    percent: bool


QUOTED = (
    *(
        PaperFigure(f"final test accuracy, {arm} (%)", value, "final_accuracy", arm, True)
        for arm, value in FINAL_ACCURACY.items()
    ),
    PaperFigure(
        "mean gradient cosine, baseline", MEAN_COSINE, "mean_cos_gradient", "baseline", False
    ),
    PaperFigure(
        "steps with a positive cosine, baseline (%)",
        SHARE_POSITIVE,
        "share_positive",
        "baseline",
        True,
    ),
)
