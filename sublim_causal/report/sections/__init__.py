"""The sections of a report, in its order: each a function of the material."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sublim_causal.report.elements import Section
from sublim_causal.report.material import Material
from sublim_causal.report.sections.acquisition import acquisition
from sublim_causal.report.sections.alignment import alignment
from sublim_causal.report.sections.control import control
from sublim_causal.report.sections.glance import glance
from sublim_causal.report.sections.ledger import ledger
from sublim_causal.report.sections.mediation import mediation
from sublim_causal.report.sections.methods import methods
from sublim_causal.report.sections.mixed import mixed

BODY: Mapping[str, Callable[[Material], Section]] = {
    "study": glance,
    "alignment": alignment,
    "acquisition": acquisition,
    "mixed": mixed,
    "ledger": ledger,
    "mediation": mediation,
    "control": control,
    "methods": methods,
}
"""Sections after the answer, by anchor."""
