"""Write and read the tables of a run.

Every file is written under a temporary name and renamed. A block's ``replicates`` file is written
last and commits it: readers see the files of committed blocks only (`sublim_causal.store.blocks`).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from sublim_causal.errors import RunError
from sublim_causal.location import arrow_files, locate, remove, write_atomically
from sublim_causal.store.blocks import (
    BLOCK,
    COMMIT_TABLE,
    DIGESTS,
    WEIGHTS,
    committed,
    digest_of,
    file_of,
    files_of,
    overlapping,
    remove_tables,
)
from sublim_causal.store.own_columns import Columns, own_columns
from sublim_causal.store.schema import arrow_schema, projection, readable_schema

NONE: Columns = MappingProxyType({})


FEW = 4
"""Up to this number, files are looked up individually; above, all are listed."""


FILES = 1024
"""Files opened together; a data set keeps 0.1 MB for each that was read."""


ROW_GROUP = 2**15
"""Rows that are read or skipped together: 134 seeds of 245 steps."""


CHECKED = ds.ParquetFileFormat(
    default_fragment_scan_options=ds.ParquetFragmentScanOptions(page_checksum_verification=True)
)
"""How tables are opened: a page whose checksum is wrong is not read."""


def _encode(
    table: str, frame: pd.DataFrame, own: Columns, metadata: Mapping[bytes, str] | None = None
) -> bytes:
    schema = arrow_schema(table, own=own.get(table, ()))
    schema = schema.with_metadata({**(schema.metadata or {}), **(metadata or {})})
    content = pa.Table.from_pandas(frame.loc[:, schema.names], schema=schema, preserve_index=False)
    buffer = pa.BufferOutputStream()
    pq.write_table(
        content, buffer, compression="zstd", write_page_checksum=True, row_group_size=ROW_GROUP
    )
    return buffer.getvalue().to_pybytes()


def write_block(
    run: Path,
    block: str,
    arm: str,
    tables: Mapping[str, pd.DataFrame],
    *,
    weights: bytes | None = None,
    inherited: Mapping[str, str] | None = None,
    own: Columns = NONE,
) -> None:
    """Write one arm of one block; the ``replicates`` table goes last and commits it.

    A failure leaves nothing of this arm and block behind, also not an earlier version of it.

    Parameters
    ----------
    run : Path
        Run directory.
    block : str
        Name of the block, ``"<first seed>-<last seed>"``; files of other names are not seen.
    arm : str
        Name of the arm.
    tables : mapping of str to DataFrame
        Frames with the columns of `schema.TABLES` (``arm`` may be left out);
        ``replicates`` must be among them.
    weights : bytes, optional
        Trained parameters of the replicates, a safetensors file.
    inherited : mapping of str to str, optional
        Files of other blocks that this one takes over, by name in `DIGESTS`, with their hashes.
    own : mapping of str to sequence of Column
        Columns that the frames have beside those of their tables, by table.

    Raises
    ------
    KeyError
        If a table or column is missing or unknown; nothing is touched.
    StorageError
        If a file cannot be written.
    """
    content = {name: _encode(name, tables[name], own) for name in tables if name != COMMIT_TABLE}
    if weights is not None:
        content[WEIGHTS] = weights
    digests = {name: digest_of(data) for name, data in content.items()} | dict(inherited or {})
    about = {BLOCK: f"{arm}/{block}", **({DIGESTS: json.dumps(digests)} if digests else {})}
    commit = _encode(COMMIT_TABLE, tables[COMMIT_TABLE], own, about)
    _discard(run, arm, block)
    try:
        for name, data in content.items():
            write_atomically(file_of(run, name, arm, block), data)
        write_atomically(file_of(run, COMMIT_TABLE, arm, block), commit)
    except BaseException:
        _discard(run, arm, block)
        raise


def _discard(run: Path, arm: str, block: str) -> None:
    remove_tables(run, arm, block)
    remove(file_of(run, WEIGHTS, arm, block))


def _selected(
    run: Path, arms: Collection[str] | None, blocks: Collection[str] | None
) -> list[tuple[str, str]]:
    if arms is not None and blocks is not None:  # listing thousands of files for one is slow
        pairs = [(arm, block) for arm in sorted(arms) for block in sorted(blocks)]
        return [pair for pair in pairs if file_of(run, COMMIT_TABLE, *pair).exists()]
    return [
        (arm, block)
        for arm, block in committed(run)
        if (arms is None or arm in arms) and (blocks is None or block in blocks)
    ]


def _holding(run: Path, table: str, pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return those of the committed `pairs` that have `table`: not every study records texts."""
    if table == COMMIT_TABLE:
        return pairs
    if len(pairs) <= FEW:
        return [pair for pair in pairs if file_of(run, table, *pair).exists()]
    held = set(files_of(run, table).values())
    return [pair for pair in pairs if pair in held]


