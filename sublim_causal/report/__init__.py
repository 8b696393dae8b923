"""Reports: a run's tables become one document, with its figures and tables as files.

The names below are loaded when they are first used: figures need matplotlib, which is slow to load.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sublim_causal.report.build import write_report as write_report
    from sublim_causal.report.compare import compare_reports as compare_reports
    from sublim_causal.report.figures.results import plot_results as plot_results

_HOME = {"compare_reports": "compare", "plot_results": "figures.results", "write_report": "build"}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
