"""What the control says."""

from __future__ import annotations

from collections.abc import Iterator

from sublim_causal.analysis.estimates.types import Estimate
from sublim_causal.report.answer.rules import why_not
from sublim_causal.report.elements import Sentence
from sublim_causal.report.material import Material
from sublim_causal.report.wording import contrast, in_sentence, margin_text, named, p_equals


def control(material: Material) -> Iterator[Sentence]:
    """Yield whether the control is equivalent to its reference."""
    found = material.declared("equivalence")
    if not found:
        yield Sentence(why_not(None, "an equivalence test"), "unsettled", "control")
    for one in found:
        if not isinstance(one, Estimate):
            yield Sentence(why_not(one, contrast(one.estimand)), "unsettled", "control")
            continue
        same = bool(one.diagnostics["equivalent"])
        arm, reference = one.estimand.arm, one.estimand.reference
        says = "is equivalent to" if same else "is not shown to be equivalent to"
        outcome = one.estimand.column.replace("_", " ")
        shuffled = arm in material.design.interventions("shuffled")
        yield Sentence(
            f"{named(arm)} {says} {named(reference)} in {outcome}: the difference is "
            f"{in_sentence(one)} "
            f"({100 * one.level:g} % interval), {'' if same else 'not '}inside the margin of "
            f"{margin_text(one)} that the plan fixed ({p_equals(one.p_value)})."
            + " Removing a vector of that length is therefore harmless; its direction matters."
            * (same and shuffled),
            "yes" if same else "unsettled",
            "control",
        )