def dataset(
    run: Path,
    table: str,
    *,
    arms: Collection[str] | None = None,
    blocks: Collection[str] | None = None,
) -> ds.Dataset:
    """Return the Arrow dataset of `table`: the committed files, with the column ``arm``.

    `schema.projection` reads renamed columns of files of any version.

    `arms` and `blocks` restrict it to the files of these arms and blocks.

    Raises
    ------
    RunError
        If `run` holds no committed block of this table.
    """
    return _dataset(run, table, _wanted(run, table, arms, blocks))


def _wanted(
    run: Path, table: str, arms: Collection[str] | None, blocks: Collection[str] | None
) -> list[tuple[str, str]]:
    pairs = _holding(run, table, _selected(run, arms, blocks))
    _validate_disjoint(run, pairs)
    if not pairs:
        raise RunError(f"{run}: no finished block has a table {table!r} yet; run the study first")
    return pairs


def _validate_disjoint(run: Path, pairs: Iterable[tuple[str, str]]) -> None:
    if found := next(overlapping(pairs), None):
        arm, block = found
        raise RunError(
            f"{file_of(run, COMMIT_TABLE, arm, block)}: holds seeds of {arm} that another block "
            f"holds too\nremedy: 'sublim-causal status {run}' names the file that is wrong"
        )


def _dataset(run: Path, table: str, pairs: Sequence[tuple[str, str]]) -> ds.Dataset:
    files, names = arrow_files([file_of(run, table, *pair) for pair in pairs])
    return ds.FileSystemDataset.from_paths(
        names,
        schema=readable_schema(table, own_columns(run).get(table, ())),
        format=CHECKED,
        filesystem=files,
        partitions=[ds.field("arm") == arm for arm, _ in pairs],
    )


def read_table(
    run: str | Path,
    table: str,
    *,
    columns: Sequence[str] | None = None,
    arms: Collection[str] | None = None,
    blocks: Collection[str] | None = None,
) -> pd.DataFrame:
    """Read `table` into a frame in the order of arms and blocks.

    Parameters
    ----------
    run : str or Path
        Run directory, or its address.
    table : str
        Name of it, of `schema.TABLES`.
    columns, arms, blocks : collection of str, optional
        What is read of it; default: everything.

    Raises
    ------
    RunError
        If there is nothing to read, or a file is damaged.
    """
    run = locate(run)
    pairs = _wanted(run, table, arms, blocks)
    wanted = projection(table, columns, own_columns(run).get(table, ()))
    parts = [pairs[start : start + FILES] for start in range(0, len(pairs), FILES)]
    with reading(run, table):
        read = [_dataset(run, table, part).to_table(columns=wanted) for part in parts]
        return pa.concat_tables(read).to_pandas()


@contextmanager
def reading(run: Path, table: str) -> Iterator[None]:
    """Turn an error of Arrow into one that names the damaged table and the remedy.

    Raises
    ------
    RunError
    """
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise RunError(
            f"{run}: a file of the table {table!r} is damaged ({error})\n"
            f"remedy: 'sublim-causal status {run}' names it; running the study again repairs it"
        ) from error
