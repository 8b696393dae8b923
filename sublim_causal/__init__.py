"""A causal laboratory for subliminal learning."""

from __future__ import annotations

import importlib
from typing import Any

_PUBLIC = {
    "AlignmentMonitor": "sublim_causal.monitor",
    "guard": "sublim_causal.monitor",
    "open_run": "sublim_causal.own.run",
    "screen": "sublim_causal.monitor",
    "Study": "sublim_causal.study.spec.study",
    "load_study": "sublim_causal.study.spec.reading",
    "Intervention": "sublim_causal.experiment.interventions.base",
    "read_table": "sublim_causal.store.tables",
    "read_weights": "sublim_causal.store.weights",
    "analyse": "sublim_causal.analysis",
    "fit_mixed": "sublim_causal.analysis",
    "paired_contrast": "sublim_causal.analysis",
    "plot_results": "sublim_causal.report",
    "SublimError": "sublim_causal.errors",
}
__all__ = [*_PUBLIC, "__version__"]


def __getattr__(name: str) -> Any:
    """Import public names on first use, so that importing the package stays fast."""
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("sublim-causal")
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
