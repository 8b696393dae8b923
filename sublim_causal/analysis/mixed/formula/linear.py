"""Linear expressions in coefficient names: ``"arm[T.liminal] - 0.5 * arm[T.shuffled]"``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from sublim_causal.analysis.estimates.types import Floats
from sublim_causal.analysis.mixed.formula.syntax import Node, SourceText, parse
from sublim_causal.errors import RequestError, nearest


class ContrastMatrix(NamedTuple):
    """Names of C contrasts and their coefficients, shape ``(C, P)``."""

    names: list[str]
    rows: Floats


def contrast_matrix(contrasts: str | Sequence[str] | Floats, names: pd.Index) -> ContrastMatrix:
    """Read contrasts given as expressions or as rows.

    Raises
    ------
    RequestError
        If an expression is not linear in `names`, or a matrix has another number of columns.
    """
    if isinstance(contrasts, str):
        contrasts = [contrasts]
    if all(isinstance(c, str) for c in contrasts):
        texts = [str(c) for c in contrasts]
        return ContrastMatrix(texts, np.array([_linear(text, list(names)) for text in texts]))
    rows = np.atleast_2d(np.asarray(contrasts, dtype=float))
    if rows.shape[1] != len(names):
        raise RequestError("contrast", rows.shape, f"{len(names)} columns: {', '.join(names)}")
    return ContrastMatrix([f"row {i}" for i in range(len(rows))], rows)


def _linear(text: str, names: list[str]) -> Floats:
    """Coefficients of `text`."""
    source = SourceText("contrast", text)
    tree = parse(source, names)
    value = _value(source, tree, names)
    if not isinstance(value, np.ndarray):
        raise source.refuse_node(tree, f"at least one of {', '.join(names)}")
    return value


def _value(source: SourceText, node: Node, names: list[str]) -> Floats | float:
    """Coefficients of `node`, or the number that it is."""
    if node.kind == "number":
        return float(node.value)
    if node.kind == "name" and node.value in names:
        return np.eye(len(names))[names.index(node.value)]
    parts = [_value(source, part, names) for part in node.parts if node.kind != "call"]
    if node.kind == "unary":
        return -parts[0] if node.value == "-" else parts[0]
    found = _combine(node.value, *parts) if node.kind == "binary" else None
    if found is None:
        allowed = f"sums and multiples of {', '.join(names)}"
        raise source.refuse_node(node, allowed, nearest(node.value, names))
    return found


def _combine(sign: str, left: Floats | float, right: Floats | float) -> Floats | float | None:
    """Result of an operation; None where it is not linear."""
    vectors = isinstance(left, np.ndarray) + isinstance(right, np.ndarray)
    if sign in "+-" and vectors != 1:
        return left + right if sign == "+" else left - right
    if sign == "*" and vectors < 2:
        return left * right
    if sign == "/" and not isinstance(right, np.ndarray) and right:
        return left / right
    return None
