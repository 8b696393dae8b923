"""Mixed-effects models: slopes, variance components, and whether the model holds."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from sublim_causal.analysis.estimates.bootstrap import jackknife
from sublim_causal.analysis.estimates.types import MIN_SEEDS, Estimate, Result
from sublim_causal.analysis.mixed.fit import fit_mixed
from sublim_causal.analysis.mixed.result import MixedFit
from sublim_causal.analysis.plan.declaration import column_unit
from sublim_causal.analysis.plan.methods.steps import StepSlope
from sublim_causal.analysis.steps.slopes import LEVELS, SlopeModel, slope_model
from sublim_causal.errors import DataError
from sublim_causal.report.blocks import Block, Code, Missing, Picture, Section, Table, Text
from sublim_causal.report.commands import aligned_command, report_command, run_command
from sublim_causal.report.figures.mixed import influence, normal_quantiles, residuals
from sublim_causal.report.figures.runs import Bar, forest
from sublim_causal.report.material import Material
from sublim_causal.report.tables import declared_table, estimates_table
from sublim_causal.report.wording import counted, decimals, interval, number, p_value, significant

TITLE = "Gains and alignment: mixed-effects models"
METHODS = ("mixed_model", "mundlak", "corrected_slope", "reliability")
"""Further methods of a plan whose results stand in this section."""
EXAMPLE = ("gain", "cos_update")
"""Outcome and predictor of the model that is shown in full, where the plan declares it."""


@dataclass(frozen=True)
class _Pair:
    outcome: str
    predictor: str

    @property
    def text(self) -> str:
        return f"{self.outcome} on {self.predictor}"

    @property
    def unit(self) -> str:
        return column_unit("steps", self.outcome)


def mixed(material: Material) -> Section:
    """Return the section ``mixed``."""
    return Section("mixed", TITLE, [*_blocks(material)])


def _blocks(material: Material) -> Iterator[Block]:
    found = material.declared("step_slope")
    yield from declared_table(material, "mixed_declared", METHODS)
    if not found:
        yield Missing(
            "The plan declares no per-step slope (method step_slope).",
            report_command(material.run),
        )
        return
    if material.n_seeds < MIN_SEEDS:
        yield Missing(
            f"{counted(material.n_seeds, 'complete seed', 'complete seeds')}; a mixed model needs "
            f"at least {MIN_SEEDS}.",
            run_command(material.run, "--seeds", "8"),
        )
        return
    yield Text(
        "How much more of the trait is gained in a step that is better aligned. Slopes are per "
        "unit of cosine; a typical step's cosine is far below 1, so a slope is best read as slope "
        "times a typical cosine. A slope is an association within runs, between arms or between "
        "seeds; only what lies between arms was assigned by design."
    )
    pairs = [*dict.fromkeys(_pair(material, one) for one in found)]
    by_pair = {pair: [one for one in found if _pair(material, one) == pair] for pair in pairs}
    for pair, rows in by_pair.items():
        yield from _slope_picture(material, pair, rows)
    for pair, rows in by_pair.items():
        yield _slope_table(material, pair, rows)
    known = [pair for pair in pairs if any(isinstance(one, Estimate) for one in by_pair[pair])]
    if not known:
        yield Missing(
            "No slope can be estimated, for the reasons below the tables.",
            aligned_command(material.run) if material.unmeasured else "",
        )
        return
    chosen = next((pair for pair in known if (pair.outcome, pair.predictor) == EXAMPLE), known[0])
    yield _levels(material, known)
    yield from _or_why(_in_full(material, chosen))


def _or_why(blocks: Iterator[Block]) -> Iterator[Block]:
    """Yield `blocks`; where the data cannot say, the reason instead."""
    try:
        yield from blocks
    except DataError as error:
        yield Missing(str(error))


def _pair(material: Material, result: Result) -> _Pair:
    declared = material.declaration(result)
    assert isinstance(declared, StepSlope)  # `material.declared` chose it by its method
    return _Pair(declared.outcome, declared.predictor)


def _slope_picture(material: Material, pair: _Pair, rows: Sequence[Result]) -> Iterator[Block]:
    bars = [
        Bar(_label(one), one.value, one.low, one.high)
        for one in rows
        if isinstance(one, Estimate) and one.estimand.part not in LEVELS[1:]
    ]
    if bars:
        yield Picture(
            f"slopes_{pair.outcome}_{pair.predictor}",
            f"Slopes of {pair.text} with {100 * material.level:g} % intervals; those between arms "
            "and between seeds are in the table.",
            forest(bars, f"{pair.unit} per unit of {pair.predictor}"),
        )


def _slope_table(material: Material, pair: _Pair, rows: Sequence[Result]) -> Table:
    return estimates_table(
        f"slopes_{pair.outcome}_{pair.predictor}",
        f"Slopes of {pair.text}, {pair.unit} per unit of cosine.",
        rows,
        labels=[_label(one) for one in rows],
    )


def _label(result: Result) -> str:
    one = result.estimand
    return one.arm or one.part.replace("_", " ") or "all arms, pooled"


def _levels(material: Material, pairs: Sequence[_Pair]) -> Table:
    """One row a pair: whether the slopes within, between arms and between seeds are one."""
    rows = []
    for pair in pairs:
        test = material.equal_slopes[pair.outcome, pair.predictor]
        known = test.p_value is not None
        rows.append(
            {
                "": pair.text,
                "null hypothesis": test.null,
                "F": f"{test.statistic:.3g}" if known else "",
                "df": ", ".join(f"{df:.3g}" for df in test.df),
                "p": p_value(test.p_value) or test.reason,
            }
        )
    frame = pd.DataFrame(rows)
    return Table(
        "levels",
        "Within runs, between arms, between seeds: a small p says that the slopes differ, so that "
        "none of them can stand for the causal one without an argument. Added by the report.",
        frame,
        frame,
    )


def _in_full(material: Material, pair: _Pair) -> Iterator[Block]:
    steps = material.steps([pair.outcome, pair.predictor])
    model = slope_model(steps, pair.outcome, pair.predictor, "pooled", arms=material.shown_arms)
    fit = fit_mixed(model.data, model.formula, vcov="CR2", df="cr2")
    unit = pair.unit
    yield Text(f"The pooled model of {pair.text} in full (y: {pair.outcome}, x: {pair.predictor}).")
    yield Code(fit.formula)
    yield _coefficients(fit, material.level)
    yield _components(fit)
    yield from (Text(f"Note: {note}.") for note in fit.warnings)
    fitted = _fitted(fit, model)
    residual = model.data["y"].to_numpy() - fitted
    yield Picture(
        "mixed_residuals",
        f"Residuals of {pair.text} against fitted values, in 40 bins of equally many steps: "
        "median and central 90 %. A good model shows medians on 0 and bars of one length.",
        residuals(fitted, residual, unit),
    )
    slopes = _random_slopes(fit)
    if np.ptp(slopes.to_numpy()) > 0:
        yield Picture(
            "mixed_random_slopes",
            "Predicted deviations of the seeds' slopes against normal quantiles; on the dashed "
            "line they would be normal.",
            normal_quantiles(slopes.to_numpy(), f"slope's deviation ({unit} per unit of cosine)"),
        )
    limits = fit.contrast("x", material.level).iloc[0]
    left_out = pd.Series(jackknife(fit.statistic("x")), index=sorted(steps["seed"].unique()))
    yield Picture(
        "mixed_influence",
        "The pooled slope without each seed, beside estimate and CR2 interval of all seeds; the "
        "three most influential seeds are named.",
        influence(
            left_out,
            float(limits["estimate"]),
            float(limits["low"]),
            float(limits["high"]),
            f"slope ({unit} per unit of cosine)",
        ),
    )


def _coefficients(fit: MixedFit, level: float) -> Table:
    frame = fit.tidy(level)
    places = [decimals(low, high) for low, high in zip(frame["low"], frame["high"], strict=True)]
    limits = zip(frame["low"], frame["high"], places, strict=True)
    shown = pd.DataFrame(
        {
            "coefficient": frame["term"],
            "estimate": [number(v, n) for v, n in zip(frame["estimate"], places, strict=True)],
            f"{100 * level:g} % interval (CR2)": [interval(*ends) for ends in limits],
            "df": [f"{v:.1f}" for v in frame["df"]],
            "p": [p_value(v) for v in frame["p_value"]],
        }
    )
    counts = f"{fit.n_obs:,} steps, {fit.n_groups} seeds; REML criterion {fit.criterion:.2f}"
    references = ", ".join(f"{name} {at}" for name, at in fit.references.items() if name == "arm")
    return Table(
        "mixed_coefficients",
        f"Fixed effects. {counts}{f'; reference: {references}' * bool(references)}.",
        shown,
        frame,
    )


def _components(fit: MixedFit) -> Table:
    frame = fit.variance_components
    rows: list[dict[str, Any]] = frame.to_dict("records")  # type: ignore[assignment]
    deviations = {
        (row["group"], row["term1"]): math.sqrt(max(row["value"], 0.0))
        for row in rows
        if not row["term2"]
    }
    shown = []
    for row in rows:
        own = deviations[row["group"], row["term1"]]
        what, value = row["term1"] or "each step", own
        if row["term2"]:
            scale = own * deviations[row["group"], row["term2"]]
            if scale == 0:  # no variance, no correlation
                continue
            what = f"correlation of {row['term1']} and {row['term2']}"
            value = row["value"] / scale
        shown.append(
            {
                "group": row["group"],
                "term": what,
                "sd or correlation": number(value, significant(value) + 1),
            }
        )
    return Table(
        "mixed_components",
        "Variance components, as standard deviations and correlations.",
        pd.DataFrame(shown),
        frame,
    )


def _random_slopes(fit: MixedFit) -> pd.Series:
    effects = fit.random_effects
    chosen = effects[(effects["group"] == "seed") & (effects["term"] == "x")]
    return chosen.set_index("level")["value"]


def _fitted(fit: MixedFit, model: SlopeModel) -> np.ndarray:
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
