"""Claims of a plan and the rules by which their conditions hold or fail."""

from __future__ import annotations

import operator
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Annotated

from pydantic import AfterValidator, Field

from sublim_causal.analysis.estimates.types import Estimate
from sublim_causal.analysis.plan.declaration import Declared, Frozen, Name
from sublim_causal.errors import RequestError, nearest
from sublim_causal.renames import RENAMED_PARTS

P_VALUES = ("p_value", "p_adjusted")
"""The p-value of an estimate, and its adjusted p-value."""
FIELDS = ("value", "low", "high", "width", *P_VALUES)
"""What a rule can compare."""
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
    """Whether the claim is not supported where it fails, and undetermined where it is open."""


class Claim(Frozen):
    """A claim and its conditions."""

    name: Name
    """Identifier, unique in the plan."""
    sentence: str = Field(min_length=10)
    """The claim in one sentence."""
    condition: tuple[Condition, ...] = Field(min_length=1)
    """Its conditions, each a table ``[[claim.condition]]``."""


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
    for i, claim in enumerate(claims):
        if not any(one.essential for one in claim.condition):
            raise RequestError(
                f"claim[{i}].condition.essential",
                False,
                "true in at least one condition",
                f"say which result {claim.name!r} falls with: essential = true",
            )
        for j, condition in enumerate(claim.condition):
            where = f"claim[{i}].condition[{j}].estimand"
            _validate_name(condition.estimand, declared, where)


def _validate_name(name: str, declared: Sequence[Declared], where: str) -> None:
    """Refuse a result that no estimand can have; one renamed since is told its name today."""
    if new := _renamed(name, declared):
        raise RequestError(where, name, new, f"{name!r} is called {new!r} since version 0.2")
    if any(may_be_called(one, name) for one in declared):
        return
    known = [name for one in declared for name in _names(one)]
    by_arm = [one.name for one in declared if one.endings() is None]
    listed = ", ".join([*known, *(f"{one}_<arm>" for one in by_arm)])
    raise RequestError(
        where, name, f"a result of this plan: {listed}", nearest(name, [*known, *by_arm])
    )


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


def may_be_called(one: Declared, name: str) -> bool:
    """Whether a result of `one` may be called `name`; arms are not known before the run."""
    return name in _names(one) or (one.endings() is None and name.startswith(f"{one.name}_"))


def meets(rule: str, estimate: Estimate) -> bool:
    return any(
        all(_term(term, estimate) for term in part.split(" and ")) for part in rule.split(" or ")
    )


def _term(term: str, estimate: Estimate) -> bool:
    field, sign, number = _TERM.fullmatch(term.strip()).groups()  # type: ignore[union-attr]
    value = quantity_of(field, estimate)
    # What was not computed meets no comparison; neither does NaN.
    return value is not None and bool(_SIGNS[sign](value, float(number)))


def quantity_of(field: str, estimate: Estimate | None) -> float | None:
    """Return one of `FIELDS`; None where it was not computed."""
    if estimate is None:
        return None
    found = getattr(estimate, field, estimate.diagnostics.get(field))
    return None if found is None else float(found)
