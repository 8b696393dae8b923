"""The ledger: where the drop of the trait loss came from."""

from __future__ import annotations

from collections.abc import Iterator

from sublim_causal.analysis.estimates.types import Estimate, NotEstimable
from sublim_causal.report.commands import run_command
from sublim_causal.report.elements import Element, Missing, Paragraph, Picture, Section
from sublim_causal.report.figures.curves import ledger_panels
from sublim_causal.report.figures.runs import Bar, forest
from sublim_causal.report.figures.style import is_wide, looks
from sublim_causal.report.material import Material
from sublim_causal.report.sections.alignment import unmeasured
from sublim_causal.report.tables import declared_table, estimates_table
from sublim_causal.report.wording import contrast, named

TITLE = "The ledger"
METHODS = ("explained_share", "ledger_difference", "drive_factors")
"""Methods of a plan whose results stand in this section."""


def ledger(material: Material) -> Section:
    """Return the section ``ledger``."""
    return Section("ledger", TITLE, [*_blocks(material), *_layers(material)])


def _blocks(material: Material) -> Iterator[Element]:
    level = f"{100 * material.level:g} %"
    yield Paragraph(
        "At every step the drop of the trait loss (gain) is the sum of its first-order part "
        "(drive: minus the inner product of trait gradient and update) and a remainder (curvature "
        "and higher orders). This decomposition is exact in every run; it needs no assumption and "
        "does not prove a cause."
    )
    lost = material.without("gain")
    if lost:
        yield unmeasured(material, lost, "they have neither gain nor drive, and no ledger")
    if len(lost) == len(material.shown_arms):
        return
    yield Picture(
        "ledger",
        "Gain, drive and remainder summed from the start, one panel for each arm: means over "
        "seeds; a seed ends at its first missing step. Below 0 the trait loss has risen. The "
        f"panels have different scales. {material.bands()}",
        ledger_panels({arm: material.analysis.curves.ledger(arm) for arm in material.shown_arms}),
        wide=is_wide(len(material.shown_arms) - len(lost)),
    )
    totals = [
        one
        for one in material.either("arm_mean", outcome="sum_gain", start=None)
        if isinstance(one, Estimate)
    ]
    if totals:
        styles = looks(list(material.shown_arms))
        bars = [
            Bar(named(arm), one.value, one.low, one.high, styles[arm].color, styles[arm].marker)
            for one in totals
            for arm in (one.estimand.arm,)
        ]
        yield Picture(
            "ledger_totals",
            f"Drop of the trait loss over a whole run, by arm, with {level} intervals over seeds.",
            forest(bars, "summed gain (nats)"),
        )
    yield from declared_table(material, "ledger_declared", METHODS)
    yield _shares(material)
    yield from _splits(material)


def _shares(material: Material) -> Element:
    rows = {
        f"{kind}, {named(arm)}": share
        for kind, term in (("drive", "drive"), ("trapezoid (drive_mid)", "drive_mid"))
        for arm in material.shown_arms
        if (share := material.find("explained_share", arm=arm, term=term, by="run"))
    }
    found = [*rows.values()]
    return estimates_table(
        "ledger_shares",
        "Share of the summed gain that the drive accounts for: a ratio of sums over seeds (1: all "
        "of it). Where the loss hardly changes, the interval is unbounded. "
        f"{material.source(found)}",
        found,
        labels=[*rows],
    )


def _splits(material: Material) -> Iterator[Element]:
    found = [
        one
        for one in material.either("ledger_difference", mid=False)
        if one.estimand.part and one.estimand.reference == material.reference
    ]
    if not found:
        yield Missing(
            f"Differences between arms need the arm {named(material.reference)} and another one."
        )
        return
    yield estimates_table(
        "ledger_differences",
        "Differences between arms in summed gain, split exactly into drive and remainder, in nats, "
        f"paired by seed. {material.source(found)}",
        found,
        labels=[f"{one.estimand.part}, {contrast(one.estimand)}" for one in found],
    )


def _layers(material: Material) -> Iterator[Element]:
    if not material.analysis.has_layers:
        if material.is_own:
            return
        yield Missing(
            "Layers were not recorded, so the drive is not split by layer.",
            run_command(material.run, "--set", "measure.layers=true", ending="-layers"),
        )
        return
    found = material.either("explained_share", by="layer", term="drive")
    yield from (Missing(one.reason) for one in found if isinstance(one, NotEstimable))
    shares = [one for one in found if isinstance(one, Estimate)]
    if shares:
        yield estimates_table(
            "ledger_layers",
            "Share of the summed gain that the drive of each layer accounts for; the layers of "
            f"an arm add up to its share above. {material.source(shares)}",
            shares,
            labels=[f"{named(one.estimand.arm)}, layer {one.estimand.part}" for one in shares],
        )
