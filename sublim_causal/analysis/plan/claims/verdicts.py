"""Verdicts on claims, by rules that the plan declares before the data are read.

A claim has conditions; each says which limits of which estimate make it hold or fail. One that
neither holds nor fails, or that the run cannot estimate, is open. At least one condition is
essential. Then the claim is

- **not supported** if an essential condition fails;
- **undetermined** if none fails and one is open;
- **supported** if all conditions hold;
- **partly supported** otherwise: what is essential holds, and something else does not.

What is not estimated supports nothing, and a null hypothesis is never accepted because of a large
p-value: two arms are alike where an interval lies inside declared limits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from sublim_causal.analysis.estimates.types import Estimate, NotEstimable, Result, limits
from sublim_causal.analysis.plan.claims.rules import (
    FIELDS,
    P_VALUES,
    Claim,
    Condition,
    may_be_called,
    meets,
    quantity_of,
)
from sublim_causal.analysis.plan.declaration import Declared
from sublim_causal.analysis.plan.method import studies_with
from sublim_causal.errors import RequestError

ConditionState = Literal["holds", "fails", "open"]
Standing = Literal["supported", "partly supported", "not supported", "undetermined"]
Choice = Literal["outcome", "window", "cosine", "estimator", "interval", "seed", "arm"]
_COLUMNS = {"value": "estimate", "low": "conf_low", "high": "conf_high"}
"""Columns of `Finding.tidy` whose names are not those of `FIELDS`."""


@dataclass(frozen=True)
class Finding:
    """Whether a condition holds, and the estimate that decided.

    Attributes
    ----------
    condition : Condition
        The rule.
    outcome : str
        ``holds``, ``fails`` or ``open``.
    estimate : Estimate or None
        The numbers that decided; None where there are none.
    reason : str
        Why there are none; empty otherwise.
    """

    condition: Condition
    outcome: ConditionState
    estimate: Estimate | None
    reason: str

    def tidy(self) -> dict[str, Any]:
        """One flat row with fixed snake_case columns."""
        return {
            **self.condition.model_dump(),
            "outcome": self.outcome,
            **{_COLUMNS.get(name, name): quantity_of(name, self.estimate) for name in FIELDS},
            "level": self.estimate.level if self.estimate else None,
            "reason": self.reason,
        }

    def summary(self) -> str:
        """One line: the outcome, the numbers, and the rule they met."""
        rule, one = self.condition, self.estimate
        head = f"{self.outcome:<5}  {rule.estimand}{' (essential)' if rule.essential else ''}"
        if one is None:
            return f"{head}: {self.reason}"
        met = {
            "holds": rule.holds,
            "fails": rule.fails,
            "open": f"neither {rule.holds}, nor {rule.fails}",
        }[self.outcome]
        numbers = f"{one.value:.4g} {limits(one.low, one.high)}{self._p_values()}"
        return f"{head} = {numbers}: {met}{'; caveat: ' * bool(self.caveat)}{self.caveat}"

    @property
    def caveat(self) -> str:
        """Caveat of the estimate that decided: doses that disagree, and by how much."""
        found = self.estimate.diagnostics if self.estimate else {}
        if not found.get("j_rejects"):
            return ""
        size = found.get("j_misfit")
        said = "" if size is None else f"; an arm is up to {size:.2g} off the line"
        return f"the instruments disagree on the effect (J p {found['j_p']:.2g}{said})"

    @property
    def settled_by(self) -> str:
        """What would settle an open condition: a study that has the arms, or more seeds."""
        if self.estimate is None:
            return f"{self.condition.estimand}: {self.reason}"
        return f"{self.condition.estimand}: more than {self.estimate.n_seeds} seeds"

    def _p_values(self) -> str:
        """The p-values that the rule names, which the interval does not show."""
        rules = f"{self.condition.holds} {self.condition.fails}"
        named = [name for name in P_VALUES if name in rules]
        found = {name: quantity_of(name, self.estimate) for name in named}
        return "".join(f", {name} {p:.2g}" for name, p in found.items() if p is not None)


@dataclass(frozen=True)
class Alternative:
    """The verdict on a claim under another defensible choice; see `stability.variations`.

    Attributes
    ----------
    choice : str
        What was chosen differently: ``outcome``, ``window``, ``cosine``, ``estimator``,
        ``interval``, ``seed`` or ``arm``.
    label : str
        How: ``"without seed 3"``.
    verdict : str
        As in `ClaimVerdict`.
    value, low, high : float
        Of the claim's headline; NaN where it is not estimable.
    """

    choice: Choice
    label: str
    verdict: Standing
    value: float
    low: float
    high: float

    def tidy(self) -> dict[str, Any]:
        """One flat row."""
        numbers = {"estimate": self.value, "conf_low": self.low, "conf_high": self.high}
        return {"choice": self.choice, "label": self.label, "verdict": self.verdict, **numbers}


@dataclass(frozen=True)
class ClaimVerdict:
    """The verdict on a claim.

    Attributes
    ----------
    name, sentence : str
        The claim.
    verdict : str
        ``supported``, ``partly supported``, ``not supported`` or ``undetermined``.
    findings : tuple of Finding
        Those of its conditions, in the plan's order.
    alternatives : tuple of Alternative
        The verdicts under other choices; empty where they were not asked for.
    """

    name: str
    sentence: str
    verdict: Standing
    findings: tuple[Finding, ...]
    alternatives: tuple[Alternative, ...] = ()

    @property
    def headline(self) -> Estimate | None:
        """Estimate of the first essential condition, which pictures show; None without one."""
        return next(one.estimate for one in self.findings if one.condition.essential)

    def stability(self) -> str:
        """Say under how many alternatives the verdict stands: ``"17 of 18 (seed 15 of 16)"``."""
        total, kept = Counter[str](), Counter[str]()
        for one in self.alternatives:
            total[one.choice] += 1
            kept[one.choice] += one.verdict == self.verdict
        chosen = [name for name in get_args(Choice) if total[name]]
        listed = ", ".join(f"{name} {kept[name]} of {total[name]}" for name in chosen)
        return f"{sum(kept.values())} of {sum(total.values())} defensible alternatives ({listed})"

    def departures(self) -> tuple[Alternative, ...]:
        """Alternatives under which the verdict is another one."""
        return tuple(one for one in self.alternatives if one.verdict != self.verdict)

    def summary(self) -> str:
        """One line: the verdict and how many conditions hold, fail and are open."""
        counts = Counter(one.outcome for one in self.findings)
        said = ", ".join(f"{name} {counts[name]}" for name in ("holds", "fails", "open"))
        return f"{self.name}: {self.verdict.upper()} ({said})"

    @property
    def settled_by(self) -> tuple[str, ...]:
        """What would settle an undetermined claim, by essential condition that is open."""
        if self.verdict != "undetermined":
            return ()
        essential = (one for one in self.findings if one.condition.essential)
        return tuple(one.settled_by for one in essential if one.outcome == "open")

    def tidy(self) -> list[dict[str, Any]]:
        """One row a condition, the claim and its verdict on each."""
        return [{"claim": self.name, "verdict": self.verdict, **f.tidy()} for f in self.findings]


def judge(
    claims: Sequence[Claim], results: Sequence[Result], declared: Sequence[Declared]
) -> tuple[ClaimVerdict, ...]:
    """Return the verdict on each claim.

    Parameters
    ----------
    claims : sequence of Claim
        Validated claims.
    results : sequence of Estimate or NotEstimable
        What the run gave.
    declared : sequence of Declared
        The plan's estimands, which say why a part of one is not there.

    Raises
    ------
    RequestError
        If a condition names what two results are called.
    """
    _check_one_result_each(claims, results)
    by_name = {one.estimand.name: one for one in results}

    def verdict(claim: Claim) -> ClaimVerdict:
        findings = tuple(_finding(one, by_name, declared) for one in claim.condition)
        return ClaimVerdict(claim.name, claim.sentence, _standing(findings), findings)

    return tuple(verdict(claim) for claim in claims)


def _check_one_result_each(claims: Sequence[Claim], results: Sequence[Result]) -> None:
    """Check the names of conditions; what a result of one arm is called depends on the run."""
    for name in (one.estimand for claim in claims for one in claim.condition):
        of = [one.estimand.declared for one in results if one.estimand.name == name]
        if len(of) > 1:
            raise RequestError(
                "claim.condition.estimand",
                name,
                f"a name of one result; the estimands {' and '.join(of)} give one each",
                "give one of these estimands another name",
            )


def _finding(
    condition: Condition, by_name: dict[str, Result], declared: Sequence[Declared]
) -> Finding:
    name = condition.estimand
    found = by_name.get(name)
    if found is None:
        # An estimand that a run cannot give at all has one result, without an ending.
        wholes = [by_name.get(one.name) for one in declared if may_be_called(one, name)]
        found = next((one for one in wholes if isinstance(one, NotEstimable)), None)
    if not isinstance(found, Estimate):
        return Finding(condition, "open", None, found.reason if found else _no_arm(name))
    outcome: ConditionState = "open"
    if meets(condition.holds, found):
        outcome = "holds"
    elif meets(condition.fails, found):
        outcome = "fails"
    return Finding(condition, outcome, found, "")


def _no_arm(name: str) -> str:
    where = studies_with(lambda arms: any(name.endswith(f"_{arm}") for arm in arms))
    return f"the run has no arm for it{where}"


def _standing(findings: Sequence[Finding]) -> Standing:
    essential = {one.outcome for one in findings if one.condition.essential}
    if "fails" in essential:
        return "not supported"
    if "open" in essential:
        return "undetermined"
    holds = all(one.outcome == "holds" for one in findings)
    return "supported" if holds else "partly supported"
