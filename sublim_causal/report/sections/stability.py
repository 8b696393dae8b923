"""Whether a verdict rests on one choice of the analysis: specification curves of the claims."""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

import pandas as pd

from sublim_causal.analysis.estimates.types import DIFFERENCE
from sublim_causal.analysis.plan.claims.verdicts import Choice, ClaimVerdict
from sublim_causal.report.elements import Element, Paragraph, Picture, Table
from sublim_causal.report.figures.stability import specification_curve
from sublim_causal.report.material import Material
from sublim_causal.report.wording import POINTS, scale_of, slug

WHAT = (
    "A verdict that depends on one choice is weak. Each claim is judged again with one choice of "
    "the analysis changed at a time: the outcome one evaluation earlier or the other gain, the "
    "first or last epoch left out, the other cosine, another estimator or kind of interval, one "
    "seed left out, one arm left out of estimates over several arms. The package fixes which "
    "alternatives are defensible. An alternative that changes no estimate of a claim is not "
    "counted."
)


def stability(material: Material) -> Iterator[Element]:
    """Yield what is known of the stability of the plan's claims."""
    claims = [one for one in material.results.verdicts if one.alternatives]
    if not claims:
        return
    yield Paragraph(WHAT)
    yield _counts(claims)
    for index, claim in enumerate(claims):
        yield _curve(index, claim)


def _counts(claims: list[ClaimVerdict]) -> Table:
    shown = []
    for claim in claims:
        row = {"claim": claim.name, "verdict": claim.verdict}
        for choice in ("all", *get_args(Choice)):
            chosen = [one for one in claim.alternatives if choice in ("all", one.choice)]
            kept = sum(one.verdict == claim.verdict for one in chosen)
            row[choice] = f"{kept} of {len(chosen)}" if chosen else ""
        row["another verdict"] = "; ".join(
            f"{one.verdict} {one.label}" for one in claim.departures()
        )
        shown.append(row)
    rows = [{"claim": one.name, **other.tidy()} for one in claims for other in one.alternatives]
    return Table(
        "stability",
        "Number of alternatives under which each verdict holds, by the choice that is changed.",
        pd.DataFrame(shown),
        pd.DataFrame(rows),
    )


def _curve(index: int, claim: ClaimVerdict) -> Picture:
    one = claim.headline
    scale, label = 1.0, claim.name
    if one is not None:
        scale = scale_of(one)
        unit = POINTS if one.estimand.unit == DIFFERENCE else "%"
        label = one.estimand.name + f" ({unit})" * (scale == 100)
    return Picture(
        slug("stability", index, claim.name),
        f"Claim {claim.name}: its first essential condition as declared (large mark) and under "
        f"each alternative, with intervals; below, the choice that was changed. Colour and shape: "
        f"the verdict on the claim, which holds under {claim.stability()}.",
        specification_curve(claim, label, scale),
        wide=True,
    )
