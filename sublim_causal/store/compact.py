"""Merge the many small files of a run into few large ones, so that no moment loses a row.

Neighbouring blocks of an arm are written as one block that is named by all their seeds. Its commit
hides them from readers (`blocks.committed`) in the same instant in which it shows their rows; they
are deleted afterwards. A process that is killed before the commit leaves files that are not
visible yet, one that is killed later leaves files that are no longer visible; both are removed
by the next `compact` or `run`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from operator import itemgetter
from pathlib import Path

from sublim_causal.errors import RequestError, RunError
from sublim_causal.location import is_remote, sizes, write_atomically
from sublim_causal.store.blocks import (
    COMMIT_TABLE,
    WEIGHTS,
    block_name,
    committed,
    files_of,
    remove_tables,
    span,
)
from sublim_causal.store.damage import CheckedBlock, check_blocks
from sublim_causal.store.manifest import STUDY_FILE, read_manifest, write_manifest
from sublim_causal.store.own_columns import own_columns
from sublim_causal.store.removal import remove_uncommitted
from sublim_causal.store.schema import SCHEMA_VERSION, TABLES
from sublim_causal.store.tables import dataset, read_table, write_block

BLOCK_ROWS = 2**17
"""Rows of the largest table of a merged block: 535 seeds of 245 steps, about 20 MB.

