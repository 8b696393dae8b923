"""How much of the transfer goes through alignment: by experiment, model and ledger."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from sublim_causal.report.answer.rules import STOPPED, side_of
from sublim_causal.report.elements import Sentence, Verdict
from sublim_causal.report.material import Material, values
from sublim_causal.report.wording import estimate, in_sentence, named


def pathways(material: Material) -> Iterator[Sentence]:
    """Yield the share of the effect that goes through alignment, by each way to tell."""
    yield from _by_null(material)
    yield from _by_experiment(material)
    yield from _by_model(material)
    yield from _by_accounting(material)


def _by_null(material: Material) -> Iterator[Sentence]:
    for arm in material.design.exact_nulls():
        share = values(material.find("removed_share", arm=arm))
        if share is None:
            continue
        yield Sentence(
            f"Exact null: with every update held orthogonal to the trait gradient "
            f"({named(arm)}), a share of {estimate(share)} of what {named(material.reference)} "
            "acquires is lost; the rest is acquired without first-order alignment. Read it "
            "with a control that changes the update by an equal length in a shuffled direction.",
            {"above": "partly", "below": "no", "across": "unsettled"}[side_of(share)],  # type: ignore[arg-type]
            "mediation",
        )


_MOVED = {
    "cosine": "alignment",
    "drive": "the first-order drive",
    "cosine and length": "alignment and the update's length",
}
"""What yoked runs move, by what they match of the other arm's update."""

_CLAMP = (
    "This assumes consistency: with a clamped cosine the procedure acts as it would if it had that "
    "cosine without a clamp. The clamp also changes the update's length and drive (see the step "
    "table). If an arm over-corrects and accuracy has a floor, the first share is near 1 whatever "
    "the path, so do not read either share alone."
)


def _by_experiment(material: Material) -> Iterator[Sentence]:
    for world in material.cross_worlds:
        parts = {name: values(one) for name, one in world.items()}
        share, part = parts.get("proportion_mediated"), parts.get("tnie")
        arm = world["te"].estimand.arm
        if share is None or part is None:
            yield Sentence(f"{named(arm)}: not estimable by experiment.", "unsettled", "mediation")
            continue
        pure, other = parts.get("pnie_proportion"), parts.get("pnie")
        declared: Any = material.declaration(world["te"])
        moved = _MOVED[material.design.record.options(declared.yoked).get("match", "cosine")]
        interaction = parts.get("interaction")
        under = (
            f", and for {in_sentence(other)}, a share of {estimate(pure)}, under the other "
            "procedure"
            if pure is not None and other is not None
            else "; it was not run under the other procedure, so how its effect depends on the "
            "procedure is not known"
        )
        apart = f"; the two differ by {in_sentence(interaction)}" if interaction is not None else ""
        verdict: Verdict = "unsettled" if side_of(part) == "across" else "partly"
        most = pure is not None and min(share.low, pure.low) >= STOPPED
        yield Sentence(
            f"By experiment (yoked runs): changing {moved} accounts for {in_sentence(part)} of the "
            f"effect of {named(arm)}, a share of {estimate(share)}, under its own procedure{under}"
            f"{apart}. {_CLAMP}",
            "yes" if verdict == "partly" and most else verdict,
            "mediation",
        )
    if not material.cross_worlds:
        yield Sentence(
            "Not settled by experiment: no arm was yoked to the alignment of another, so the part "
            "of the effect that goes through alignment was not measured and can only be modelled.",
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
            f"By model: run-level mediation estimates the part of the effect of {named(arm)} that "
            f"goes through the update's alignment at {in_sentence(part)}, {size}. It assumes no "
            "common cause and no feedback. Since alignment does react to what was learned, this "
            "is a sensitivity analysis, not an answer.",
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
        f"gradient (the drive) accounts for a share of {estimate(found)} of the {change} of the "
        f"trait loss; the rest is curvature. This shows where the loss {moved}, not why.",
        "caution",
        "ledger",
    )


_LOSS = {"above": ("drop", "fell"), "below": ("rise", "rose"), "across": ("change", "changed")}
"""What the trait loss does, by where the interval of the summed gain lies."""
