"""Numbers and intervals as a reader wants them: as many digits as the interval supports."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence

from sublim_causal.analysis.estimates.types import DIFFERENCE, FRACTION, Estimand, Estimate, Result

MINUS = "\N{MINUS SIGN}"
OPEN, CLOSE = "\ue000", "\ue001"
"""Private characters around a name; pages, tables and figures set it apart in their own way."""
_NAMES = re.compile(
    f"{OPEN}(.*?){CLOSE}"
    r"|(?<![\w'])'([^'\n]+)'(?![\w'])"
    r"|(?<![\w./-])([A-Za-z][A-Za-z0-9]*(?:_[A-Za-z0-9]+)+)(?![\w/-])",
    re.DOTALL,
)
"""What is marked, in quotes, or an identifier with an underscore."""
POINTS = "percentage points"
NATS = "nats"
MOST_DECIMALS = 6
"""Smaller numbers are written with a power of ten."""


def named(name: str) -> str:
    """Return the name of an arm or estimand, marked so that it is set apart from its sentence."""
    return f"{OPEN}{unmarked(name)}{CLOSE}"


def names_apart(text: str) -> Iterator[tuple[str, bool]]:
    """Split `text` into pieces, and say of each whether it is a name that is set apart.

    Names are what `named` marked, what a message of an estimator quotes, and identifiers with an
    underscore: arms, estimands and columns.
    """
    end = 0
    for found in _NAMES.finditer(text):
        yield text[end : found.start()], False
        yield next(filter(None, found.groups()), ""), True
        end = found.end()
    yield text[end:], False


def unmarked(text: str) -> str:
    """Return `text` without the marks of `named`."""
    return re.sub(f"[{OPEN}{CLOSE}]", "", text)


def contrast(estimand: Estimand) -> str:
    """Return what an estimand compares, with the names of its arms marked."""
    if not (estimand.arm and estimand.reference):
        return estimand.contrast
    return f"{named(estimand.arm)} {MINUS} {named(estimand.reference)}"


def plain(text: str) -> str:
    """Return `text` with marked names in quotes."""
    return text.replace(OPEN, "\N{LEFT SINGLE QUOTATION MARK}").replace(
        CLOSE, "\N{RIGHT SINGLE QUOTATION MARK}"
    )


def decimals(low: float, high: float) -> int:
    """Return how many decimals tell the ends of an interval apart by two digits."""
    return significant(high - low)


def significant(value: float) -> int:
    """Return how many decimals show two digits of `value`."""
    if not math.isfinite(value) or value == 0:
        return 0
    return max(1 - math.floor(math.log10(abs(value))), 0)


def number(value: float, places: int) -> str:
    """Write `value` with `places` decimals, a true minus sign, and no minus zero."""
    if math.isinf(value):
        return "\N{INFINITY}" if value > 0 else f"{MINUS}\N{INFINITY}"
    if places > MOST_DECIMALS and 0 < abs(value) < 10.0**-MOST_DECIMALS * 10:
        return f"{value:.1e}".replace("e-0", "e-").replace("-", MINUS)
    text = f"{value:.{min(places, 8)}f}"
    return text.replace("-", "" if float(text) == 0 else MINUS)


def percent(value: float, places: int = 1) -> str:
    """Write a fraction in percent."""
    return f"{number(100 * value, places)} %"


def sentence_case(text: str) -> str:
    """Return `text` with its first letter in upper case."""
    return text[:1].upper() + text[1:]


def interval(low: float, high: float, places: int, scale: float = 1.0) -> str:
    """Write ``[low, high]``; an unbounded interval in words, none as an empty text."""
    if math.isnan(low) or math.isnan(high):
        return ""
    if math.isinf(low) or math.isinf(high):
        if math.isinf(low) and math.isinf(high):
            return "[any value]"
        side, end = ("least", low) if math.isinf(high) else ("most", high)
        return f"[at {side} {number(scale * end, places)}]"
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


def unit_of(result: Result, value: str) -> str:
    """Return the unit that `estimate` writes behind `value`."""
    points = points_after(value)
    return {FRACTION: " %", DIFFERENCE: f" {points}"}.get(result.estimand.unit, "")


def points_after(value: str) -> str:
    """Return the unit of a difference of percentages, in the singular after a 1."""
    return "percentage point" if value.lstrip(MINUS) == "1" else POINTS


def margin_text(result: Estimate) -> str:
    """Write the margin of an equivalence test: ``5 percentage points``."""
    scale = scale_of(result)
    value = f"{scale * float(result.diagnostics['margin']):g}"
    if result.estimand.unit == NATS:
        return f"{value} {NATS}"
    return f"{value}{unit_of(result, value)}"


def estimate(result: Estimate) -> str:
    """Write value, unit and interval: ``-38.2 percentage points [-42.7, -33.7]``."""
    scale = scale_of(result)
    places = places_of(result)
    value = number(scale * result.value, places)
    if result.low == result.high:
        exact = f"{scale * result.value:g}".replace("-", MINUS)
        return f"{exact}{unit_of(result, exact)} in every seed"
    limits = interval(result.low, result.high, places, scale)
    return f"{value}{unit_of(result, value)} {limits}".rstrip()


def in_sentence(result: Estimate) -> str:
    """Write an estimate where nothing around it says its unit: ``-1.7 nats [-2.0, -1.4]``."""
    text = estimate(result)
    if result.estimand.unit != NATS:
        return text
    value, _, rest = text.partition(" ")
    return f"{value} {NATS} {rest}"


def in_cell(result: Estimate) -> str:
    """Write an estimate in the cell of a table: ``-38.2 points [-42.7, -33.7]``."""
    return re.sub(r"percentage points?", "points", estimate(result))


def p_value(value: float | None) -> str:
    """Write p with two digits, or a bound where it is tiny."""
    if value is None or math.isnan(value):
        return ""
    if value < 1e-4:
        return "< 0.0001"
    return f"{value:.2g}"


def p_equals(value: float | None) -> str:
    """Write p in a sentence: ``p = 0.012`` or ``p < 0.0001``."""
    text = p_value(value) or "unknown"
    return f"p {text}" if text.startswith("<") else f"p = {text}"


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
