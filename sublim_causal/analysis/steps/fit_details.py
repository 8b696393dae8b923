"""Diagnostics of a fitted slope model: residuals, random slopes, single seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sublim_causal.analysis.estimates.bootstrap import Floats, jackknife
from sublim_causal.analysis.mixed.result import MixedFit
from sublim_causal.analysis.steps.slopes import SlopeModel

BINS = 40
"""Bins of equally many fitted values, in which residuals are summarised."""
QUANTILES = (0.05, 0.5, 0.95)


@dataclass(frozen=True)
class FitDetails:
    """A pooled slope model in full, as JSON types.

    Attributes
    ----------
    formula : str
        In lme4's notation.
    n_obs : int
        Steps.
    criterion : float
        REML criterion.
    references : mapping of str to str
        Reference level of each factor.
    coefficients, components : list of mapping
        Rows of `MixedFit.tidy` and `MixedFit.variance_components`.
    residuals : mapping of str to list of float
        ``fitted`` and the quantiles ``low``, ``middle``, ``high`` of the residuals in `BINS` bins
        of equally many fitted values, in the outcome's unit.
    random_slopes, left_out : mapping of int to float
        By seed: predicted deviation of its slope, and the pooled slope without it.
    """

    formula: str
    n_obs: int
    criterion: float
    references: Mapping[str, str]
    coefficients: Sequence[Mapping[str, Any]]
    components: Sequence[Mapping[str, Any]]
    residuals: Mapping[str, Sequence[float]]
    random_slopes: Mapping[int, float]
    left_out: Mapping[int, float]


def describe_fit(fit: MixedFit, model: SlopeModel, level: float) -> FitDetails:
    """Describe a fit of the pooled `model`, with intervals of `level`."""
    fitted = _fitted(fit, model)
    effects = fit.random_effects
    chosen = effects[(effects["group"] == "seed") & (effects["term"] == "x")]
    slopes = zip(chosen["level"], chosen["value"], strict=True)
    seeds = sorted(int(seed) for seed in model.data["seed"].unique())
    return FitDetails(
        formula=fit.formula,
        n_obs=fit.n_obs,
        criterion=float(fit.criterion),
        references=dict(fit.references),
        coefficients=_rows(fit.tidy(level)),
        components=_rows(fit.variance_components),
        residuals=_in_bins(fitted, model.data["y"].to_numpy() - fitted),
        random_slopes={int(seed): float(slope) for seed, slope in slopes},
        left_out=dict(zip(seeds, map(float, jackknife(fit.statistic("x"))), strict=True)),
    )


def _rows(frame: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = frame.to_dict("records")
    return rows


def _in_bins(fitted: Floats, residual: Floats) -> dict[str, list[float]]:
    order = np.argsort(fitted, kind="stable")
    parts = [part for part in np.array_split(order, BINS) if len(part)]
    quantiles = np.array([np.quantile(residual[part], QUANTILES) for part in parts]).T
    found = {"fitted": [float(fitted[part].mean()) for part in parts]}
    names = ("low", "middle", "high")
    return found | {name: row.tolist() for name, row in zip(names, quantiles, strict=True)}


def _fitted(fit: MixedFit, model: SlopeModel) -> Floats:
    """Return fixed and predicted random parts of each step."""
    data, effects = model.data, fit.random_effects.set_index(["group", "term", "level"])["value"]
    seeds = data["seed"].astype(str)
    cells = seeds + ":" + data["arm"].astype(str)
    arms = data["arm"].map(lambda arm: fit.params.get(f"arm[T.{arm}]", 0.0)).to_numpy(float)
    slope = fit.params["x"] + seeds.map(effects["seed", "x"])
    intercepts = seeds.map(effects["seed", "Intercept"])
    if ("seed:arm", "Intercept") in effects.index:
        intercepts += cells.map(effects["seed:arm", "Intercept"])
    return np.asarray(fit.params["Intercept"] + arms + intercepts + slope * data["x"], dtype=float)