Larger files are no faster to read, and a damaged one costs more seeds.
"""


@dataclass(frozen=True)
class Size:
    """Number of table files, and bytes in them."""

    files: int
    bytes: int


@dataclass(frozen=True)
class Compaction:
    """What `compact` did.

    Attributes
    ----------
    before, after : Size
    damaged : dict of Path to str
        Damaged files, and why; their blocks were not merged.
    failed : int
        Blocks with failed replicates, which are run again as a whole and were not merged.
    """

    before: Size
    after: Size
    damaged: dict[Path, str]
    failed: int


@dataclass(frozen=True)
class Piece:
    """A block of an arm, checked."""

    block: str
    checked: CheckedBlock

    @property
    def mergeable(self) -> bool:
        """Whether the block is undamaged and has no failed replicate, which is run again."""
        return not self.checked.problems and "failed" not in self.checked.statuses

    @property
    def tables(self) -> list[str]:
        """Tables that the block has."""
        return [COMMIT_TABLE, *(name for name in self.checked.digests if name in TABLES)]

    @property
    def weights(self) -> dict[str, str]:
        """Hashes of the files with weights, by the name they have in the commit of a merged block.

        They stay where they are.
        """
        return {
            f"{WEIGHTS}/{self.block}" if name == WEIGHTS else name: digest
            for name, digest in self.checked.digests.items()
            if name not in TABLES
        }


def compact(run: Path, progress: Callable[[int, int], None] | None = None) -> Compaction:
    """Merge neighbouring blocks of each arm of `run` into blocks of about `BLOCK_ROWS` rows.

    A second call changes nothing. Every file is compared with its hash before it is merged.
    Weights stay in their files. Readers that opened the old files before they were deleted fail and
    can be started again; no other process may write to `run`.

    Parameters
    ----------
    run : Path
        Run directory.
    progress : callable, optional
        Called with the blocks checked and merged so far, and twice the number of blocks.

    Raises
    ------
    RunError
        If nothing is finished yet.
    StorageError
        If a merged block cannot be written; the old ones are kept.
    """
    remove_uncommitted(run)
    pairs = list(committed(run))
    if not pairs:
        raise RunError(f"{run}: no block is finished yet; run the study first")
    before, done, pieces = size(run), 0, list[Piece]()

    def count(blocks: int) -> None:
        nonlocal done
        done += blocks
        if progress:
            progress(done, 2 * len(pairs))

    for arm, blocks in groupby(pairs, key=itemgetter(0)):
        of_this_arm = list(blocks)
        of_arm = []
        for (_, block), checked in zip(of_this_arm, check_blocks(run, of_this_arm), strict=True):
            of_arm.append(Piece(block, checked))
            count(1)
        for group in groups(of_arm, seeds_of_block(run, arm, of_arm)):
            merge(run, arm, group)
            count(len(group))
        pieces += of_arm
    problems = [piece.checked.problems for piece in pieces]
    return Compaction(
        before,
        size(run),
        {path: problem for found in problems for path, problem in found.items()},
        sum("failed" in piece.checked.statuses for piece in pieces),
    )


def summarise(run: Path, place: Path) -> Size:
    """Write a copy of `run` to `place` that has no table but ``replicates``, compacted.

    Plans that need no steps give the same results there.

    Parameters
    ----------
    run, place : Path
        Run directory, and one that does not exist yet.

    Raises
    ------
    RequestError
        If there is something at `place`.
    RunError
        If nothing is finished yet, or a file is damaged.
    """
    if place.exists():
        allowed = "a place that does not exist yet"
        raise RequestError("--summary", str(place), allowed, "delete it first, or name another")
    manifest, own = read_manifest(run), own_columns(run)
    commits = {
        arm: [block for _, block in pairs] for arm, pairs in groupby(committed(run), itemgetter(0))
    }
    tables = {arm: read_table(run, COMMIT_TABLE, arms=[arm]) for arm in commits}
    write_manifest(place, {**manifest, "schema_version": SCHEMA_VERSION})
    if (run / STUDY_FILE).exists():
        write_atomically(place / STUDY_FILE, (run / STUDY_FILE).read_bytes())
    for arm, blocks in commits.items():
        for block in blocks:
            rows = tables[arm][tables[arm]["seed"].between(*span(block))]
            write_block(place, block, arm, {COMMIT_TABLE: rows}, own=own)
    return compact(place).after


def size(run: Path) -> Size:
    """Return number and bytes of the table files of `run`."""
    if is_remote(run):
        found = [n for p, n in sizes(run).items() if p.suffix == ".parquet"]
    else:
        files = chain.from_iterable(files_of(run, table) for table in TABLES)
        found = [path.stat().st_size for path in files]
    return Size(len(found), sum(found))


def seeds_of_block(run: Path, arm: str, pieces: Sequence[Piece]) -> int:
    """Return how many seeds of `arm` have `BLOCK_ROWS` rows; merging does not change it."""
    whole = [piece for piece in pieces if piece.mergeable]
    blocks = [piece.block for piece in whole]
    seeds = sum(last - first + 1 for first, last in map(span, blocks))
    rows = [
        dataset(run, table, arms=[arm], blocks=blocks).count_rows()
        for table in {table for piece in whole for table in piece.tables}
    ]
    return max(1, BLOCK_ROWS * seeds // max(rows, default=1))


def groups(pieces: Sequence[Piece], most: int) -> Iterator[list[Piece]]:
    """Divide the blocks of an arm into neighbours of together at most `most` seeds."""
    group: list[Piece] = []
    for piece in pieces:
        if group and not _fits(group, piece, most):
            yield group
            group = []
        group.append(piece)
    yield group


def _fits(group: Sequence[Piece], piece: Piece, most: int) -> bool:
    last = group[-1]
    if not (last.mergeable and piece.mergeable and last.tables == piece.tables):
        return False
    (first, _), (_, before), (start, end) = map(span, (group[0].block, last.block, piece.block))
    return start == before + 1 and end - first < most


def merge(run: Path, arm: str, group: Sequence[Piece]) -> None:
    """Write the blocks of `group` as one, and delete them; one alone stays as it is."""
    if len(group) == 1:
        return
    blocks = [piece.block for piece in group]
    name = block_name(span(blocks[0])[0], span(blocks[-1])[1])
    tables = {table: read_table(run, table, arms=[arm], blocks=blocks) for table in group[0].tables}
    weights = {key: digest for piece in group for key, digest in piece.weights.items()}
    write_block(run, name, arm, tables, inherited=weights, own=own_columns(run))
    for block in blocks:
        remove_tables(run, arm, block)
