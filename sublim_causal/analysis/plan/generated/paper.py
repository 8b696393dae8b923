"""Figures that the paper reports, for comparison with its replication."""

from __future__ import annotations

from dataclasses import dataclass

STUDY = "paper"
"""Name of the study that replicates it."""
SOURCE = "Kitkana and Arora, arXiv 2604.25779 (one draw, no interval given)"


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
    PaperFigure("final test accuracy, baseline (%)", 0.5528, "final_accuracy", "baseline", True),
    PaperFigure(
        "final test accuracy, projection (%)", 0.1014, "final_accuracy", "projection", True
    ),
    PaperFigure("final test accuracy, liminal (%)", 0.4897, "final_accuracy", "liminal", True),
    PaperFigure("mean gradient cosine, baseline", 0.0075, "mean_cos_gradient", "baseline", False),
    PaperFigure(
        "steps with a positive cosine, baseline (%)", 0.781, "share_positive", "baseline", True
    ),
)
