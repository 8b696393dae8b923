"""Alignment through training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd

from sublim_causal.analysis.estimates.types import Estimate, Result
from sublim_causal.analysis.plan.methods.summaries import DROP, SeedSummary
from sublim_causal.analysis.plan.results.curves import DRAWN_SEEDS
from sublim_causal.report.commands import aligned_command, report_command
from sublim_causal.report.elements import Element, Missing, Paragraph, Picture, Section, Table
from sublim_causal.report.figures import curves as draw
from sublim_causal.report.figures.style import is_wide
from sublim_causal.report.material import Material, values
from sublim_causal.report.tables import estimates_table
from sublim_causal.report.wording import counted, in_cell, listed, named, p_value

TITLE = "Alignment through training"
COSINES = {
    "cos_gradient": "cosine of the distillation gradient and the trait gradient",
    "cos_applied": "cosine of the gradient passed to the optimizer and the trait gradient",
    "cos_update": "cosine of the negative update and the trait gradient",
}


AXES = {
    "cos_gradient": "cosine of the gradient",
    "cos_applied": "cosine of the applied gradient",
    "cos_update": "cosine of the update",
}
"""What axes call the cosines, which have no unit."""


def alignment(material: Material) -> Section:
    """Return the section ``alignment``."""
    return Section("alignment", TITLE, [*_blocks(material)])


def _blocks(material: Material) -> Iterator[Element]:
    yield Paragraph(
        "The trait gradient is the gradient of the class loss on a fixed probe, on which the "
        "student never trains. The optimizer determines how much of the gradients' alignment "
        "reaches the update, so all three cosines are shown."
    )
    lost = material.without(*COSINES)
    if lost:
        yield unmeasured(material, lost, "they have no cosines to plot")
    if len(lost) < len(material.shown_arms):
        yield from _pictures(material)
    yield from _early_and_late(material)
    if found := material.headlines:
        means = [one.alignment for one in found.values() if one.alignment]
        yield estimates_table(
            "mean_alignment",
            "Estimates behind the answer on the update's alignment: mean cosine over all steps. "
            + material.source(means),
            means,
            labels=[named(arm) for arm in found],
        )


def unmeasured(material: Material, arms: Sequence[str], so: str) -> Missing:
    """Say which arms lack alignment, what follows, and how to measure it."""
    under = f"Alignment was not measured under {listed([named(arm) for arm in arms])}"
    if material.is_own:
        return Missing(f"{under}, so {so}. AlignmentMonitor.log_to(replicate) records it.")
    return Missing(f"{under} (measure.alignment = false), so {so}.", aligned_command(material.run))


def _pictures(material: Material) -> Iterator[Picture]:
    drawn = counted(min(material.n_seeds, DRAWN_SEEDS), "single seed", "single seeds")
    for column, meaning in COSINES.items():
        curves = material.curves[column]
        if not draw.measured(curves):
            continue
        yield Picture(
            f"{column}_by_arm",
            f"{column}: {meaning}; one panel for each arm. Line: mean over seeds; faint lines: "
            f"{drawn} (the most extreme 0.4 % of steps may be outside the frame). "
            f"{material.bands()}",
            draw.panels(curves, AXES[column]),
            wide=is_wide(len(draw.measured(curves))),
        )
        yield Picture(
            column,
            f"{column}: means of all arms on one scale. {material.bands()}",
            draw.overlay(curves, AXES[column], zero=True),
        )
    for column in ("cos_gradient", "cos_update"):
        if not draw.measured(material.curves[column]):
            continue
        yield Picture(
            f"share_positive_{column}",
            f"Share of steps with {column} above 0, in bins of steps. The line at 50 % is "
            f"the share expected without alignment. {material.bands('0 and 100 %')}",
            draw.shares(material.curves[column], f"steps with {AXES[column]} above 0 (%)"),
        )


def _early_and_late(material: Material) -> Iterator[Element]:
    found = material.declared("seed_summary")
    if not found:
        yield Missing(
            "The plan declares no summary of alignment by seed (method seed_summary), so early "
            "and late training are not compared.",
            report_command(material.run),
        )
        return
    yield Paragraph(
        "Early is the first epoch, late is everything after it; differences are taken seed by "
        "seed. A share is tested against one half, a mean or difference against 0."
    )
    for column in dict.fromkeys(one.estimand.column for one in found):
        yield _windows(material, column, [one for one in found if one.estimand.column == column])


def _windows(material: Material, column: str, found: Sequence[Result]) -> Table:
    """Return a row a quantity and arm, a column a window."""
    cells: dict[tuple[str, str], dict[str, str]] = {}
    windows = [*dict.fromkeys(one.estimand.part for one in found)]
    for one in found:
        kind, window = _summary(material, one), one.estimand.part
        row = cells.setdefault((kind, one.estimand.arm), {})
        row[f"{window} (p)" if window == DROP else window] = _cell(one)
    shown = [
        {"": f"{named(arm)}: {_KINDS.get(kind, kind)}", **row} for (kind, arm), row in cells.items()
    ]
    return Table(
        f"alignment_{column}",
        f"{column}, {_span(windows)}"
        + f", with {100 * material.level:g} % intervals" * any(map(values, found))
        + ".",
        pd.DataFrame(shown).fillna(""),
        pd.DataFrame([one.tidy() for one in found]),
    )


def _span(windows: Sequence[str]) -> str:
    """Return which windows a table has, in words."""
    if {"early", "late"} <= {*windows} or DROP in windows:
        return "early against late"
    return listed(["whole run" if one == "all" else one for one in windows])


def _cell(one: Result) -> str:
    if not isinstance(one, Estimate):
        return f"not estimable: {one.reason}"
    p = f" ({p_value(one.p_value)})" if one.estimand.part == DROP and one.p_value else ""
    return in_cell(one) + p


def _summary(material: Material, result: Result) -> str:
    declared = material.declaration(result)
    return declared.summary if isinstance(declared, SeedSummary) else ""


_KINDS = {"share_positive": "share of steps above 0", "mean": "mean over steps"}
