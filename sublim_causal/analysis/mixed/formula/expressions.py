"""Numeric expressions of columns: what is allowed in them, and their value row by row."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from sublim_causal.analysis.mixed.formula.syntax import Node, SourceText

_ELEMENTWISE: Mapping[str, Callable[..., np.ndarray]] = {
    function.__name__: function
    for function in (
        *(np.log, np.log2, np.log10, np.log1p, np.exp, np.expm1, np.sqrt, np.square),
        *(np.sign, np.floor, np.ceil, np.sin, np.cos, np.tan, np.tanh, np.arctan),
        *(np.maximum, np.minimum),
    )
} | {"abs": np.absolute}
FUNCTIONS: Mapping[str, Callable[..., np.ndarray]] = {
    "I": np.positive,
    **_ELEMENTWISE,
    **{f"np.{name}": function for name, function in _ELEMENTWISE.items()},
}
"""Functions of expressions. All act row by row: a mean would depend on how the data are read."""
SPLINE = "spline"
"""Name of a basis of splines in a formula; no function, because it stands for several columns."""
_ARITHMETIC: Mapping[str, Callable[..., np.ndarray]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.divide,
    "**": np.power,
}
_REMEDY = "make a column of it first"


def validate_expression(source: SourceText, expression: Node) -> None:
    """Refuse anything but arithmetic of columns, numbers and `FUNCTIONS`.

    Raises
    ------
    RequestError
        If another function is called, with a wrong number of arguments, or a sign is used that
        belongs to formulas.
    """
    for node in expression.walk():
        if node.kind == "text":
            raise source.refuse_node(node, "columns and numbers")
        if node.kind == "binary" and node.value not in _ARITHMETIC:
            remedy = "write **" if node.value == "^" else "put arithmetic in I(...)"
            at = source.text.find(node.value, node.parts[0].stop)
            raise source.refuse(at, at + len(node.value), "+ - * / ** in arithmetic", remedy)
        if node.kind == "call":
            _validate_call(source, node)


def _validate_call(source: SourceText, node: Node) -> None:
    if node.value not in FUNCTIONS:
        listed = ", ".join(name for name in FUNCTIONS if "." not in name)
        raise source.refuse(
            node.start, node.start + len(node.value), f"one of the functions {listed}", _REMEDY
        )
    expected = getattr(FUNCTIONS[node.value], "nin", 1)
    if len(node.parts) != expected:
        raise source.refuse_node(node, f"{expected} argument{'s' * (expected > 1)} of {node.value}")


def names_in(expression: Node) -> list[str]:
    """Columns that `expression` reads, in order of appearance."""
    return list(dict.fromkeys(node.value for node in expression.walk() if node.kind == "name"))


def evaluate_expression(expression: Node, values: Mapping[str, np.ndarray]) -> np.ndarray:
    """Value of a validated `expression` in each row of `values`, shape ``(n,)``."""
    with np.errstate(all="ignore"):
        found = _value(expression, values)
    return np.broadcast_to(np.asarray(found, dtype=float), next(iter(values.values())).shape)


def _value(node: Node, values: Mapping[str, np.ndarray]) -> np.ndarray | np.float64:
    if node.kind == "name":
        return values[node.value]
    if node.kind == "number":
        return np.float64(node.value)
    parts = [_value(part, values) for part in node.parts]
    if node.value == SPLINE:
        x, *numbers = parts
        return spline_column(np.asarray(x), *map(float, numbers))
    if node.kind == "call":
        return FUNCTIONS[node.value](*parts)
    if node.kind == "unary":
        return np.negative(parts[0]) if node.value == "-" else parts[0]
    return _ARITHMETIC[node.value](*parts)


def spline_column(x: np.ndarray, count: float, place: float, low: float, high: float) -> np.ndarray:
    """Return a column of the cubic B-spline basis on [low, high], without its first column.

    Parameters
    ----------
    x : ndarray of shape (n,)
        Values in [low, high].
    count : float
        Columns, at least 3; the ``count - 3`` knots inside are equally spaced. On equally spaced
        values it is R's ``splines::bs(x, df = count)``.
    place : float
        Which column, from 1 to `count`.
    """
    from scipy.interpolate import BSpline

    inside = np.linspace(low, high, int(count) - 1)[1:-1]
    knots = np.concatenate([[low] * 4, inside, [high] * 4])
    return np.asarray(BSpline(knots, np.eye(int(count) + 1)[int(place)], 3)(x))
