"""Verdicts on claims, by rules that the plan declares before the data are read.

A claim stands on conditions; each says which limits of which estimate make it hold or fail. One
that neither holds nor fails, or that the run cannot estimate, is open. At least one condition is
essential. Then the claim is

- **not supported** if an essential condition fails;
- **undetermined** if none fails and one is open;
- **supported** if all conditions hold;
- **partly supported** otherwise: what is essential holds, and something else does not.

What is not estimated supports nothing, and a null is never accepted by a large p-value: that two
arms are alike holds where an interval lies inside declared limits.
"""

from __future__ import annotations

import operator
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, Field

from sublim_causal.analysis.estimates.types import Estimate, NotEstimable, Result, limits
from sublim_causal.analysis.plan.declaration import Declared, Frozen, Name
from sublim_causal.analysis.plan.method import studies_with
from sublim_causal.analysis.plan.renames import RENAMED_PARTS
from sublim_causal.errors import RequestError, nearest

Outcome = Literal["holds", "fails", "open"]
Standing = Literal["supported", "partly supported", "not supported", "undetermined"]
Choice = Literal["outcome", "window", "cosine", "estimator", "interval", "seed", "arm"]

P_VALUES = ("p_value", "p_adjusted")
"""Of an estimate: its p and its adjusted p."""
FIELDS = ("value", "low", "high", "width", *P_VALUES)
"""What a rule can compare."""
_COLUMNS = {"value": "estimate", "low": "conf_low", "high": "conf_high"}
"""Columns of `Finding.tidy` whose names are not those of `FIELDS`."""
_SIGNS = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}
_TERM = re.compile(r"(\w+) *(>=|<=|>|<) *([-+]?\d*\.?\d+(?:[eE][-+]?\d+)?)")


def _check_rule(rule: str) -> str:
    for term in re.split(r" or | and ", rule):
        found = _TERM.fullmatch(term.strip())
        if found is None:
            raise ValueError("comparisons such as 'low > 0', joined by 'and' and 'or'")
        if found[1] not in FIELDS:
            hint = nearest(found[1], FIELDS)
            raise ValueError(f"comparisons of {', '.join(FIELDS)}{'; ' * bool(hint)}{hint}")
        if found[1] in P_VALUES and found[2].startswith(">"):
            raise ValueError(
                "limits of the interval: a large p-value accepts nothing, so write "
                "'low > -0.05 and high < 0.05'"
            )
    return rule


Rule = Annotated[str, AfterValidator(_check_rule)]


class Condition(Frozen):
    """A condition of a claim."""

    estimand: str
    """Name of a result: of an estimand of the plan, with the ending of its part or arm."""
    holds: Rule
    """When it holds: ``"low > 0"``; ``and`` binds tighter than ``or``."""
    fails: Rule
    """When it fails; in between it is open."""
    essential: bool = False
    """Whether the claim falls with it, and is undetermined while it is open."""


class Claim(Frozen):
    """A claim and the conditions it stands on."""

    name: Name
    """Identifier, unique in the plan."""
    sentence: str = Field(min_length=10)
    """The claim in one sentence."""
    condition: tuple[Condition, ...] = Field(min_length=1)
    """What it stands on, each a table ``[[claim.condition]]``."""


@dataclass(frozen=True)
class Finding:
    """What became of a condition.

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
    outcome: Outcome
    estimate: Estimate | None
    reason: str

    def tidy(self) -> dict[str, Any]:
        """One flat row with fixed snake_case columns."""
        return {
            **self.condition.model_dump(),
            "outcome": self.outcome,
            **{_COLUMNS.get(name, name): _number(name, self.estimate) for name in FIELDS},
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
        """What speaks against the estimate that decided: doses that disagree, and by how much."""
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
        found = {name: _number(name, self.estimate) for name in named}
        return "".join(f", {name} {p:.2g}" for name, p in found.items() if p is not None)


@dataclass(frozen=True)
class Alternative:
    """The verdict on a claim under another defensible choice; see `plan.stability`.

    Attributes
    ----------
    choice : str
        What was chosen otherwise: ``outcome``, ``window``, ``cosine``, ``estimator``,
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
        What it rests on, in the plan's order.
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


