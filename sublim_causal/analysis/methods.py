"""The methods a plan can name: one row each, a declaration and a function.

A method of your own: subclass `Declared` with its fields, write a function of
``(record, declared, settings)`` that returns results, and add a row to `METHODS`.
"""

from __future__ import annotations

from collections.abc import Mapping

from sublim_causal.analysis.contrast_methods import CONTRAST_METHODS
from sublim_causal.analysis.dose_methods import DOSE_METHODS
from sublim_causal.analysis.effect_methods import EFFECT_METHODS
from sublim_causal.analysis.ledger_methods import LEDGER_METHODS
from sublim_causal.analysis.method import Method
from sublim_causal.analysis.replication import REPLICATION_METHODS
from sublim_causal.analysis.step_methods import STEP_METHODS

METHODS: Mapping[str, Method] = {
    **CONTRAST_METHODS,
    **STEP_METHODS,
    **LEDGER_METHODS,
    **DOSE_METHODS,
    **EFFECT_METHODS,
    **REPLICATION_METHODS,
}
