"""Write and read the tables of a run.

A table is a directory of Parquet files, ``<table>/arm=<arm>/<block>.parquet``. Every file is
written under a temporary name and renamed. A block's ``replicates`` file is written last and
commits it: readers see the files of committed blocks only. A block is named by its first and last
seed. A commit whose rows are all seeds of its name hides the blocks of its arm within that span:
they have been compacted into it. ``weights/arm=<arm>/<block>.safetensors`` stays as it was written,
also when its block is compacted. Files that are named otherwise are ignored.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from types import MappingProxyType
from urllib.parse import quote, unquote

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from sublim_causal.errors import RunError
from sublim_causal.location import (
    arrow_files,
    locate,
    matching,
    read_files,
    remove,
    write_atomically,
)
from sublim_causal.store.own_columns import Columns, own_columns
from sublim_causal.store.schema import (
    TABLES,
    arrow_schema,
    is_of_table,
    projection,
    readable_schema,
)

COMMIT_TABLE = "replicates"
DIGESTS = b"sublim_causal.digests"
"""Metadata key of a commit: the block's other files by name, each with its hash and its size in
bytes, ``"<hash>:<size>"`` (version 1: the hash alone).

The name is that of the table, or of table and block if the file was written for another block,
which has been compacted into this one: ``"steps"``, ``"weights/0000003-0000003"``.
"""
BLOCK = b"sublim_causal.block"
"""Metadata key of a commit: ``"<arm>/<block>"`` (since 0.2)."""
WEIGHTS = "weights"
NO_SPAN = (-1, -1)
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


def file_of(run: Path, table: str, arm: str, block: str) -> Path:
    """Return where a table, or `WEIGHTS`, of one arm of a block lies."""
    return run / table / folder_of(arm) / f"{block}.{_suffix(table)}"


def folder_of(arm: str) -> str:
    """Return the name of the directory of `arm` in a table."""
    return f"arm={quote(arm, safe='', errors='replace')}"


def _suffix(table: str) -> str:
    return "safetensors" if table == WEIGHTS else "parquet"


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


def digest_of(data: bytes) -> str:
    """Return hash and size of a file's content as `DIGESTS` holds them."""
    return f"{hashlib.blake2b(data, digest_size=16).hexdigest()}:{len(data)}"


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


def committed(run: Path) -> Iterator[tuple[str, str]]:
    """Yield ``(arm, block)`` of every committed block, sorted; not those compacted into another."""
    for arm, pairs in groupby(sorted(_blocks(run, COMMIT_TABLE)), key=itemgetter(0)):
        for block in _visible(run, arm, [block for _, block in pairs]):
            yield arm, block


def commits_of(run: Path) -> set[tuple[str, str]]:
    """Return ``(arm, block)`` of every commit, also of blocks compacted into another."""
    return _blocks(run, COMMIT_TABLE)


def _blocks(run: Path, table: str) -> set[tuple[str, str]]:
    """Return all blocks that have a file of `table`."""
    return set(files_of(run, table).values())


def files_of(run: Path, table: str) -> dict[Path, tuple[str, str]]:
    """Return what has the name of a file of a table, or of `WEIGHTS`, each with arm and block."""
    found = matching(run / table, f"arm=*/*.{_suffix(table)}")
    return {path: block_of(path) for path in found if is_ours(path) and span(path.stem) != NO_SPAN}


def is_ours(path: Path) -> bool:
    """Return whether `path` lies in a directory that is named as an arm's is, so not in a copy."""
    return path.parent.name == folder_of(block_of(path)[0])


def span(block: str) -> tuple[int, int]:
    """Return first and last seed of a block by its name; `NO_SPAN` if it is not a block's."""
    seeds = re.fullmatch(r"([0-9]{7,9})-([0-9]{7,9})", block)
    first, last = (int(seeds[1]), int(seeds[2])) if seeds else NO_SPAN
    return (
        (first, last) if seeds and first <= last and block == block_name(first, last) else NO_SPAN
    )


