"""The rules of wording: when an effect is called one."""

from __future__ import annotations

from sublim_causal.analysis.estimates.types import Estimate, Result
from sublim_causal.report.material import Material

STOPPED = 0.9
"""Transfer counts as nearly stopped if the interval of the share that is gone lies above this."""
ATTENUATED = 0.5
"""A loss counts as attenuation if the interval of the share that is gone lies below this."""
SMALL_COSINE = 0.001
"""A mean cosine whose interval lies within this of 0 is too small to matter."""
SMALL_ACCURACY = 0.05
"""The same of a difference in accuracy (fraction), where the plan declares no margin for it."""
DEFAULT_MARGIN = f" ({100 * SMALL_ACCURACY:g} percentage points where it declares none)"
"""What `RULES` state about the margin that is used if a plan declares none."""
RULES = (
    f"A mean cosine whose interval lies within \N{PLUS-MINUS SIGN}{SMALL_COSINE:g} is too small to "
    "matter, as is a difference in accuracy whose interval lies within the plan's margin of "
    f"equivalence{DEFAULT_MARGIN}: the sentence then states that there is none of that size, "
    "whether or not the interval excludes 0. "
    "An effect, slope or mean is stated only if its interval excludes the null value; otherwise "
    'the sentence says "is not shown". An interval beside an adjusted p is simultaneous over the '
    "family, except in a gate, where none is needed. "
    'An arm "lowers" or "raises" the transfer if the interval of its difference in final accuracy '
    'lies below or above 0. An arm that lowers it "stops nearly all of the transfer" if the '
    f"interval of the share that it prevents lies above {100 * STOPPED:g} %, and "
    '"stops the transfer" if, in addition, what it still acquires is not shown to be above 0. It '
    '"attenuates the transfer but does not stop it" if the interval of that share lies below '
    f'{100 * ATTENUATED:g} %. An arm "does more than remove" alignment if the interval of the '
    'update\'s mean cosine under it lies below 0, "leaves the update aligned" if it lies above 0, '
    'and "holds the update orthogonal" to the trait gradient if that cosine is too small to '
    'matter. An arm is "equivalent" to another if the interval of their difference lies inside the '
    'margin. Whether the slopes "differ between levels" is decided by the test of equal slopes at '
    "all levels, not by their intervals."
)
"""The rules of wording, for the section of methods."""


def side_of(one: Estimate, null: float = 0.0, size: float = 0.0) -> str:
    """Return where the interval lies against `null`: above, below, across, or nearer than `size`.

    The last is ``"none"``: whatever the side, the difference is too small to matter.
    """
    if null - size < one.low and one.high < null + size:
        return "none"
    return "above" if one.low > null else "below" if one.high < null else "across"


def small_accuracy(material: Material) -> float:
    """Return the difference in the outcome that would not matter, by the plan or the task."""
    margins = [
        one.diagnostics["margin"]
        for one in material.declared("equivalence", outcome=material.outcome.name)
        if isinstance(one, Estimate)
    ]
    return min(margins, default=material.outcome.margin or 0.0)


def why_not(result: Result | None, what: str) -> str:
    """Say why `what` is not settled: it was not declared, or cannot be estimated."""
    if result is None:
        return f"The plan does not declare {what}, so this report does not settle the question."
    return f"Not settled: {what} is not estimable ({getattr(result, 'reason', '')})."
