"""Dose studies: every seed under every strength, as matrices of seeds by arms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from sublim_causal.analysis.estimates.panel import Panel, paired_panel
from sublim_causal.analysis.estimates.types import Estimand, Floats, NotEstimable, too_few
from sublim_causal.errors import RequestError

TREATMENT = "mean_cos_update"
OUTCOME = "final_accuracy"
EXCLUSION = (
    "the dose is assigned by design",
    "exclusion: the dose changes the outcome through alignment only",
    "relevance: the dose changes alignment",
)


@dataclass(frozen=True)
class DosePanel:
    """Seeds that are complete at every dose, arms by rising strength.

    Attributes
    ----------
    strength : ndarray of shape (D,)
        Strength of each arm.
    """

    panel: Panel
    strength: Floats

    def slopes(self, column: str) -> Floats:
        """Return the least-squares slope of `column` on the strength by seed, shape ``(R,)``."""
        contrast = self.strength - self.strength.mean()
        return np.asarray(self.panel.columns[column] @ (contrast / (contrast @ contrast)))

    def refusal(self, estimand: Estimand, treatment: str) -> NotEstimable | None:
        """Return why no effect of `treatment` can be estimated; None where one can."""
        return too_few(estimand, len(self.panel.seeds)) or unmoved(
            estimand, treatment, self.panel.changes(treatment)
        )


def dose_panel(
    frame: pd.DataFrame, doses: Mapping[str, float], columns: Sequence[str]
) -> DosePanel:
    """Arrange `columns` of the table ``replicates`` by seed and dose.

    Raises
    ------
    RequestError
        If fewer than two different strengths are given or one is not finite.
    """
    arms = validate_doses(doses)
    strength = np.array([doses[arm] for arm in arms], dtype=float)
    return DosePanel(paired_panel(frame, columns, arms), strength)


def validate_doses(doses: Mapping[str, float]) -> tuple[str, ...]:
    """Return the arms of a dose study by rising strength.

    Raises
    ------
    RequestError
        If fewer than two different strengths are given or one is not finite.
    """
    if not np.isfinite(list(doses.values())).all() or len(set(doses.values())) < 2:
        raise RequestError(
            "doses",
            dict(doses),
            "arm names with finite strengths, at least two of them different",
            "give the undosed arm too: {'baseline': 0.0, 'projection': 1.0}",
        )
    return tuple(sorted(doses, key=lambda arm: doses[arm]))


def unmoved(estimand: Estimand, treatment: str, within_seed: Floats) -> NotEstimable | None:
    """Return a refusal where no arm moves the alignment of any seed; else None."""
    if np.abs(within_seed).max(initial=0.0) > 0:
        return None
    return NotEstimable(estimand, f"{treatment} is the same under every arm of a seed")


def effect_estimand(name: str, treatment: str, outcome: str, how: str) -> Estimand:
    """Return the estimand of an instrumented effect of alignment."""
    return Estimand(
        name=f"effect_{treatment}_{name}",
        sentence=f"Change of {outcome} per unit of {treatment}, {how}.",
        outcome=outcome,
        contrast=f"d {outcome} / d {treatment}",
        assumptions=EXCLUSION,
    )
