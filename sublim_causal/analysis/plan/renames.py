"""What plans called otherwise before version 0.2; such a plan is refused with the new name."""

from __future__ import annotations

from collections.abc import Mapping

RENAMED_METHODS: Mapping[str, str] = {
    "direct_dose_effect": "egger_intercept",
    "dose_effect": "iv_linear_dose",
    "two_stage": "iv_2sls",
}
"""Methods."""

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
"""Endings of results, by method."""
