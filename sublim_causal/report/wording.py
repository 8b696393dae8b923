"""Numbers and intervals as a reader wants them: as many digits as the interval supports."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from sublim_causal.analysis.estimates.types import DIFFERENCE, FRACTION, Estimate, Result

MINUS = "\N{MINUS SIGN}"
POINTS = "percentage points"


def decimals(low: float, high: float) -> int:
    """Return how many decimals tell the ends of an interval apart by two digits."""
    return significant(high - low)


def significant(value: float) -> int:
    """Return how many decimals show two digits of `value`."""
    if not math.isfinite(value) or value == 0:
        return 0
    return min(max(1 - math.floor(math.log10(abs(value))), 0), 8)


def number(value: float, places: int) -> str:
    """Write `value` with `places` decimals, a true minus sign, and no minus zero."""
    if math.isinf(value):
        return "\N{INFINITY}" if value > 0 else f"{MINUS}\N{INFINITY}"
    text = f"{value:.{places}f}"
    return text.replace("-", "" if float(text) == 0 else MINUS)


def percent(value: float, places: int = 1) -> str:
    """Write a fraction in percent."""
    return f"{number(100 * value, places)} %"


def interval(low: float, high: float, places: int, scale: float = 1.0) -> str:
    """Write ``[low, high]``; an infinite end says so."""
    return f"[{number(scale * low, places)}, {number(scale * high, places)}]"


def scale_of(result: Result) -> float:
    """Return 100 for what is shown in percent or percentage points; else 1."""
    return 100.0 if result.estimand.unit in (FRACTION, DIFFERENCE) else 1.0


def places_of(result: Estimate) -> int:
    """Return the decimals that `result` supports, in the unit that is shown."""
    scale = scale_of(result)
    if math.isfinite(result.high - result.low) and result.high > result.low:
        return decimals(scale * result.low, scale * result.high)
    return significant(scale * result.value) if scale * result.value % 1 else 0


def unit_of(result: Result) -> str:
    """Return the unit that `estimate` writes behind the value."""
    return {FRACTION: " %", DIFFERENCE: f" {POINTS}"}.get(result.estimand.unit, "")


def estimate(result: Estimate, *, unit: bool = True) -> str:
    """Write value, unit and interval: ``-38.2 percentage points [-42.7, -33.7]``."""
    scale = scale_of(result)
    places = places_of(result)
    value = number(scale * result.value, places)
    tail = unit_of(result) if unit else ""
    if result.low == result.high:
        return f"{scale * result.value:g}{tail} in every seed"
    return f"{value}{tail} {interval(result.low, result.high, places, scale)}"


def p_value(value: float | None) -> str:
    """Write p with two digits, or a bound where it is tiny."""
    if value is None or math.isnan(value):
        return ""
    if value < 1e-4:
        return "< 0.0001"
    return f"{value:.2g}"


def slug(*parts: object) -> str:
    """Return a name for files and ids from texts that a study file may have chosen freely."""
    return "_".join(re.sub(r"[^A-Za-z0-9]+", "_", str(part)).strip("_") for part in parts)


def counted(count: int, one: str, more: str) -> str:
    """Write a number and its noun: ``1 seed``, ``12 seeds``."""
    return f"{count:,} {one if count == 1 else more}"


def listed(words: Sequence[str]) -> str:
    """Join words as in a sentence: ``a, b and c``."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} and {words[-1]}"
