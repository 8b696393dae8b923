"""The whole answer in one sentence."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

from sublim_causal.analysis.estimates.types import Estimate
from sublim_causal.report.answer.rules import SMALL_COSINE, side_of
from sublim_causal.report.answer.transfer import what_it_does
from sublim_causal.report.material import Material, values
from sublim_causal.report.wording import counted, in_sentence, listed, named

NAMED = 4
"""At most so many arms of a run of one's own are named."""


def brief(material: Material) -> str:
    """Return what persists, what removing it does, the control and the claims, in one sentence."""
    clauses = [*_persists(material), *_removes(material), *_control(material), *_claims(material)]
    seeds = counted(material.n_seeds, "seed", "seeds")
    if not clauses:
        return f"In brief: the {seeds} of this run settle none of the questions below."
    return f"In brief, over {seeds}: {'; '.join(clauses)}."


def _persists(material: Material) -> Iterator[str]:
    mean = material.find(
        "seed_summary",
        arm=material.reference,
        outcome="cos_gradient",
        summary="mean",
        window="late",
    )
    if isinstance(mean, Estimate):
        says = {
            "above": "stays aligned",
            "below": "is turned against",
            "none": "is not aligned",
            "across": "is not shown to stay aligned",
        }[side_of(mean, size=SMALL_COSINE)]
        with_ = "" if says == "is turned against" else "with "
        yield f"the distillation gradient {says} {with_}the trait gradient"


def _removes(material: Material) -> Iterator[str]:
    """Yield what the arm does whose alignment is nearest 0, of those that remove it."""
    found = {
        arm: one
        for arm in material.design.main_projections()
        if isinstance(
            one := material.find("paired_contrast", arm=arm, outcome=material.outcome.name),
            Estimate,
        )
    }
    if not found and material.is_own:
        yield from _differs(material)
    means = {arm: values(material.headlines[arm].alignment) for arm in found}
    sizes = {arm: abs(mean.value) if mean else math.inf for arm, mean in means.items()}
    for arm in sorted(found, key=sizes.__getitem__)[:1]:
        words, _ = what_it_does(material, arm, found[arm])
        change = in_sentence(found[arm].beside_adjusted())
        mean = means[arm]
        side = side_of(mean, size=SMALL_COSINE) if mean else "none"
        label = material.outcome.label.replace("test ", "")
        yield f"{named(arm)}, which {_ACTS[side]}, {words} ({change} in {label})"


def _differs(material: Material) -> Iterator[str]:
    """Yield what the arms of a run of one's own make of its outcome, whatever they do."""
    for arm in material.shown_arms[:NAMED]:
        one = material.find("paired_contrast", arm=arm, outcome=material.outcome.name)
        if arm != material.reference and isinstance(one, Estimate):
            change = in_sentence(one.beside_adjusted())
            yield (
                f"the difference of {named(arm)} from {named(material.reference)} in "
                f"{material.outcome.label} is {change}"
            )


_ACTS = {
    "none": "removes that alignment",
    "across": "removes that alignment",
    "below": "turns the update against the trait gradient",
    "above": "leaves the update aligned",
}
"""What an arm does to the update's alignment, by where the interval of its mean cosine lies."""


def _control(material: Material) -> Iterator[str]:
    for one in material.declared("equivalence")[:1]:
        if isinstance(one, Estimate):
            same = "is" if one.diagnostics["equivalent"] else "is not shown to be"
            arms = f"{named(one.estimand.arm)} {same} equivalent to {named(one.estimand.reference)}"
            yield arms if material.is_own else f"the control {arms}"


def _claims(material: Material) -> Iterator[str]:
    counts = Counter(one.verdict for one in material.results.verdicts)
    if counts:
        said = listed([f"{count} {verdict}" for verdict, count in counts.items()])
        yield f"claims of the plan: {said}"
