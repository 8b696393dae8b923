"""How much of the transfer goes through alignment: by experiment, model and ledger."""

from __future__ import annotations

import math
from collections.abc import Iterator

from sublim_causal.report.answer.rules import STOPPED, side_of
from sublim_causal.report.blocks import Sentence, Verdict
from sublim_causal.report.material import Material, values
from sublim_causal.report.wording import arm as named
from sublim_causal.report.wording import estimate


def pathways(material: Material) -> Iterator[Sentence]:
    """Yield the share of the effect that goes through alignment, by each way to tell."""
    yield from _by_experiment(material)
    yield from _by_model(material)
    yield from _by_accounting(material)


def _by_experiment(material: Material) -> Iterator[Sentence]:
    for world in material.cross_worlds:
        share, part = values(world["proportion_mediated"]), values(world["tnie"])
        arm = world["te"].estimand.arm
        if share is None or part is None:
            yield Sentence(f"{named(arm)}: not estimable by experiment.", "unsettled", "mediation")
            continue
        verdict: Verdict = "unsettled" if side_of(part) == "across" else "partly"
        yield Sentence(
            f"By experiment: of the effect of {named(arm)}, moving alignment makes up "
            f"{estimate(part)}, a share of {estimate(share)} (yoked runs).",
            "yes" if verdict == "partly" and share.low >= STOPPED else verdict,
            "mediation",
        )
    if not material.cross_worlds:
        yield Sentence(
            "Not settled by experiment: no arm was yoked to the alignment of another, so the part "
            "of the effect that goes through alignment was not run and can only be modelled.",
            "unsettled",
            "mediation",
        )


def _by_model(material: Material) -> Iterator[Sentence]:
    for arm, split in material.mediations.items():
        share, part = values(split["proportion_mediated"]), values(split["pnie"])
        if arm not in material.design.main_projections() or not (share and part):
            continue
        bounded = math.isfinite(share.high - share.low)
        size = f"a share of {estimate(share)}" if bounded else "a share without bounds"
        yield Sentence(
            f"By model: a run-level mediation puts the part of the effect of {named(arm)} that "
            "goes "
            f"through the update's alignment at {estimate(part)}, {size}. It assumes no common "
            "cause and no feedback, and alignment does react to what was learned: a sensitivity "
            "analysis, not an answer.",
            "caution",
            "mediation",
        )


def _by_accounting(material: Material) -> Iterator[Sentence]:
    arm = material.reference
    found = values(material.find("explained_share", arm=arm, term="drive", by="run"))
    if found is None:
        return
    total = values(material.find("arm_mean", arm=arm, outcome="sum_gain", start=None))
    change, moved = _LOSS[side_of(total) if total else "across"]
    yield Sentence(
        f"By first-order decomposition: in {named(arm)}, the update's component along the trait "
        "gradient "
        f"(the drive) adds up to a share of {estimate(found)} of the {change} of the trait loss; "
        f"curvature is the rest. This says where the loss {moved}, not why.",
        "caution",
        "ledger",
    )


_LOSS = {"above": ("drop", "fell"), "below": ("rise", "rose"), "across": ("change", "changed")}
"""What the trait loss does, by where the interval of the summed gain lies."""
