"""What the comparison of two runs says, in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from sublim_causal.analysis.estimates.types import Estimate, Result
from sublim_causal.report.comparison.sides import Sides, equal, margin_of
from sublim_causal.report.elements import Sentence, Verdict
from sublim_causal.report.wording import counted, estimate, named
from sublim_causal.store.outcome import Outcome

AGREEMENT = "Do the results agree?"


def sentences(sides: Sides) -> Iterator[Sentence]:
    """Yield whether the figures agree, and a verdict on the accuracy of each arm."""
    one, other = sides.names
    if sides.agreements:
        yield _agrees(sides.agreements)
    tests = {
        test.estimand.arm: test
        for test in sides.agreements
        if test.estimand.part == sides.first.outcome.name
    }
    accuracy = [
        found for found in sides.differences if found.estimand.column == sides.first.outcome.name
    ]
    for i, found in enumerate(accuracy):
        label = sides.first.outcome.label.removeprefix("final test ")
        question = f"Do the arms reach the same {label}?" if i == 0 else ""
        arm = found.estimand.arm
        sentence = _says(arm, found, tests.get(arm), f"{one} minus {other}", sides.first.outcome)
        yield replace(sentence, question=question)
    if not sides.arms:
        yield Sentence("The runs have no arm in common.", "unsettled", "study")


def _says(arm: str, found: Result, test: Result | None, minus: str, outcome: Outcome) -> Sentence:
    """Return the verdict on the outcome of one arm: by its margin where it has one, else by 0."""
    if not isinstance(found, Estimate):
        return Sentence(f"{named(arm)}: not settled ({found.reason}).", "unsettled", "arms")
    seeds = counted(found.n_seeds, "seed", "seeds")
    if found.low == found.high == 0:
        return Sentence(f"{named(arm)}: {outcome.label} is the same in all {seeds}.", "yes", "arms")
    if isinstance(test, Estimate) and equal(test):
        return Sentence(
            f"{named(arm)}: {outcome.label} is equivalent within {margin_of(test, outcome)}: "
            f"{minus} is {estimate(test)} ({100 * test.level:g} % interval, {test.method}, "
            f"{seeds}).",
            "yes",
            "agreement",
        )
    apart = found.low > 0 or found.high < 0
    says = "differs" if apart else "is not shown to differ"
    return Sentence(
        f"{named(arm)}: {outcome.label} {says}"
        + ", nor to be equivalent" * (isinstance(test, Estimate) and not apart)
        + f": {minus} is {estimate(found)} ({found.method}, {seeds}).",
        "no" if apart else "unsettled",
        "arms",
    )


def _agrees(found: Sequence[Result]) -> Sentence:
    count = sum(map(equal, found))
    if count == len(found):
        text = f"All {count} results of the two runs are equivalent within the margins set for them"
        return Sentence(f"{text} (paired TOST).", "yes", "agreement", AGREEMENT)
    text = f"{count} of {len(found)} results are shown to be equivalent within their margins"
    verdict: Verdict = "partly" if count else "unsettled"
    return Sentence(f"{text} (paired TOST); the others are not.", verdict, "agreement", AGREEMENT)
