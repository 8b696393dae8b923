"""The outcome by which the students of a run are judged, read from its manifest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True)
class Outcome:
    """The column by which students are judged.

    Attributes
    ----------
    name : str
        Column of ``replicates``: what a student has in the end.
    start : str
        Column of ``replicates``: what it began with.
    teacher : str
        Column of ``replicates``: what the teacher has.
    curve : str
        Column of ``evaluations``: what it has on the way.
    label : str
        What the column is called in sentences, tables and figures.
    chance : float or None
        What a student without the trait has, in the column's unit; None: not known.
    margin : float or None
        Difference below which two arms count as equal, in the column's unit; None: not declared.
    """

    name: str
    start: str
    teacher: str
    curve: str
    label: str
    chance: float | None
    margin: float | None


ACCURACY = Outcome(
    name="final_accuracy",
    start="initial_accuracy",
    teacher="teacher_accuracy",
    curve="test_accuracy",
    label="final test accuracy",
    chance=0.1,
    margin=0.05,
)
"""Of students of images, and of all runs whose manifest records none."""

TRAIT_LOG_ODDS = Outcome(
    name="trait_log_odds",
    start="initial_trait_log_odds",
    teacher="teacher_trait_log_odds",
    curve="trait_log_odds",
    label="log-odds of the trait",
    chance=0.0,
    margin=0.2,
)
"""Of students of texts."""


def outcome_of(manifest: Mapping[str, Any]) -> Outcome:
    """Return the outcome that a manifest records."""
    recorded = manifest.get("outcome")
    if not isinstance(recorded, Mapping):
        return ACCURACY
    return Outcome(**{field.name: recorded[field.name] for field in fields(Outcome)})


def data_of(manifest: Mapping[str, Any]) -> str:
    """Return the name of a run's data set; of a task without one, that of the task."""
    study = manifest["study"]
    task = str(study.get("task", {}).get("name", "images"))
    return str(study.get("data", {}).get("name", "")) if task == "images" else task
