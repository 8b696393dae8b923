"""What the columns of a frame hold, and their values as numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import pandas as pd

from sublim_causal.analysis.estimates.types import Floats
from sublim_causal.errors import DataError

ColumnKind = Literal["number", "label", "digits", "date", "other"]
"""What a column holds: numbers; labels or booleans; numbers written as text; dates; other."""

NOT_NUMBERS: Mapping[ColumnKind, str] = {
    "label": "labels",
    "digits": "numbers written as text",
    "date": "dates or times",
    "other": "neither numbers nor labels",
}
REMEDIES: Mapping[ColumnKind, str] = {
    "label": "make a column of numbers of it",
    "digits": "convert it with pandas.to_numeric",
    "date": "make a number of it, such as the days since the first",
    "other": "make a column of numbers of it",
}
_INFERRED: Mapping[str, ColumnKind] = {
    "integer": "number",
    "floating": "number",
    "decimal": "number",
    "mixed-integer-float": "number",
    "boolean": "label",
    "string": "label",
    "mixed-integer": "label",
    "categorical": "label",
    "empty": "label",
    "datetime64": "date",
    "datetime": "date",
    "date": "date",
    "time": "date",
    "timedelta64": "date",
    "timedelta": "date",
    "period": "date",
}
"""Kinds by what pandas infers of the values."""


def column_kind(column: pd.Series) -> ColumnKind:
    """What `column` holds; numbers may be objects, Decimals, nullable or Arrow's."""
    types = pd.api.types
    if isinstance(column.dtype, pd.CategoricalDtype) or types.is_bool_dtype(column.dtype):
        return "label"
    if types.is_complex_dtype(column.dtype):
        return "other"
    if types.is_numeric_dtype(column.dtype):
        return "number"
    kind = _INFERRED.get(types.infer_dtype(column, skipna=True), "other")
    if kind == "label" and is_digits(column.dropna()):
        return "digits"
    return kind


def is_digits(column: pd.Series) -> bool:
    """Whether text holds nothing but numbers."""
    values = column.astype(object)
    if not len(values) or not isinstance(values.iloc[0], str):
        return False
    return all(
        bool(pd.to_numeric(part, errors="coerce").notna().all()) for part in (values[:1], values)
    )


def numbers(frame: pd.DataFrame, columns: Sequence[str]) -> Floats:
    """Return `columns` as floats, shape ``(n, K)``; NaN where a value is missing.

    Raises
    ------
    DataError
        If a column holds text, dates or something else that is no number; booleans are 0 and 1.
    """
    found = np.empty((len(frame), len(columns)))
    for k, name in enumerate(columns):
        column = frame[name]
        kind = column_kind(column)
        boolean = pd.api.types.infer_dtype(column, skipna=True) == "boolean"
        if kind != "number" and not boolean and not column.isna().all():
            raise DataError(f"column {name!r} holds {NOT_NUMBERS[kind]}; {REMEDIES[kind]}")
        found[:, k] = column.to_numpy(dtype=float, na_value=np.nan)
    return found
