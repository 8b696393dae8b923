"""Whether alignment persists through training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from sublim_causal.analysis.estimates.types import Estimate
from sublim_causal.report.answer.rules import SMALL_COSINE, side_of, why_not
from sublim_causal.report.elements import Sentence, Verdict
from sublim_causal.report.material import Material, values
from sublim_causal.report.wording import counted, decimals, estimate, interval, named, number


def persistence(material: Material) -> Iterator[Sentence]:
    """Yield whether gradient and update stay aligned after the first epoch, and what changes."""
    reference = material.reference
    late = {
        (column, summary): material.find(
            "seed_summary", arm=reference, outcome=column, summary=summary, window="late"
        )
        for column in ("cos_gradient", "cos_update")
        for summary in ("mean", "share_positive")
    }
    for column, subject in (
        ("cos_gradient", "the distillation gradient"),
        ("cos_update", "the optimizer's update"),
    ):
        mean, share = late[column, "mean"], late[column, "share_positive"]
        if not isinstance(mean, Estimate):
            what = f"the mean alignment of {subject} after the first epoch of {named(reference)}"
            yield Sentence(why_not(mean, what), "unsettled", "alignment")
            continue
        share = values(share)
        side = side_of(mean, size=SMALL_COSINE)
        sides = {side, side_of(share, 0.5)} if share else {side}
        verdict: Verdict = "yes" if sides == {"above"} else "unsettled"
        verdict = "no" if sides & {"below", "none"} else verdict
        stays = {"yes": "stays aligned with", "no": "is not aligned with"}
        words = stays.get(verdict, "is not shown to stay aligned with")
        positive = f", positive in {_of_steps(share)}" if share else ""
        yield Sentence(
            f"After the first epoch of {named(reference)}, {subject} {words} the trait gradient: "
            f"mean cosine {estimate(mean)}{positive} ({counted(mean.n_seeds, 'seed', 'seeds')}).",
            verdict,
            "alignment",
        )
    yield from _drop(material)


def _of_steps(share: Estimate) -> str:
    if share.low == share.high:
        known = {0.0: "no step of any seed", 1.0: "every step of every seed"}
        return known.get(share.value, f"{100 * share.value:g} % of the steps of every seed")
    return f"{estimate(share)} of steps"


def _drop(material: Material) -> Iterator[Sentence]:
    drop = values(
        material.find(
            "seed_summary",
            arm=material.reference,
            outcome="cos_gradient",
            summary="mean",
            window="early - late",
        )
    )
    if drop is None:
        return
    places, side = decimals(drop.low, drop.high), side_of(drop, size=SMALL_COSINE)
    change = interval(-drop.high, -drop.low, places)
    how = {
        "above": "The gradient's alignment weakens",
        "below": "The gradient's alignment strengthens",
        "across": "The gradient's alignment is not shown to weaken or strengthen",
        "none": "The gradient's alignment does not change",
    }[side]
    yield Sentence(
        f"{how} from the first epoch to the later ones: the mean gradient cosine changes by "
        f"{number(-drop.value, places)} {change}.",
        _WEAKENS[side],
        "alignment",
    )


_WEAKENS: Mapping[str, Verdict] = {
    "across": "unsettled",
    "above": "partly",
    "below": "yes",
    "none": "yes",
}
"""Whether alignment persists, by where the interval of its decrease lies."""
