"""The sections of a page that puts two runs side by side."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from sublim_causal.analysis.estimates.types import Estimand, Estimate, Result
from sublim_causal.analysis.plan.results.results import Results
from sublim_causal.report.comparison.sentences import AGREEMENT
from sublim_causal.report.comparison.sides import Sides, equal, margin_of
from sublim_causal.report.elements import Element, Missing, Paragraph, Picture, Section, Table
from sublim_causal.report.figures.curves import measured, pairs
from sublim_causal.report.figures.runs import Bar, forest
from sublim_causal.report.figures.style import looks
from sublim_causal.report.sections.glance import study_facts
from sublim_causal.report.tables import estimates_table
from sublim_causal.report.wording import contrast, counted, in_cell, listed, named, sentence_case
from sublim_causal.store.outcome import ACCURACY


def studies(sides: Sides) -> Section:
    """Return the section ``study``: what was run."""
    facts_of = [dict(study_facts(side)) for side in sides.both]
    for side, facts in zip(sides.both, facts_of, strict=True):
        facts |= {name: str(side.manifest.get(name, "")) for name in ("precision", "device")}
        facts["arms"] = ", ".join(map(named, side.shown_arms))
        facts["complete"] = f"{side.count('complete')} of {side.n_replicates} replicates"
    one, other = sides.names
    first, second = facts_of
    frame = pd.DataFrame(
        [
            {"": key, one: first[key], other: second[key], "differs": differs}
            for key in first
            if first[key] or second[key]
            for differs in ("yes" if first[key] != second[key] else "",)
        ]
    )
    paired = (
        "A seed makes the same random draws in both runs, so differences are taken seed by seed, "
        f"over the {counted(sides.n_common, 'seed', 'seeds')} that both have. The curves and the "
        "declared estimates, shown side by side, are over all seeds of each run."
        if sides.shares_draws
        else "The studies differ in more than precision or device, so their seeds are treated as "
        "independent."
    )
    blocks: list[Element] = [Table("study", "What was run.", frame, frame), Paragraph(paired)]
    if others := [arm for arm in sides.arms if arm not in sides.alike]:
        blocks.append(
            Paragraph(
                "Arms with the same name but different definitions in the two runs: "
                f"{listed([*map(named, others)])}. "
                "Their differences are those of two interventions, not of rounding."
            )
        )
    return Section("study", "The two runs", blocks)


def agreement(sides: Sides) -> Section:
    """Return the section ``agreement``: equivalence tests of runs that share their draws."""
    found = sides.agreements
    labels = [
        f"{_figure(one.estimand)}: "
        + ("equivalent" if equal(one) else "not shown")
        + f" (margin {margin_of(one, sides.first.outcome)})"
        for one in found
    ]
    by_column = {one.estimand.column: margin_of(one, sides.first.outcome) for one in found}
    margins = ", ".join(f"{margin} for {column}" for column, margin in by_column.items())
    text = (
        "Both runs made the same random draws and define these arms alike, so each difference is "
        f"rounding, amplified by training. The program sets the margins: {margins}. An effect "
        f"is an arm's final accuracy minus that of {named(sides.first.reference)}."
    )
    caption = (
        "First minus second; p is for the null hypothesis of a difference of at least the margin."
    )
    return Section(
        "agreement",
        AGREEMENT,
        [Paragraph(text), estimates_table("agreement", caption, found, labels=labels)],
    )


def _figure(one: Estimand) -> str:
    return f"{one.part.replace('_', ' ')} {contrast(one) if one.reference else named(one.arm)}"


def arms(sides: Sides) -> Section:
    """Return the section ``arms``: differences between the runs."""
    found = sides.differences
    if not sides.arms:
        missing = Missing("The runs have no arm in common, so there is nothing to compare.")
        return Section("arms", "Arms", [missing])
    styles = looks(sides.arms)
    accuracy = [
        (one, styles[one.estimand.arm])
        for one in found
        if isinstance(one, Estimate) and one.estimand.column == sides.first.outcome.name
    ]
    blocks: list[Element] = []
    if accuracy:
        first, second = sides.names
        bars = [
            Bar(
                named(one.estimand.arm),
                sides.first.scale * one.value,
                sides.first.scale * one.low,
                sides.first.scale * one.high,
                look.color,
                look.marker,
            )
            for one, look in accuracy
        ]
        picture = forest(bars, f"difference ({sides.first.points})")
        caption = (
            f"{sentence_case(sides.first.outcome.label)}, {first} minus {second}, with "
            f"{100 * sides.first.level:g} % intervals."
        )
        blocks.append(Picture("outcome_differences", caption, picture))
    blocks.append(
        estimates_table(
            "differences",
            "Differences between the runs: first minus second.",
            found,
            labels=[f"{one.estimand.column}, {named(one.estimand.arm)}" for one in found],
        )
    )
    return Section("arms", "Arms", blocks)


def curves(sides: Sides) -> Section:
    """Return the section ``curves``: both runs through training."""
    arms, by_name = sides.arms, dict(zip(sides.names, sides.both, strict=True))
    shown: dict[str, tuple[str, float]] = {"cos_update": ("cosine of the update", 1.0)}
    if sides.first.outcome == ACCURACY:
        shown = {"trait_accuracy": ("trait accuracy (%)", 100.0), **shown}
    fewest = min(sides.both, key=lambda side: side.n_seeds)
    each = " and ".join(f"{side.n_seeds} in {name}" for name, side in by_name.items())
    blocks: list[Element] = [
        Picture(
            f"compared_{column}",
            f"{label} in both runs, one panel for each arm: means over seeds ({each}). "
            + fewest.bands("0 and 100 %" if scale == 100 else ""),
            pairs(
                {
                    name: {arm: side.curves[column][arm].scaled(scale) for arm in arms}
                    for name, side in by_name.items()
                },
                label,
            ),
        )
        for column, (label, scale) in shown.items()
        if any(measured({arm: side.curves[column][arm] for arm in arms}) for side in sides.both)
    ]
    missing = Missing("The runs have no arm in common whose curves were measured.")
    return Section("curves", "Through training", blocks or [missing])


def estimates(results: Mapping[str, Results]) -> Section:
    """Return the section ``estimates``: every declared estimate in both runs, by their names."""
    level = next(iter(results.values())).level
    by_name = {
        run: {one.estimand.name: one for one in found.results} for run, found in results.items()
    }
    rows = [
        {
            "": named(name),
            **{
                heading: text
                for run, found in by_name.items()
                for heading, text in _columns(run, found.get(name), level).items()
            },
        }
        for name in dict.fromkeys(name for found in by_name.values() for name in found)
    ]
    shown = pd.DataFrame(rows)
    frame = pd.concat([found.frame.assign(run=run) for run, found in results.items()])
    caption = (
        "Every declared estimate in both runs, each over all seeds of its run, with intervals of "
        f"{100 * level:g} % unless another level is given."
    )
    return Section("estimates", "Estimates", [Table("estimates", caption, shown, frame)])


def _columns(run: str, result: Result | None, level: float) -> dict[str, str]:
    """Return the cells of an estimate in one run: what came out, and by which method."""
    if not isinstance(result, Estimate):
        text = "not in this run" if result is None else f"not estimable: {result.reason}"
        return {run: text, f"{run}: method, seeds": ""}
    marked = f" ({100 * result.level:g} %)" * (result.level != level)
    return {
        run: in_cell(result) + marked,
        f"{run}: method, seeds": f"{result.method}, {result.n_seeds}",
    }
