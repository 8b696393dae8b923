"""Acquisition of the trait: accuracy over steps, at the end, and its paired differences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sublim_causal.analysis.estimates.types import Estimate
from sublim_causal.report.commands import report_command
from sublim_causal.report.elements import Element, Missing, Picture, Section
from sublim_causal.report.figures import curves as draw
from sublim_causal.report.figures.runs import Bar, every_seed, forest
from sublim_causal.report.figures.style import is_wide, looks
from sublim_causal.report.material import Material, values
from sublim_causal.report.sections.glance import arm_mean
from sublim_causal.report.tables import declared_table, estimates_table
from sublim_causal.report.wording import MINUS, contrast, named, sentence_case
from sublim_causal.store.outcome import ACCURACY

TITLE = "Acquisition of the trait"
_CUT = "0 and 100 %"
"""Where bands of an accuracy end."""


def acquisition(material: Material) -> Section:
    """Return the section ``acquisition``."""
    return Section("acquisition", TITLE, [*_blocks(material)])


def _blocks(material: Material) -> Iterator[Element]:
    means = {
        arm: found
        for arm in material.shown_arms
        if (found := values(arm_mean(material, arm, material.outcome.name)))
    }
    if material.outcome != ACCURACY:
        label = material.outcome.label
        if not draw.measured(material.evaluations):
            yield Missing(
                f"The {label} was not recorded during training, so it is not plotted by step: "
                f"replicate.log(step, {material.outcome.curve}=...) records it."
            )
    if draw.measured(material.evaluations) and material.outcome != ACCURACY:
        yield Picture(
            "outcome_by_step",
            f"{sentence_case(label)} by step: means over seeds. {material.bands('')}",
            draw.overlay(
                {arm: curve.scaled(material.scale) for arm, curve in material.evaluations.items()},
                f"{label} ({material.unit})",
            ),
        )
    elif material.outcome == ACCURACY:
        yield _accuracy_by_step(material, bool(means))
    yield Picture(
        material.outcome.name,
        f"{sentence_case(material.outcome.label)}: one point per seed"
        + "; thin lines connect the arms of a seed" * material.is_paired
        + f". Beside the points: the mean with its {100 * material.level:g} % interval"
        * bool(means)
        + ".",
        every_seed(
            material.analysis.curves.outcomes,
            means,
            scale=material.scale,
            label=f"{material.outcome.label} ({material.unit})",
        ),
        wide=is_wide(len(material.shown_arms)),
    )
    yield from _contrasts(material)
    yield from declared_table(material, "retained", ["retained_share"])
    yield from _acquired(material)


def _accuracy_by_step(material: Material, with_means: bool) -> Picture:
    """Draw accuracy on the probe by step, and on the test images after each epoch."""
    return Picture(
        "trait_accuracy",
        "Accuracy of the class logits on the probe by step: means over seeds. Symbols: accuracy on "
        f"the test images{', with intervals like the bands' * with_means}. {material.bands(_CUT)}",
        draw.overlay(
            {arm: curve.scaled(100) for arm, curve in material.curves["trait_accuracy"].items()},
            "trait accuracy (%)",
            points={arm: curve.scaled(100) for arm, curve in material.evaluations.items()},
        ),
    )


def _contrasts(material: Material) -> Iterator[Element]:
    if len(material.shown_arms) < 2:
        yield Missing(
            f"Only one arm has complete runs, so there is nothing to compare it with. A contrast "
            f"needs the arm {named(material.reference)} and another one."
        )
        return
    found = material.declared("paired_contrast")
    if not found:
        yield Missing(
            "The plan declares no paired contrast, so the arms are not compared.",
            report_command(material.run),
        )
        return
    of_accuracy = [one for one in found if one.estimand.column == material.outcome.name]
    estimated = [one for one in of_accuracy if isinstance(one, Estimate)]
    if estimated:
        yield Picture(
            f"{material.outcome.name}_differences",
            f"{_differences(material)} in {material.outcome.label}, with "
            f"{100 * material.level:g} % intervals.",
            forest(contrast_bars(material, estimated), f"difference ({material.points})"),
        )
    adjusted = any("p_adjusted" in one.diagnostics for one in filter(None, map(values, found)))
    yield estimates_table(
        "contrasts",
        ("Paired contrasts" if material.is_paired else "Contrasts")
        + " between arms"
        + "; p adjusted for the plan's family of contrasts" * adjusted
        + ".",
        found,
        labels=[f"{one.estimand.column}, {contrast(one.estimand)}" for one in found],
    )


def _differences(material: Material) -> str:
    if material.is_paired:
        return "Paired differences, seed by seed,"
    return "Differences of arms that share no seeds (Welch's t)"


def _acquired(material: Material) -> Iterator[Element]:
    """Yield what the answer says of the arms that remove or train away alignment."""
    rows = {
        label: one
        for arm, headline in material.headlines.items()
        for label, one in (
            (
                f"share of what {named(material.reference)} acquires that {named(arm)} prevents",
                headline.removed,
            ),
            (f"acquired by {named(arm)}: after training {MINUS} before", headline.residue),
        )
        if one
    }
    if found := [*rows.values()]:
        yield estimates_table(
            "acquired",
            "Estimates behind the answer on acquisition, in "
            f"{material.outcome.label.removeprefix('final ')}. {material.source(found)}",
            found,
            labels=[*rows],
        )


def contrast_bars(material: Material, estimates: Sequence[Estimate]) -> list[Bar]:
    """Return rows of a forest of contrasts, in the unit of the outcome."""
    styles = looks(list(material.shown_arms))
    bars = []
    for one in estimates:
        look = styles.get(one.estimand.arm)
        bars.append(
            Bar(
                label=f"{named(one.estimand.arm)} {MINUS}\n{named(one.estimand.reference)}",
                value=material.scale * one.value,
                low=material.scale * one.low,
                high=material.scale * one.high,
                color=look.color if look else "#000000",
                marker=look.marker if look else "o",
            )
        )
    return bars
