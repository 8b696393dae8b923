"""The control and its equivalence to baseline."""

from __future__ import annotations

from collections.abc import Iterator

from sublim_causal.analysis.estimates.types import Estimate
from sublim_causal.report.commands import report_command
from sublim_causal.report.elements import Element, Missing, Paragraph, Picture, Section
from sublim_causal.report.figures.runs import Bar, forest
from sublim_causal.report.material import Material
from sublim_causal.report.tables import estimates_table
from sublim_causal.report.wording import (
    POINTS,
    contrast,
    decimals,
    interval,
    margin_text,
    number,
    scale_of,
    slug,
)

TITLE = "Control and equivalence"


def control(material: Material) -> Section:
    """Return the section ``control``."""
    return Section("control", TITLE, [*_blocks(material)])


def _blocks(material: Material) -> Iterator[Element]:
    found = material.declared("equivalence")
    if not found:
        yield Missing(
            "The plan declares no equivalence test (method equivalence), so there is no margin by "
            "which to judge the control.",
            report_command(material.run),
        )
        return
    shuffled = {one.estimand.arm for one in found} <= {*material.design.interventions("shuffled")}
    yield Paragraph(
        "The control removes a vector of the same length as projection, but in a shuffled "
        "direction. "
        * shuffled
        + "The absence of a significant difference does not show that two arms are equivalent. Two "
        "one-sided tests compare their difference with a margin that the plan fixed before the "
        "data were read."
    )
    estimated = [one for one in found if isinstance(one, Estimate)]
    for index, one in enumerate(estimated):
        yield _margin(index, one)
    yield estimates_table(
        "equivalence",
        "Equivalence tests; p is for the null hypothesis of a difference of at least the margin.",
        found,
        labels=[contrast(one.estimand) for one in found],
    )
    for one in estimated:
        yield Paragraph(verdict(one))
    if len(estimated) < len(found):
        yield Missing("A control arm is missing or has too few complete seeds.")


def verdict(one: Estimate) -> str:
    """Return what the equivalence test says, with the numbers that decide it."""
    scale = scale_of(one)
    places = decimals(scale * one.low, scale * one.high)
    limits = interval(one.low, one.high, places, scale)
    lies = "lies" if one.diagnostics["equivalent"] else "does not lie"
    judged = "equivalent" if one.diagnostics["equivalent"] else "not shown to be equivalent"
    return (
        f"{contrast(one.estimand)}: {number(scale * one.value, places)}; its "
        f"{100 * one.level:g} % interval {limits} {lies} inside the margin of "
        f"\N{PLUS-MINUS SIGN}{margin_text(one)}: the arms are {judged}."
    )


def _margin(index: int, one: Estimate) -> Picture:
    scale = scale_of(one)
    value, margin = scale * one.value, scale * float(one.diagnostics["margin"])
    bars = [Bar(f"{100 * one.level:g} % (decisive)", value, scale * one.low, scale * one.high)]
    if "wide_low" in one.diagnostics:
        wide = [scale * float(one.diagnostics[name]) for name in ("wide_low", "wide_high")]
        bars.append(Bar(f"{50 * (1 + one.level):g} %", value, wide[0], wide[1]))
    unit = POINTS if scale == 100 else one.estimand.outcome
    return Picture(
        slug("equivalence", index, one.estimand.name),
        f"{contrast(one.estimand)}, {one.estimand.column}: difference and "
        "intervals against the margin (shaded).",
        forest(bars, f"difference ({unit})", margin=margin),
    )
