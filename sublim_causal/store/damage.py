"""Find the files of a run that are not what was written."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sublim_causal.errors import RunError
from sublim_causal.location import is_remote, read_files, size_of, sizes
from sublim_causal.store.blocks import (
    COMMIT_TABLE,
    DIGESTS,
    WEIGHTS,
    committed,
    digest_of,
    file_of,
    folder_of,
    overlapping,
    rows_of_commit,
    span,
    validate_identity,
)
from sublim_causal.store.manifest import is_own, read_manifest
from sublim_causal.store.schema import TABLES

if TYPE_CHECKING:
    import pyarrow as pa

FILE = re.compile(rf"({'|'.join([*TABLES, WEIGHTS])})(/[0-9]+-[0-9]+)?")
"""A name in `DIGESTS`."""
SHOWN = 5
"""Damaged files that an error names."""
DIGEST = re.compile(r"[0-9a-f]{32}(:[0-9]+)?")
"""What `DIGESTS` holds under a name."""


@dataclass(frozen=True)
class CheckedBlock:
    """One arm of a committed block, all its files checked.

    Attributes
    ----------
    statuses : set of str
        Of its replicates.
    digests : dict of str to str
        Hashes and sizes of its other files, by name, as in `DIGESTS`.
    problems : dict of Path to str
        What is wrong with its damaged files.
    """

    statuses: set[str]
    digests: dict[str, str]
    problems: dict[Path, str]


def check_blocks(
    run: Path, pairs: Sequence[tuple[str, str]], *, weights: bool = True
) -> Iterator[CheckedBlock]:
    """Check every file of committed blocks, given by arm and name.

    A commit is read with its page checksums, and must hold the seeds and the arm of its name. The
    other files are compared with the hashes that their commit holds, so that a flipped bit is found
    as surely as a truncated file; without `weights`, those only by their size. An object store
    writes whole objects and guards them against bit errors itself; so there the other files are not
    fetched, but must be there with the size that was written.
    """
    commits = read_files([file_of(run, COMMIT_TABLE, *pair) for pair in pairs])
    size = sizes(run).get if is_remote(run) else size_of
    for (arm, block), commit in zip(pairs, commits, strict=True):
        yield _checked(run, arm, block, commit, size, weights)


def _checked(
    run: Path,
    arm: str,
    block: str,
    commit: bytes | Exception,
    size: Callable[[Path], int | None],
    weights: bool,
) -> CheckedBlock:
    import pyarrow as pa

    try:
        rows = rows_of_commit(commit)
        validate_identity(rows, arm, block)
        digests = _digests_of(rows.schema)
    except (pa.ArrowException, OSError, ValueError) as error:
        path = file_of(run, COMMIT_TABLE, arm, block)
        return CheckedBlock(set(), {}, {path: (str(error) or repr(error)).splitlines()[0]})
    problems = {}
    for name, digest in digests.items():
        table, _, of = name.partition("/")
        path = file_of(run, table, arm, of or block)
        there = size(path)
        if there is None:
            problems[path] = "it is missing"
        elif not is_remote(path) and path.is_dir():
            problems[path] = "it is a directory"
        elif not _as_written(path, there, *digest.split(":"), hashed=weights or table != WEIGHTS):
            problems[path] = "its content differs from what was written"
    return CheckedBlock(set(rows["status"].to_pylist()), digests, problems)


def _digests_of(schema: pa.Schema) -> dict[str, str]:
    """Return what a commit holds under `DIGESTS`.

    Raises
    ------
    ValueError
        If it is not as it was written.
    """
    digests = json.loads((schema.metadata or {}).get(DIGESTS, b"{}"))
    if not isinstance(digests, dict) or not all(map(_is_digest, digests, digests.values())):
        raise ValueError("the hashes of the block's other files differ from what was written")
    return digests


def _is_digest(name: str, digest: object) -> bool:
    return bool(FILE.fullmatch(name) and isinstance(digest, str) and DIGEST.fullmatch(digest))


def _as_written(path: Path, there: int, digest: str, size: str = "", *, hashed: bool) -> bool:
    if size and there != int(size):
        return False
    return not hashed or is_remote(path) or digest_of(path.read_bytes()).startswith(digest)


def damaged(run: Path, *, weights: bool = True) -> dict[tuple[str, str], dict[Path, str]]:
    """Check every committed block; return the problems of those that are damaged.

    Of blocks that share seeds, the later one is damaged too. `weights` is as for `check_blocks`.
    """
    pairs = list(committed(run))
    checked = zip(pairs, check_blocks(run, pairs, weights=weights), strict=True)
    found = {pair: one.problems for pair, one in checked if one.problems}
    for arm, block in overlapping(pair for pair in pairs if pair not in found):
        path = file_of(run, COMMIT_TABLE, arm, block)
        found[arm, block] = {path: "another block also holds some of its seeds"}
    return found


def lost_blocks(run: Path, manifest: Mapping[str, Any]) -> dict[Path, str]:
    """Return what a complete run lacks since then, by the folder of an arm.

    A block whose commit was deleted is as if it had never been trained.
    """
    if manifest["finished"] is None or is_own(manifest):
        return {}
    study = manifest["study"]
    there = dict.fromkeys(study["arms"], 0)
    for arm, block in committed(run):
        first, last = span(block)
        there[arm] = there.get(arm, 0) + last - first + 1
    return {
        run / COMMIT_TABLE / folder_of(arm): f"it lacks {study['seeds'] - there[arm]} of "
        f"{study['seeds']} seeds, although it was complete"
        for arm in study["arms"]
        if there[arm] < study["seeds"]
    }


def validate_undamaged(run: Path) -> None:
    """Check that the tables of `run` are what was written, before numbers are made of them.

    Raises
    ------
    RunError
        If a file is missing, has another content, or is not of the arm and seeds of its name.
    """
    found = [lost_blocks(run, read_manifest(run)), *damaged(run, weights=False).values()]
    problems = [f"{path} ({problem})" for one in found for path, problem in one.items()]
    if problems:
        more = [f"and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
        raise RunError(
            "\n  ".join([f"{run}: damaged files:", *problems[:SHOWN], *more])
            + "\nremedy: running the study again repairs it"
        )
