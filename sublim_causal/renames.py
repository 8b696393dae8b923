"""Names of versions before 0.2, and how records of those versions are read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

RENAMED = {
    # fields of an arm in a study file
    "lesson": "targets",
    "jitter": "teacher_input_noise",
    # interventions
    "only": "train_only",
    "inject": "set_cosine",
    # columns of the table `replicates`
    "reference_accuracy": "initial_accuracy",
    "reference_robust_accuracy": "initial_robust_accuracy",
}
"""New names by old ones: for the refusal of an old name, and for records that hold it."""

RENAMED_METHODS: Mapping[str, str] = {
    "direct_dose_effect": "egger_intercept",
    "dose_effect": "iv_linear_dose",
    "two_stage": "iv_2sls",
}
"""Methods of plans."""

_EFFECTS = {
    "total": "te",
    "direct_0": "pnde",
    "indirect_1": "tnie",
    "indirect_0": "pnie",
    "direct_1": "tnde",
    "proportion": "proportion_mediated",
}
RENAMED_PARTS: Mapping[str, Mapping[str, str]] = {
    "cross_world": {**_EFFECTS, "leak": "residual_mediator_gap"},
    "mediation": {**_EFFECTS, "controlled": "cde"},
}
"""Endings of results of plans, by method."""


def renamed(name: str) -> str:
    """Return the remedy for a name of a version before 0.2, or an empty string."""
    return f"{name!r} is called {RENAMED[name]!r} since version 0.2" if name in RENAMED else ""


def current_manifest(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return a manifest of tables of version 1 or 2 with the names that arms have today."""
    study = manifest["study"]
    translated = {**manifest, "study": {**study, "arms": _arms(study["arms"])}}
    if "arms" in manifest:
        translated["arms"] = _arms(manifest["arms"])
    return translated


def _arms(arms: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    return {arm: _current_arm(table) for arm, table in arms.items()}


def _current_arm(table: Mapping[str, Any]) -> dict[str, Any]:
    """Translate an arm, nested or flat (``lesson.jitter``), or a part of a compound intervention.

    Options of interventions and channels are left as they are: a class of a user's own may use any
    name.
    """
    return {_field(key): _value(key, value) for key, value in table.items()}


def _field(key: str) -> str:
    if key == "lesson" or key.startswith("lesson."):
        return ".".join(RENAMED.get(part, part) for part in key.split("."))
    return key


def _value(key: str, value: Any) -> Any:
    if key == "lesson" and isinstance(value, Mapping):
        return {RENAMED.get(field, field): one for field, one in value.items()}
    if key == "procedure" and isinstance(value, Mapping):
        return _current_arm(value)
    if key.endswith("members") and isinstance(value, list):
        return [_current_arm(part) for part in value]
    if key.endswith("intervention"):
        return RENAMED.get(value, value)
    return value
