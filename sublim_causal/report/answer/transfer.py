"""Whether removing alignment stops the transfer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from sublim_causal.analysis.estimates.types import Estimate
from sublim_causal.report.answer.rules import (
    ATTENUATED,
    SMALL_COSINE,
    STOPPED,
    side_of,
    small_accuracy,
    why_not,
)
from sublim_causal.report.elements import Sentence, Verdict
from sublim_causal.report.material import Material, values
from sublim_causal.report.wording import estimate, in_sentence, named, p_equals, p_value


def transfer(material: Material) -> Iterator[Sentence]:
    """Yield what each arm that removes or trains away alignment does to the transfer."""
    arms, reference = material.design.main_projections(), material.reference
    if len(material.shown_arms) == 1:
        text = f"Not settled: {named(material.shown_arms[0])} is the only arm with a complete seed."
        yield Sentence(text, "unsettled", "acquisition")
    elif not arms:
        text = (
            "no arm is declared to remove alignment (declare it in arms of open_run)."
            if material.is_own
            else "no arm differs from "
            f"{named(reference)} only in removing alignment (intervention projection)."
        )
        yield Sentence(f"Not settled: {text}", "unsettled", "acquisition")
    for arm in arms:
        yield _stopped(material, arm)
        if caution := _misses(material, arm):
            yield caution
    for arm in material.design.interventions("liminal"):
        found = material.find("paired_contrast", arm=arm, outcome=material.outcome.name)
        if isinstance(found, Estimate):
            yield _attenuates(material, arm, found.beside_adjusted())


def _stopped(material: Material, arm: str) -> Sentence:
    found = material.find("paired_contrast", arm=arm, outcome=material.outcome.name)
    if not isinstance(found, Estimate):
        return Sentence(
            why_not(
                found,
                f"the contrast of {named(arm)} and {named(material.reference)} in "
                f"{material.outcome.label}",
            ),
            "unsettled",
            "acquisition",
        )
    found = found.beside_adjusted()
    headline = material.headlines[arm]
    share, left = values(headline.removed), values(headline.residue)
    words, verdict = what_it_does(material, arm, found)
    text = (
        f"{named(arm)} {words}: the difference from "
        f"{named(material.reference)} in {material.outcome.label} is {in_sentence(found)}"
    )
    if share is not None:
        text += f", which is {estimate(share)} of what {named(material.reference)} acquires"
    if left is not None:
        text += f"; {named(arm)} still acquires {in_sentence(left)}"
    return Sentence(f"{text} ({_p_text(found)}).", verdict, "acquisition")


_DOES: Mapping[str, tuple[str, Verdict]] = {
    "below": ("lowers the transfer", "partly"),
    "above": ("raises the transfer", "no"),
    "none": ("leaves the transfer unchanged", "no"),
    "across": ("is not shown to change the transfer", "unsettled"),
}
"""What an arm does to the transfer, by where the interval of its difference lies."""


def what_it_does(material: Material, arm: str, found: Estimate) -> tuple[str, Verdict]:
    """Return what `arm` does to the transfer, by its difference in accuracy, and the verdict."""
    headline = material.headlines[arm]
    share, left = values(headline.removed), values(headline.residue)
    side = side_of(found.beside_adjusted(), size=small_accuracy(material))
    if side == "below" and share is not None and share.low >= STOPPED:
        stops = left is not None and left.low <= 0
        return f"stops {'' if stops else 'nearly all of '}the transfer", "yes"
    return _DOES[side]


def _p_text(found: Estimate) -> str:
    adjusted = found.diagnostics.get("p_adjusted")
    if adjusted is None:
        return p_equals(found.p_value)
    least = 2.0 ** (1 - found.n_seeds)
    flips = found.diagnostics.get("adjustment") == "sign_flip"
    note = f"; sign flips of {found.n_seeds} seeds cannot give a p below {p_value(least)}"
    return f"adjusted {p_equals(adjusted)}{note * (flips and least > 1 - found.level)}"


def _misses(material: Material, arm: str) -> Sentence | None:
    """Say where `arm` does not leave the update without alignment, whatever came of it."""
    mean = values(material.headlines[arm].alignment)
    if mean is None or side_of(mean, size=SMALL_COSINE) == "across":
        return None
    if side_of(mean, size=SMALL_COSINE) == "none":
        return Sentence(
            f"{named(arm)} holds the update orthogonal to the trait gradient: its mean cosine is "
            f"{estimate(mean)}, within \N{PLUS-MINUS SIGN}{SMALL_COSINE:g} of 0.",
            "yes",
            "alignment",
        )
    if side_of(mean) == "above":
        return Sentence(
            f"But {named(arm)} leaves the update aligned: its mean cosine is {estimate(mean)}.",
            "caution",
            "alignment",
        )
    found = material.find("paired_contrast", arm=arm, outcome=material.outcome.name)
    does, verdict = (
        what_it_does(material, arm, found) if isinstance(found, Estimate) else ("", "unsettled")
    )
    limit = (
        f"This shows that reversed alignment {does}, not that absent alignment would"
        if verdict != "unsettled"
        else "It does not show what absent alignment would do"
    )
    return Sentence(
        f"But {named(arm)} does more than remove alignment: the update's mean cosine under it is "
        f"{estimate(mean)}, so the updates move the student away from the trait. "
        f"{limit}{_where_absent(material, arm)}.",
        "caution",
        "alignment",
    )


def _where_absent(material: Material, arm: str) -> str:
    """Return where absent alignment can be seen, to end a sentence on reversed alignment."""
    design = material.design
    removed = [one for one in design.main_projections() if design.space(one) == "update"]
    if arm in removed:
        return ""
    if removed:
        return f"; {named(removed[0])}, a projection in update space, tests that"
    return "; a projection in update space would test that"


def _attenuates(material: Material, arm: str, found: Estimate) -> Sentence:
    share = values(material.headlines[arm].removed)
    side = side_of(found, size=small_accuracy(material))
    words = {
        "below": "lowers",
        "above": "raises",
        "none": "hardly changes",
        "across": "is not shown to change",
    }[side]
    tail = (
        f", a loss of {estimate(share)} of what {named(material.reference)} acquires"
        if share
        else ""
    )
    if side == "below" and share is not None and share.high < ATTENUATED:
        tail += "; it attenuates the transfer but does not stop it"
    verdict: Verdict = {"across": "unsettled", "none": "no"}.get(side, "partly")  # type: ignore[assignment]
    return Sentence(
        f"{named(arm)} {words} {material.outcome.label}: the difference is "
        f"{in_sentence(found)}{tail}.",
        verdict,
        "acquisition",
    )
