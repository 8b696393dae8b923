"""The methods a plan can name: one row each, a declaration and a function.

To add a method, subclass `Declared` with its fields, write a function of ``(record, declared,
settings)`` that returns results, and add a row to `METHODS`.
"""

from __future__ import annotations

from collections.abc import Mapping

from sublim_causal.analysis.plan.method import Method
from sublim_causal.analysis.plan.methods.arms import CONTRAST_METHODS
from sublim_causal.analysis.plan.methods.bounds import BOUND_METHODS
from sublim_causal.analysis.plan.methods.collapse import COLLAPSE_METHODS
from sublim_causal.analysis.plan.methods.descriptives import DESCRIPTIVE_METHODS
from sublim_causal.analysis.plan.methods.doses import DOSE_METHODS
from sublim_causal.analysis.plan.methods.effects import EFFECT_METHODS
from sublim_causal.analysis.plan.methods.instruments import INSTRUMENT_METHODS
from sublim_causal.analysis.plan.methods.ledger import LEDGER_METHODS
from sublim_causal.analysis.plan.methods.means import MEAN_METHODS
from sublim_causal.analysis.plan.methods.measurement import MEASUREMENT_METHODS
from sublim_causal.analysis.plan.methods.mediation import MEDIATION_METHODS
from sublim_causal.analysis.plan.methods.mixed import MIXED_METHODS
from sublim_causal.analysis.plan.methods.published import REPLICATION_METHODS
from sublim_causal.analysis.plan.methods.runs import RUN_METHODS
from sublim_causal.analysis.plan.methods.screens import SCREEN_METHODS
from sublim_causal.analysis.plan.methods.slopes import SLOPE_METHODS
from sublim_causal.analysis.plan.methods.specificity import SPECIFICITY_METHODS
from sublim_causal.analysis.plan.methods.summaries import SUMMARY_METHODS

METHODS: Mapping[str, Method] = {
    **CONTRAST_METHODS,
    **DESCRIPTIVE_METHODS,
    **MEAN_METHODS,
    **COLLAPSE_METHODS,
    **SUMMARY_METHODS,
    **SLOPE_METHODS,
    **MIXED_METHODS,
    **MEASUREMENT_METHODS,
    **LEDGER_METHODS,
    **BOUND_METHODS,
    **INSTRUMENT_METHODS,
    **DOSE_METHODS,
    **EFFECT_METHODS,
    **MEDIATION_METHODS,
    **REPLICATION_METHODS,
    **RUN_METHODS,
    **SCREEN_METHODS,
    **SPECIFICITY_METHODS,
}
