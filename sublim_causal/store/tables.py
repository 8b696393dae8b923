"""Write and read the tables of a run.

A table is a directory of Parquet files, ``<table>/arm=<arm>/<block>.parquet``. Every file is
written under a temporary name and renamed. A block's ``replicates`` file is written last and
commits it: readers see the files of committed blocks only.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote, unquote

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs
import pyarrow.parquet as pq

from sublim_causal.errors import RunError
from sublim_causal.store.schema import TABLES, arrow_schema

COMMIT_TABLE = "replicates"
DIGESTS = b"sublim_causal.digests"
"""Key in the metadata of a commit under which the block's other files stand with their hashes."""


def _file(run: Path, table: str, arm: str, block: str) -> Path:
    return run / table / f"arm={quote(arm, safe='')}" / f"{block}.parquet"


def write_atomically(path: Path, data: bytes) -> None:
    """Write `data` to `path` so that a reader sees the old file or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_directory(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _sync_directory(directory: Path) -> None:
    """Make renames in `directory` durable, so that no commit outlives what it commits."""
    if os.name == "posix":
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _encode(table: str, frame: pd.DataFrame, digests: Mapping[str, str] | None = None) -> bytes:
    schema = arrow_schema(table)
    if digests:
        schema = schema.with_metadata({**(schema.metadata or {}), DIGESTS: json.dumps(digests)})
    content = pa.Table.from_pandas(frame.loc[:, schema.names], schema=schema, preserve_index=False)
    buffer = pa.BufferOutputStream()
    pq.write_table(content, buffer, compression="zstd", write_page_checksum=True)
    return buffer.getvalue().to_pybytes()


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def write_block(run: Path, block: str, arm: str, tables: Mapping[str, pd.DataFrame]) -> None:
    """Write one arm of one block; the ``replicates`` table goes last and commits it.

    A failure leaves nothing of this arm and block behind, also not an earlier version of it.

    Parameters
    ----------
    run : Path
        Run directory.
    block : str
        Name of the block, a file name without suffix.
    arm : str
        Name of the arm.
    tables : mapping of str to DataFrame
        Frames with the columns of `schema.TABLES` (``arm`` may be left out);
        ``replicates`` must be among them.

    Raises
    ------
    KeyError
        If a table or column is missing or unknown; nothing is touched.
    OSError
        If a file cannot be written.
    """
    content = {name: _encode(name, tables[name]) for name in tables if name != COMMIT_TABLE}
    digests = {name: _digest(data) for name, data in content.items()}
    commit = _encode(COMMIT_TABLE, tables[COMMIT_TABLE], digests)
    remove_block(run, arm, block)
    try:
        for name, data in content.items():
            write_atomically(_file(run, name, arm, block), data)
        write_atomically(_file(run, COMMIT_TABLE, arm, block), commit)
    except BaseException:
        remove_block(run, arm, block)
        raise


def committed(run: Path) -> Iterator[tuple[str, str]]:
    """Yield ``(arm, block)`` of every committed block, sorted."""
    for path in sorted((run / COMMIT_TABLE).glob("arm=*/*.parquet")):
        yield block_of(path)


def damaged(run: Path) -> dict[Path, str]:
    """Read every file of the committed blocks; return what is wrong with those that are not whole.

    A commit is read with its page checksums, the other files are compared with the hashes that
    their commit holds, so that a flipped bit is found as surely as a truncated file.
    """
    found = {}
    for arm, block in committed(run):
        commit = _file(run, COMMIT_TABLE, arm, block)
        try:
            rows = pq.ParquetFile(commit, page_checksum_verification=True).read()
            digests = json.loads((rows.schema.metadata or {}).get(DIGESTS, b"{}"))
        except (pa.ArrowException, OSError, ValueError) as error:
            found[commit] = str(error).splitlines()[0]
            continue
        if not rows.schema.equals(arrow_schema(COMMIT_TABLE)):
            found[commit] = f"it does not have the columns of the table {COMMIT_TABLE!r}"
        for table, digest in digests.items():
            path = _file(run, table, arm, block)
            if not path.exists():
                found[path] = "it is missing"
            elif _digest(path.read_bytes()) != digest:
                found[path] = "its content is not what was written"
    return found


def block_of(path: Path) -> tuple[str, str]:
    """Return arm and block of a table's file."""
    return unquote(path.parent.name.removeprefix("arm=")), path.stem


def remove_uncommitted(run: Path) -> int:
    """Delete files that a killed run left behind without committing; return how many."""
    keep = set(committed(run))
    orphans = list(run.glob(".*.tmp"))
    for table in TABLES:
        files = [*(run / table).glob("arm=*/*.parquet"), *(run / table).glob("arm=*/.*.tmp")]
        orphans += [path for path in files if path.suffix == ".tmp" or block_of(path) not in keep]
    for path in orphans:
        path.unlink(missing_ok=True)
    return len(orphans)


def remove_block(run: Path, arm: str, block: str) -> None:
    """Delete one arm of one block, its commit first, so that a rerun redoes it."""
    for table in sorted(TABLES, key=lambda name: name != COMMIT_TABLE):
        _file(run, table, arm, block).unlink(missing_ok=True)


def _selected(
    run: Path, arms: Collection[str] | None, blocks: Collection[str] | None
) -> list[tuple[str, str]]:
    if arms is not None and blocks is not None:  # listing thousands of files for one is slow
        pairs = [(arm, block) for arm in sorted(arms) for block in sorted(blocks)]
        return [pair for pair in pairs if _file(run, COMMIT_TABLE, *pair).exists()]
    return [
        (arm, block)
        for arm, block in committed(run)
        if (arms is None or arm in arms) and (blocks is None or block in blocks)
    ]


def dataset(
    run: Path,
    table: str,
    *,
    arms: Collection[str] | None = None,
    blocks: Collection[str] | None = None,
) -> ds.Dataset:
    """Return the Arrow dataset of `table`: the committed files, with the column ``arm``.

    `arms` and `blocks` restrict it to the files of these arms and blocks.

    Raises
    ------
    RunError
        If `run` holds no committed block of this table.
    """
    schema = arrow_schema(table, partitioned=False)
    children = []
    for arm, block in _selected(run, arms, blocks):
        path = _file(run, table, arm, block)
        if path.exists():
            children.append((str(path), arm))
    if not children:
        raise RunError(f"{run}: no finished block has a table {table!r} yet; run the study first")
    return ds.FileSystemDataset.from_paths(
        [path for path, _ in children],
        schema=schema,
        format=ds.ParquetFileFormat(),
        filesystem=pa.fs.LocalFileSystem(),
        partitions=[ds.field("arm") == arm for _, arm in children],
    )


def read_table(
    run: Path,
    table: str,
    *,
    columns: Sequence[str] | None = None,
    arms: Collection[str] | None = None,
    blocks: Collection[str] | None = None,
) -> pd.DataFrame:
    """Read `table` into a frame in the order of arms and blocks.

    Only the named `columns` are read, and only the files of the named `arms` and `blocks`.

    Raises
    ------
    RunError
        If there is nothing to read, or a file is damaged.
    """
    files = dataset(run, table, arms=arms, blocks=blocks)
    try:
        return files.to_table(columns=columns).to_pandas()
    except (pa.ArrowException, OSError) as error:
        raise RunError(
            f"{run}: a file of the table {table!r} is damaged ({error})\n"
            f"remedy: 'sublim-causal status {run}' names it; running the study again repairs it"
        ) from error