def block_name(first: int, last: int) -> str:
    """Return the name of the block of the seeds `first` to `last`."""
    return f"{first:07d}-{last:07d}"


def _visible(run: Path, arm: str, blocks: Iterable[str]) -> Iterator[str]:
    """Yield the blocks of `arm` that no other hides."""
    above: list[str] = []
    for block in sorted(blocks, key=lambda block: (span(block)[0], -span(block)[1])):
        above = [other for other in above if span(other)[1] >= span(block)[0]]
        if not any(within(block, other) and _holds_its_seeds(run, arm, other) for other in above):
            above.append(block)
            yield block


def _holds_its_seeds(run: Path, arm: str, block: str) -> bool:
    """Return whether the commit of a block can be read and matches its name."""
    (commit,) = read_files([file_of(run, COMMIT_TABLE, arm, block)])
    try:
        validate_identity(rows_of_commit(commit), arm, block)
    except (pa.ArrowException, OSError, ValueError):
        return False
    return True


def rows_of_commit(commit: bytes | Exception) -> pa.Table:
    """Return the rows of a commit, given its content or why it could not be read.

    Raises
    ------
    ArrowException, OSError or ValueError
        If it is damaged.
    """
    if isinstance(commit, Exception):
        raise commit
    file = pq.ParquetFile(
        pa.BufferReader(commit), page_checksum_verification=True, pre_buffer=False
    )
    rows = file.read(use_threads=False)  # threads cost more than they save on a file of one row
    if not is_of_table(rows.schema, COMMIT_TABLE):
        raise ValueError(f"it does not have the columns of the table {COMMIT_TABLE!r}")
    return rows


def validate_identity(rows: pa.Table, arm: str, block: str) -> None:
    """Check that the rows of a commit are those of `arm` and of the seeds that `block` names.

    Raises
    ------
    ValueError
        If not.
    """
    written = (rows.schema.metadata or {}).get(BLOCK, f"{arm}/{block}".encode()).decode()
    if written != f"{arm}/{block}":
        raise ValueError(f"it was written as arm and block {written}")
    first, last = span(block)
    if len(rows) != last - first + 1 or sorted(rows["seed"].to_pylist()) != [
        *range(first, last + 1)
    ]:
        raise ValueError(f"it does not hold the seeds {first} to {last} of its name")


def block_of(path: Path) -> tuple[str, str]:
    """Return arm and block of a table's file."""
    return unquote(path.parent.name.removeprefix("arm=")), path.stem


def within(block: str, other: str) -> bool:
    """Return whether the seeds of `block` are among those of `other`."""
    (first, last), (start, end) = span(block), span(other)
    return start <= first and last <= end


def remove_tables(run: Path, arm: str, block: str) -> None:
    """Delete the tables of one arm of one block, its commit first."""
    for table in sorted(TABLES, key=lambda name: name != COMMIT_TABLE):
        remove(file_of(run, table, arm, block))


def weights_of(run: Path, arm: str, seed: int) -> Path | None:
    """Return the file with the weights of a replicate, if a committed block has them."""
    own = block_name(seed, seed)
    files = file_of(run, WEIGHTS, arm, own).parent.glob("*.safetensors")
    path = next((path for path in files if within(own, path.stem)), None)
    pairs = committed(run) if path is not None else ()
    held = any(a == arm and within(own, block) for a, block in pairs)
    return path if held else None


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
    """Return those of the committed `pairs` that have `table`: not every study records layers."""
    if table == COMMIT_TABLE:
        return pairs
    if len(pairs) <= FEW:
        return [pair for pair in pairs if file_of(run, table, *pair).exists()]
    held = _blocks(run, table)
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


def overlapping(pairs: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Yield those of the sorted `pairs` of arm and block that share seeds with an earlier one."""
    reached: dict[str, int] = {}
    for arm, block in sorted(pairs, key=lambda pair: (pair[0], span(pair[1]))):
        first, last = span(block)
        if first <= reached.get(arm, -1):
            yield arm, block
        else:
            reached[arm] = last


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
        ``steps``, ``evaluations``, ``replicates`` or ``layers``.
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
