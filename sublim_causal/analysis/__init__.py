"""Estimators on data frames; nothing here imports torch.

The names below are loaded when they are first used, so that importing the package stays cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sublim_causal.analysis.arms.contrasts import arm_contrasts as arm_contrasts
    from sublim_causal.analysis.arms.contrasts import paired_contrast as paired_contrast
    from sublim_causal.analysis.arms.equivalence import tost as tost
    from sublim_causal.analysis.arms.independent import welch_contrast as welch_contrast
    from sublim_causal.analysis.arms.power import pilot as pilot
    from sublim_causal.analysis.arms.power import pilots as pilots
    from sublim_causal.analysis.arms.power import power_curve as power_curve
    from sublim_causal.analysis.arms.power import power_table as power_table
    from sublim_causal.analysis.arms.power import seeds_for_equivalence as seeds_for_equivalence
    from sublim_causal.analysis.arms.power import seeds_for_half_width as seeds_for_half_width
    from sublim_causal.analysis.arms.power import seeds_for_power as seeds_for_power
    from sublim_causal.analysis.estimates.bootstrap import cluster_bootstrap as cluster_bootstrap
    from sublim_causal.analysis.estimates.intervals import mean_interval as mean_interval
    from sublim_causal.analysis.estimates.settings import Settings as Settings
    from sublim_causal.analysis.mixed.fit import fit_mixed as fit_mixed
    from sublim_causal.analysis.plan.file import load_plan as load_plan
    from sublim_causal.analysis.plan.run import analyse as analyse
    from sublim_causal.analysis.simulation.tables import simulate as simulate
    from sublim_causal.analysis.simulation.tables import write_run as write_run
    from sublim_causal.analysis.steps.measurement import corrected_slopes as corrected_slopes
    from sublim_causal.analysis.steps.measurement import reliability as reliability

_HOME = {
    "Settings": "estimates.settings",
    "analyse": "plan.run",
    "arm_contrasts": "arms.contrasts",
    "cluster_bootstrap": "estimates.bootstrap",
    "corrected_slopes": "steps.measurement",
    "fit_mixed": "mixed.fit",
    "load_plan": "plan.file",
    "mean_interval": "estimates.intervals",
    "paired_contrast": "arms.contrasts",
    "pilot": "arms.power",
    "pilots": "arms.power",
    "power_curve": "arms.power",
    "power_table": "arms.power",
    "reliability": "steps.measurement",
    "seeds_for_equivalence": "arms.power",
    "seeds_for_half_width": "arms.power",
    "seeds_for_power": "arms.power",
    "simulate": "simulation.tables",
    "tost": "arms.equivalence",
    "welch_contrast": "arms.independent",
    "write_run": "simulation.tables",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
