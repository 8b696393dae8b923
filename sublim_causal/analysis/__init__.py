"""Estimators on data frames; nothing here imports torch.

The names below are loaded when they are first used, so that importing the package stays cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sublim_causal.analysis.bootstrap import cluster_bootstrap as cluster_bootstrap
    from sublim_causal.analysis.contrasts import arm_contrasts as arm_contrasts
    from sublim_causal.analysis.contrasts import paired_contrast as paired_contrast
    from sublim_causal.analysis.equivalence import tost as tost
    from sublim_causal.analysis.estimation import analyse as analyse
    from sublim_causal.analysis.intervals import mean_interval as mean_interval
    from sublim_causal.analysis.measurement import corrected_slopes as corrected_slopes
    from sublim_causal.analysis.measurement import reliability as reliability
    from sublim_causal.analysis.mixed import fit_mixed as fit_mixed
    from sublim_causal.analysis.plan import load_plan as load_plan
    from sublim_causal.analysis.power import pilot as pilot
    from sublim_causal.analysis.power import pilots as pilots
    from sublim_causal.analysis.power import power_curve as power_curve
    from sublim_causal.analysis.power import power_table as power_table
    from sublim_causal.analysis.power import seeds_for_equivalence as seeds_for_equivalence
    from sublim_causal.analysis.power import seeds_for_half_width as seeds_for_half_width
    from sublim_causal.analysis.power import seeds_for_power as seeds_for_power
    from sublim_causal.analysis.simulation import simulate as simulate

_HOME = {
    "analyse": "estimation",
    "arm_contrasts": "contrasts",
    "cluster_bootstrap": "bootstrap",
    "corrected_slopes": "measurement",
    "fit_mixed": "mixed",
    "load_plan": "plan",
    "mean_interval": "intervals",
    "paired_contrast": "contrasts",
    "pilot": "power",
    "pilots": "power",
    "power_curve": "power",
    "power_table": "power",
    "reliability": "measurement",
    "seeds_for_equivalence": "power",
    "seeds_for_half_width": "power",
    "seeds_for_power": "power",
    "simulate": "simulation",
    "tost": "equivalence",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