def validate_claims(claims: Sequence[Claim], declared: Sequence[Declared]) -> None:
    """Check that claims have names of their own and conditions on what the plan declares.

    Raises
    ------
    RequestError
        If a name is used twice, a claim has no essential condition, or a condition names a result
        that no estimand can have.
    """
    for name, count in Counter(one.name for one in claims).items():
        if count > 1:
            raise RequestError("claim.name", name, f"a name used once; it is used {count} times")
    known = [name for one in declared for name in _names(one)]
    by_arm = [one.name for one in declared if one.endings() is None]
    for i, claim in enumerate(claims):
        if not any(one.essential for one in claim.condition):
            raise RequestError(
                f"claim[{i}].condition.essential",
                False,
                "true in at least one condition",
                f"say which result {claim.name!r} falls with: essential = true",
            )
        for j, condition in enumerate(claim.condition):
            name = condition.estimand
            if new := _renamed(name, declared):
                where = f"claim[{i}].condition[{j}].estimand"
                raise RequestError(
                    where, name, new, f"{name!r} is called {new!r} since version 0.2"
                )
            if not any(_may_name(one, name) for one in declared):
                endless = [f"{one}_<arm>" for one in by_arm]
                raise RequestError(
                    f"claim[{i}].condition[{j}].estimand",
                    name,
                    f"a result of this plan: {', '.join((*known, *endless))}",
                    nearest(name, [*known, *by_arm]),
                )


def judge(
    claims: Iterable[Claim], results: Sequence[Result], declared: Sequence[Declared]
) -> tuple[ClaimVerdict, ...]:
    """Return the verdict on each claim.

    Parameters
    ----------
    claims : iterable of Claim
        Validated claims.
    results : sequence of Estimate or NotEstimable
        What the run gave.
    declared : sequence of Declared
        The plan's estimands, which say why a part of one is not there.
    """
    by_name = {one.estimand.name: one for one in results}

    def verdict(claim: Claim) -> ClaimVerdict:
        findings = tuple(_finding(one, by_name, declared) for one in claim.condition)
        return ClaimVerdict(claim.name, claim.sentence, _standing(findings), findings)

    return tuple(verdict(claim) for claim in claims)


def _renamed(name: str, declared: Sequence[Declared]) -> str:
    """Return today's name of a result whose part is named as before version 0.2; else empty."""
    for one in declared:
        for old, new in RENAMED_PARTS.get(one.method, {}).items():
            ending = re.fullmatch(rf"{re.escape(one.name)}_{old}(?!_mediated)(_.+)?", name)
            if ending:
                return f"{one.name}_{new}{ending[1] or ''}"
    return ""


def _names(one: Declared) -> Iterator[str]:
    for ending in one.endings() or ():
        yield f"{one.name}_{ending}" if ending else one.name


def _may_name(one: Declared, name: str) -> bool:
    """Whether a result of `one` may be called `name`; arms are not known before the run."""
    return name in _names(one) or (one.endings() is None and name.startswith(f"{one.name}_"))


def _finding(
    condition: Condition, by_name: dict[str, Result], declared: Sequence[Declared]
) -> Finding:
    name = condition.estimand
    found = by_name.get(name)
    if found is None:
        # An estimand that a run cannot give at all has one result, without an ending.
        wholes = [by_name.get(one.name) for one in declared if _may_name(one, name)]
        found = next((one for one in wholes if isinstance(one, NotEstimable)), None)
    if not isinstance(found, Estimate):
        return Finding(condition, "open", None, found.reason if found else _no_arm(name))
    outcome: Outcome = "open"
    if _meets(condition.holds, found):
        outcome = "holds"
    elif _meets(condition.fails, found):
        outcome = "fails"
    return Finding(condition, outcome, found, "")


def _no_arm(name: str) -> str:
    where = studies_with(lambda arms: any(name.endswith(f"_{arm}") for arm in arms))
    return f"the run has no arm for it{where}"


def _meets(rule: str, estimate: Estimate) -> bool:
    return any(
        all(_term(term, estimate) for term in part.split(" and ")) for part in rule.split(" or ")
    )


def _term(term: str, estimate: Estimate) -> bool:
    field, sign, number = _TERM.fullmatch(term.strip()).groups()  # type: ignore[union-attr]
    value = _number(field, estimate)
    # What was not computed meets no comparison; neither does NaN.
    return value is not None and bool(_SIGNS[sign](value, float(number)))


def _number(field: str, estimate: Estimate | None) -> float | None:
    """Return one of `FIELDS`; None where it was not computed."""
    if estimate is None:
        return None
    found = getattr(estimate, field, estimate.diagnostics.get(field))
    return None if found is None else float(found)


def _standing(findings: Sequence[Finding]) -> Standing:
    essential = {one.outcome for one in findings if one.condition.essential}
    if "fails" in essential:
        return "not supported"
    if "open" in essential:
        return "undetermined"
    holds = all(one.outcome == "holds" for one in findings)
    return "supported" if holds else "partly supported"
