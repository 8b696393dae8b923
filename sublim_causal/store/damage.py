"""Find the files of a run that are not what was written."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from sublim_causal.location import is_remote, read_files, size_of, sizes
from sublim_causal.store.schema import TABLES, arrow_schema, version_of
from sublim_causal.store.tables import (
    COMMIT_TABLE,
    DIGESTS,
    WEIGHTS,
    committed,
    digest_of,
    file_of,
)

FILE = re.compile(rf"({'|'.join([*TABLES, WEIGHTS])})(/[0-9]+-[0-9]+)?")
"""A name in `DIGESTS`."""
DIGEST = re.compile(r"[0-9a-f]{32}(:[0-9]+)?")
"""What `DIGESTS` holds under a name."""


@dataclass(frozen=True)
class Checked:
    """One arm of a committed block, all its files looked at.

    Attributes
    ----------
    statuses : set of str
        Of its replicates.
    digests : dict of str to str
        Hashes and sizes of its other files, by name, as `DIGESTS` says.
    problems : dict of Path to str
        What is wrong with the files that are not whole.
    """

    statuses: set[str]
    digests: dict[str, str]
    problems: dict[Path, str]


def check_blocks(run: Path, pairs: Sequence[tuple[str, str]]) -> Iterator[Checked]:
    """Look at every file of committed blocks, given by arm and name, and find those not whole.

    A commit is read with its page checksums, the other files are compared with the hashes that
    their commit holds, so that a flipped bit is found as surely as a truncated file. An object
    store writes whole objects and guards them against bit errors itself; so there the other files
    are not fetched, but must be there with the size that was written.
    """
    commits = read_files([file_of(run, COMMIT_TABLE, *pair) for pair in pairs])
    size = sizes(run).get if is_remote(run) else size_of
    for (arm, block), commit in zip(pairs, commits, strict=True):
        yield _checked(run, arm, block, commit, size)


def _checked(
    run: Path,
    arm: str,
    block: str,
    commit: bytes | Exception,
    size: Callable[[Path], int | None],
) -> Checked:
    try:
        rows = _rows_of_commit(commit)
        digests = _digests_of(rows.schema)
    except (pa.ArrowException, OSError, ValueError) as error:
        path = file_of(run, COMMIT_TABLE, arm, block)
        return Checked(set(), {}, {path: (str(error) or repr(error)).splitlines()[0]})
    problems = {}
    for name, digest in digests.items():
        table, _, of = name.partition("/")
        path = file_of(run, table, arm, of or block)
        there = size(path)
        if there is None:
            problems[path] = "it is missing"
        elif not is_remote(path) and path.is_dir():
            problems[path] = "it is a directory"
        elif not _as_written(path, there, *digest.split(":")):
            problems[path] = "its content is not what was written"
    return Checked(set(rows["status"].to_pylist()), digests, problems)


def _rows_of_commit(commit: bytes | Exception) -> pa.Table:
    if isinstance(commit, Exception):
        raise commit
    file = pq.ParquetFile(
        pa.BufferReader(commit), page_checksum_verification=True, pre_buffer=False
    )
    rows = file.read(use_threads=False)  # threads cost more than they save on a file of one row
    if not rows.schema.equals(arrow_schema(COMMIT_TABLE, version=version_of(rows.schema))):
        raise ValueError(f"it does not have the columns of the table {COMMIT_TABLE!r}")
    return rows


def _digests_of(schema: pa.Schema) -> dict[str, str]:
    """Return what a commit holds under `DIGESTS`.

    Raises
    ------
    ValueError
        If it is not as it was written.
    """
    digests = json.loads((schema.metadata or {}).get(DIGESTS, b"{}"))
    if not isinstance(digests, dict) or not all(map(_is_digest, digests, digests.values())):
        raise ValueError("the hashes of the block's other files are not what was written")
    return digests


def _is_digest(name: str, digest: object) -> bool:
    return bool(FILE.fullmatch(name) and isinstance(digest, str) and DIGEST.fullmatch(digest))


def _as_written(path: Path, there: int, digest: str, size: str = "") -> bool:
    if size and there != int(size):
        return False
    return is_remote(path) or digest_of(path.read_bytes()).startswith(digest)


def damaged(run: Path) -> dict[tuple[str, str], dict[Path, str]]:
    """Check every committed block; return the problems of those that are not whole."""
    pairs = list(committed(run))
    checked = zip(pairs, check_blocks(run, pairs), strict=True)
    return {pair: found.problems for pair, found in checked if found.problems}
