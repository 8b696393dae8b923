"""The files of a run's blocks: their names, and which blocks are committed.

A table is a directory of Parquet files, ``<table>/arm=<arm>/<block>.parquet``. A block is named by
its first and last seed, and a file in ``replicates`` commits it. A commit whose rows are all seeds
of its name hides the blocks of its arm within that span: they have been compacted into it.
``weights/arm=<arm>/<block>.safetensors`` stays as it was written, also when its block is compacted.
Files that are named otherwise are ignored.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from sublim_causal.location import matching, read_files, remove
from sublim_causal.store.schema import TABLES, is_of_table

if TYPE_CHECKING:
    import pyarrow as pa

COMMIT_TABLE = "replicates"


BLOCK = b"sublim_causal.block"
"""Metadata key of a commit: ``"<arm>/<block>"`` (since 0.2)."""


DIGESTS = b"sublim_causal.digests"
"""Metadata key of a commit: the block's other files by name, each with its hash and its size in
bytes, ``"<hash>:<size>"`` (version 1: the hash alone).

The name is that of the table, or of table and block if the file was written for another block,
which has been compacted into this one: ``"steps"``, ``"weights/0000003-0000003"``.
"""


WEIGHTS = "weights"


NO_SPAN = (-1, -1)


def file_of(run: Path, table: str, arm: str, block: str) -> Path:
    """Return where a table, or `WEIGHTS`, of one arm of a block lies."""
    return run / table / folder_of(arm) / f"{block}.{_suffix(table)}"


def folder_of(arm: str) -> str:
    """Return the name of the directory of `arm` in a table."""
    return f"arm={quote(arm, safe='', errors='replace')}"


def _suffix(table: str) -> str:
    return "safetensors" if table == WEIGHTS else "parquet"


def committed(run: Path) -> Iterator[tuple[str, str]]:
    """Yield ``(arm, block)`` of every committed block, sorted; not those compacted into another."""
    for arm, pairs in groupby(sorted(commits_of(run)), key=itemgetter(0)):
        for block in _visible(run, arm, [block for _, block in pairs]):
            yield arm, block


def commits_of(run: Path) -> set[tuple[str, str]]:
    """Return ``(arm, block)`` of every commit, also of blocks compacted into another."""
    return set(files_of(run, COMMIT_TABLE).values())


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


def digest_of(data: bytes) -> str:
    """Return hash and size of a file's content as `DIGESTS` holds them."""
    return f"{hashlib.blake2b(data, digest_size=16).hexdigest()}:{len(data)}"


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
    import pyarrow as pa

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
    import pyarrow as pa
    import pyarrow.parquet as pq

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


def overlapping(pairs: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Yield those of the sorted `pairs` of arm and block that share seeds with an earlier one."""
    reached: dict[str, int] = {}
    for arm, block in sorted(pairs, key=lambda pair: (pair[0], span(pair[1]))):
        first, last = span(block)
        if first <= reached.get(arm, -1):
            yield arm, block
        else:
            reached[arm] = last
