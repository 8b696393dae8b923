"""Mixed-effects models: slopes, variance components, and whether the model holds."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from sublim_causal.analysis.estimates.types import MIN_SEEDS, Estimate, Result
from sublim_causal.analysis.plan.declaration import column_unit
from sublim_causal.analysis.plan.methods.slopes import SlopeModelInFull, StepSlope
from sublim_causal.report.commands import aligned_command, report_command, run_command
from sublim_causal.report.elements import Code, Element, Missing, Paragraph, Picture, Section, Table
from sublim_causal.report.figures.mixed import influence, normal_quantiles, residuals
from sublim_causal.report.figures.runs import Bar, forest
from sublim_causal.report.material import Material
from sublim_causal.report.tables import declared_table, estimates_table
from sublim_causal.report.wording import (
    counted,
    decimals,
    interval,
    named,
    number,
    p_value,
    significant,
)

TITLE = "Gains and alignment: mixed-effects models"
METHODS = ("mixed_model", "mundlak", "corrected_slope", "reliability")
"""Further methods of a plan whose results stand in this section."""


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


def _blocks(material: Material) -> Iterator[Element]:
    found = material.declared("step_slope")
    yield from declared_table(material, "mixed_declared", METHODS)
    if not found:
        yield Missing(
            "The plan declares no per-step slope (method step_slope).", report_command(material.run)
        )
        return
    if material.n_seeds < MIN_SEEDS:
        yield Missing(
            f"{counted(material.n_seeds, 'complete seed', 'complete seeds')}; a mixed model needs "
            f"at least {MIN_SEEDS}.",
            "" if material.is_own else run_command(material.run, "--seeds", "8"),
        )
        return
    yield Paragraph(
        "A slope states how much more of the trait is gained in a step that is better aligned. "
        "Slopes are per unit of cosine; the cosine of a typical step is far below 1, so multiply "
        "a slope by a typical cosine to read it. The slopes of single arms, and the slope over "
        "comparable arms, are taken within run and step and so adjust for training time. The "
        "slopes of a mixed model, including those within runs, between arms and between seeds, do "
        "not. A slope is an association; only differences between arms were assigned by design. "
        "The slope of gain on cos_update is, to first order and by definition, the mean of "
        "|g_trait| |update| (see the notes). Only slopes on cos_gradient, or of another outcome, "
        "are evidence."
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
            aligned_command(material.run)
            if material.without("cos_update") and not material.is_own
            else "",
        )
        return
    yield _levels(material, known)
    yield from _in_full(material)


def _pair(material: Material, result: Result) -> _Pair:
    declared = material.declaration(result)
    assert isinstance(declared, StepSlope)  # `material.declared` chose it by its method
    return _Pair(declared.outcome, declared.predictor)


def _slope_picture(material: Material, pair: _Pair, rows: Sequence[Result]) -> Iterator[Element]:
    bars = [
        Bar(_label(one), one.value, one.low, one.high)
        for one in rows
        if isinstance(one, Estimate) and one.estimand.part not in ("between_arms", "between_seeds")
    ]
    if bars:
        yield Picture(
            f"slopes_{pair.outcome}_{pair.predictor}",
            f"Slopes of {pair.text} with {100 * material.level:g} % intervals; those between arms "
            "and between seeds are in the table.",
            forest(bars, f"slope ({pair.unit} per unit of cosine)"),
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
    if one.arm:
        return named(one.arm)
    if one.part:
        return one.part.replace("_", " ")
    arms = result.diagnostics.get("arms") if isinstance(result, Estimate) else None
    return "comparable arms" if arms else "all arms, mixed model"


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
        "Tests of equal slopes within runs, between arms and between seeds. A small p shows that "
        "the slopes differ, so none of them can be called causal without further argument.",
        frame,
        frame,
    )


def _in_full(material: Material) -> Iterator[Element]:
    for found in material.either("slope_model"):
        if isinstance(found, Estimate):
            yield from _model(material, found)
        else:
            yield Missing(found.reason)


def _model(material: Material, one: Estimate) -> Iterator[Element]:
    """Yield a pooled model in full: what `slope_model` found beside its slope."""
    declared, details = material.declaration(one), one.diagnostics
    assert isinstance(declared, SlopeModelInFull)  # `material.either` chose it by its method
    pair = _Pair(declared.outcome, declared.predictor)
    text, unit = pair.text, pair.unit
    yield Paragraph(
        f"The pooled model of {text} in full (y: {declared.outcome}, x: {declared.predictor})."
    )
    yield Code(details["formula"])
    yield _coefficients(one)
    yield _components(details["components"])
    yield from (Paragraph(f"Note: {note}.") for note in one.warnings)
    yield Picture(
        "mixed_residuals",
        f"Residuals of {text} against fitted values, in 40 bins of equally many steps: "
        "median and central 90 %. In a good fit the medians are near 0 and the bars equally long.",
        residuals(details["residuals"], unit),
    )
    slopes = np.array([*details["random_slopes"].values()])
    if np.ptp(slopes) > 0:
        yield Picture(
            "mixed_random_slopes",
            "Predicted deviations of the seeds' slopes against normal quantiles; normally "
            "distributed deviations lie on the dashed line.",
            normal_quantiles(slopes, f"slope's deviation ({unit} per unit of cosine)"),
        )
    yield Picture(
        "mixed_influence",
        "The pooled slope with one seed left out at a time, and the estimate and CR2 interval of "
        "all seeds; the three most influential seeds are labelled.",
        influence(
            pd.Series(details["left_out"]),
            one.value,
            one.low,
            one.high,
            f"slope ({unit} per unit of cosine)",
        ),
    )


def _coefficients(one: Estimate) -> Table:
    details = one.diagnostics
    frame = pd.DataFrame(details["coefficients"])
    places = [decimals(low, high) for low, high in zip(frame["low"], frame["high"], strict=True)]
    limits = zip(frame["low"], frame["high"], places, strict=True)
    shown = pd.DataFrame(
        {
            "coefficient": frame["term"].map(named),
            "estimate": [number(v, n) for v, n in zip(frame["estimate"], places, strict=True)],
            f"{100 * one.level:g} % interval (CR2)": [interval(*ends) for ends in limits],
            "df": [f"{v:.1f}" for v in frame["df"]],
            "p": [p_value(v) for v in frame["p_value"]],
        }
    )
    counts = f"{details['n_obs']:,} steps, {one.n_seeds} seeds"
    counts += f"; REML criterion {details['criterion']:.2f}"
    reference = details["references"].get("arm", "")
    return Table(
        "mixed_coefficients",
        f"Fixed effects. {counts}{f'; reference: arm {named(reference)}' * bool(reference)}.",
        shown,
        frame,
    )


def _components(rows: Sequence[Mapping[str, Any]]) -> Table:
    deviations = {
        (row["group"], row["term1"]): math.sqrt(max(row["value"], 0.0))
        for row in rows
        if not row["term2"]
    }
    shown = []
    for row in rows:
        own = deviations[row["group"], row["term1"]]
        what, value = named(row["term1"]) if row["term1"] else "each step", own
        if row["term2"]:
            scale = own * deviations[row["group"], row["term2"]]
            if scale == 0:  # no variance, no correlation
                continue
            what = f"correlation of {named(row['term1'])} and {named(row['term2'])}"
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
        pd.DataFrame(rows),
    )
