"""Linear expressions in coefficient names: ``"arm[T.liminal] - 0.5 * arm[T.shuffled]"``."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sublim_causal.errors import RequestError, nearest

Floats = NDArray[np.float64]


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
    """Coefficients of `text`: names become placeholders, then the syntax tree is summed up."""
    longest_first = sorted(names, key=len, reverse=True)
    pattern = "|".join(rf"(?<![\w.:\]]){re.escape(n)}(?![\w.:\[])" for n in longest_first)
    coded = re.sub(pattern, lambda found: f"_{names.index(found.group())}_", text)
    try:
        value = _walk(ast.parse(coded.strip(), mode="eval").body, len(names))
    except (SyntaxError, ValueError) as error:
        hint = nearest(text, names)
        raise RequestError(
            "contrast", text, f"sums and multiples of {', '.join(names)}", hint
        ) from error
    if not isinstance(value, np.ndarray):
        raise RequestError("contrast", text, f"at least one of {', '.join(names)}")
    return value


def _walk(node: ast.expr, size: int) -> Floats | float:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return float(node.value)
    if isinstance(node, ast.Name) and re.fullmatch(r"_\d+_", node.id):
        return np.eye(size)[int(node.id[1:-1])]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        value = _walk(node.operand, size)
        return -value if isinstance(node.op, ast.USub) else value
    if isinstance(node, ast.BinOp):
        return _combine(node.op, _walk(node.left, size), _walk(node.right, size))
    raise ValueError(ast.dump(node))


def _combine(op: ast.operator, left: Floats | float, right: Floats | float) -> Floats | float:
    vectors = isinstance(left, np.ndarray) + isinstance(right, np.ndarray)
    if isinstance(op, ast.Add | ast.Sub) and vectors != 1:
        return left + right if isinstance(op, ast.Add) else left - right
    if isinstance(op, ast.Mult) and vectors < 2:
        return left * right
    if isinstance(op, ast.Div) and not isinstance(right, np.ndarray) and right:
        return left / right
    raise ValueError(type(op).__name__)
