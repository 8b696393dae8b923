"""Tables in chunks: frames, Arrow tables and Parquet datasets as label codes and numbers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
from numpy.typing import NDArray

from sublim_causal.analysis.estimates.columns import ColumnKind, column_kind, is_digits
from sublim_causal.analysis.estimates.types import Floats
from sublim_causal.errors import RequestError

Integers = NDArray[np.int64]
Opened: TypeAlias = pd.DataFrame | pa.Table | ds.Dataset
Data: TypeAlias = Opened | str | Path

CHUNK_ROWS = 2**18
"""Rows held at once when a dataset is streamed."""
_LOOK_ROWS = 1024
"""Rows of a dataset by which numbers written as text are recognised."""


def open_data(data: Data) -> Opened:
    """Open a path as a Parquet dataset; return anything else as it is.

    Raises
    ------
    RequestError
        If `data` is of no known kind.
    """
    if isinstance(data, str | Path):
        return ds.dataset(str(data), format="parquet", partitioning="hive")
    if not isinstance(data, pd.DataFrame | pa.Table | ds.Dataset):
        raise RequestError(
            "data", type(data).__name__, "a DataFrame, an Arrow table or dataset, or a Parquet path"
        )
    return data


def column_kinds(data: Opened) -> dict[str, ColumnKind]:
    """Return the kind of each column; numbers may be objects, Decimals, nullable or Arrow's.

    Raises
    ------
    RequestError
        If two columns have one name.
    """
    if isinstance(data, pd.DataFrame):
        if not data.columns.is_unique:
            twice = data.columns[data.columns.duplicated()][0]
            raise RequestError("data", twice, "columns of different names", "rename one of them")
        return {name: column_kind(data[name]) for name in data.columns if isinstance(name, str)}
    texts = [f.name for f in data.schema if _is_text(f.type)]
    first = data.select(texts) if isinstance(data, pa.Table) else data.head(_LOOK_ROWS, texts)
    digits = {name for name in texts if is_digits(first[name].to_pandas().dropna())}
    return {
        field.name: "digits" if field.name in digits else _kind_of_type(field.type)
        for field in data.schema
    }


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _kind_of_type(kind: pa.DataType) -> ColumnKind:
    types = pa.types
    if types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
        return "number"
    if types.is_temporal(kind):
        return "date"
    if types.is_nested(kind) or types.is_binary(kind) or types.is_large_binary(kind):
        return "other"
    return "label"


def sorted_levels(levels: Iterable[object]) -> list[Any]:
    """Sort labels; those of several types by their type first."""
    found: list[Any] = list(levels)
    try:
        return sorted(found)
    except TypeError:
        return sorted(found, key=lambda level: (type(level).__name__, str(level)))


@dataclass(frozen=True)
class _Codes:
    """Labels of some rows: -1 where there is none, and whether the levels' order is their own."""

    codes: Integers
    levels: Sequence[object]
    ordered: bool = False


@dataclass(frozen=True)
class Chunk:
    """Some rows: label codes with their levels, and numbers."""

    codes: dict[str, _Codes]
    values: dict[str, Floats]


def chunks(data: Opened, labels: Sequence[str], numbers: Sequence[str]) -> Iterator[Chunk]:
    if isinstance(data, pd.DataFrame):
        yield Chunk(
            {name: _encode(data[name]) for name in labels},
            {name: data[name].to_numpy(dtype=float, na_value=np.nan) for name in numbers},
        )
        return
    columns = list(dict.fromkeys([*labels, *numbers]))
    for table in _tables(data, columns):
        yield Chunk(
            {name: _encode_arrow(table.column(name)) for name in labels},
            {name: table.column(name).to_numpy().astype(float, copy=False) for name in numbers},
        )


def _tables(data: pa.Table | ds.Dataset, columns: list[str]) -> Iterator[pa.Table]:
    """Tables of about `CHUNK_ROWS` rows: one file a run would make tiny ones."""
    if isinstance(data, pa.Table):
        batches = iter(data.select(columns).to_batches(max_chunksize=CHUNK_ROWS))
    else:
        # One thread: with one small file a run, handing batches over costs more than decoding them.
        batches = data.to_batches(columns=columns, batch_size=CHUNK_ROWS, use_threads=False)
    held, rows = [], 0
    for batch in batches:
        held.append(batch)
        rows += batch.num_rows
        if rows >= CHUNK_ROWS // 2:
            yield pa.Table.from_batches(held)
            held, rows = [], 0
    if held:
        yield pa.Table.from_batches(held)


def _encode(column: pd.Series) -> _Codes:
    if isinstance(column.dtype, pd.CategoricalDtype):
        codes = column.cat.codes.to_numpy().astype(np.int64)
        return _Codes(codes, list(column.cat.categories), ordered=True)
    if pd.api.types.infer_dtype(column, skipna=True) == "string":
        return _encode_arrow(pa.chunked_array([pa.array(column)]))
    codes, levels = pd.factorize(column)
    return _Codes(codes.astype(np.int64, copy=False), list(levels))


def _encode_arrow(column: pa.ChunkedArray) -> _Codes:
    ordered = pa.types.is_dictionary(column.type) and column.type.ordered
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    array = column.unify_dictionaries().combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = array.chunk(0)
    codes = array.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    return _Codes(codes, array.dictionary.to_pylist(), ordered)
