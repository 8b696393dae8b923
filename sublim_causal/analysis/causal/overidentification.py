"""The over-identification test beside an estimate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sublim_causal.analysis.estimates.types import TestResult

REJECTS = 0.05
"""Level of the over-identification test."""


@dataclass(frozen=True)
class OveridentificationNote:
    """How an over-identification test is shown beside an estimate.

    Attributes
    ----------
    method : str
        Suffix of the estimate's method, so that every line that shows the number shows it.
    warnings : tuple of str
        What follows from a rejection.
    diagnostics : mapping
        j, j_df, j_p, j_rejects; empty when the test was not run.
    """

    method: str
    warnings: tuple[str, ...]
    diagnostics: Mapping[str, Any]


def overidentification_note(test: TestResult) -> OveridentificationNote:
    """Put an over-identification test into words, rejecting at `REJECTS`."""
    if test.statistic is None or test.p_value is None:
        return OveridentificationNote("", (), {})
    df = ", ".join(f"{number:.0f}" for number in test.df)
    shown = f"J {test.distribution}({df}) = {test.statistic:.1f}, p {test.p_value:.2g}"
    numbers = {"j": test.statistic, "j_df": list(test.df), "j_p": test.p_value}
    if test.p_value >= REJECTS:
        return OveridentificationNote(
            f"; over-identification not rejected: {shown}", (), {**numbers, "j_rejects": False}
        )
    return OveridentificationNote(
        f"; OVER-IDENTIFICATION REJECTED: {shown}",
        (f"exclusion is contradicted ({shown}): the instruments disagree on the effect",),
        {**numbers, "j_rejects": True},
    )
