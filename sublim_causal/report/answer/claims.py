"""What becomes of the claims that the plan declares."""

from __future__ import annotations

from collections.abc import Iterator

from sublim_causal.analysis.plan.claims.verdicts import Finding
from sublim_causal.report.elements import Sentence, Verdict
from sublim_causal.report.material import Material
from sublim_causal.report.wording import estimate, named, p_equals

_STANDING: dict[str, Verdict] = {
    "supported": "yes",
    "partly supported": "partly",
    "not supported": "no",
    "undetermined": "unsettled",
}


_P_NAMES = {"p_value": "", "p_adjusted": "adjusted "}


def _deciding(one: Finding, level: float) -> str:
    """Write the numbers that a condition's rules compare, and what became of it."""
    found, row = one.estimate, one.tidy()
    if found is None:
        return ""
    marked = f" ({100 * found.level:g} % interval)" if found.level != level else ""
    rules = f"{one.condition.holds} {one.condition.fails}"
    p_values = "".join(
        f", {name}{p_equals(row[field])}"
        for field, name in _P_NAMES.items()
        if field in rules and row[field] is not None
    )
    outcome = "is open" if one.outcome == "open" else one.outcome
    caveat = f" (caveat: {one.caveat})" if one.caveat else ""
    return f"{named(one.condition.estimand)} {estimate(found)}{marked}{p_values} {outcome}{caveat}"


def claims(material: Material) -> Iterator[Sentence]:
    """Yield the verdict on each claim, with the numbers that decide it."""
    for claim in material.results.verdicts:
        deciding = [*filter(None, (_deciding(one, material.level) for one in claim.findings))]
        if absent := len(claim.findings) - len(deciding):
            deciding.append(f"{absent} of {len(claim.findings)} conditions cannot be estimated")
        if claim.settled_by:
            deciding.append(f"to settle it: {', '.join(claim.settled_by)}")
        if claim.alternatives:
            deciding.append(f"this verdict holds under {claim.stability()}")
        yield Sentence(
            f"{claim.sentence} {claim.verdict.capitalize()}: {'; '.join(deciding)}.",
            _STANDING[claim.verdict],
            "methods",
        )
