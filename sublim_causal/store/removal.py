"""Delete what a killed run left behind, and blocks that have to be trained again."""

from __future__ import annotations

import re
from pathlib import Path

from sublim_causal.errors import RunError
from sublim_causal.location import is_remote, matching, remove
from sublim_causal.store.blocks import (
    COMMIT_TABLE,
    WEIGHTS,
    commits_of,
    committed,
    file_of,
    files_of,
    is_ours,
    remove_tables,
    span,
    within,
)
from sublim_causal.store.damage import check_blocks
from sublim_causal.store.lock import SEEDS
from sublim_causal.store.schema import TABLES

TEMPORARY = re.compile(r"\..+\.[0-9]+\.[0-9a-f]+\.tmp")
"""Name of a file while it is written."""


def remove_uncommitted(run: Path, seeds: range = SEEDS) -> int:
    """Delete files of `seeds` that a killed run or compaction left behind; return how many.

    With some seeds only, other processes may be training the others. A committed block that another
    one hides is deleted only if that one is undamaged and holds the same rows.
    """
    shown, commits = set(committed(run)), commits_of(run)
    keep = shown | {pair for pair in commits - shown if not _repeated(run, shown, *pair)}
    orphans = _temporary(run)
    for table in TABLES:
        orphans += [path for path, pair in files_of(run, table).items() if pair not in keep]
    for path, (arm, block) in files_of(run, WEIGHTS).items():
        if not any(a == arm and within(block, b) for a, b in keep):
            orphans.append(path)
    selected = [path for path in orphans if seeds == SEEDS or _is_of(path, seeds)]
    for path in selected:
        remove(path)
    return len(selected)


def _is_of(path: Path, seeds: range) -> bool:
    """Return whether a file of a block, or a temporary one, is of these `seeds` only."""
    return holds_only(seeds, path.name.lstrip(".").partition(".")[0])


def holds_only(seeds: range, block: str) -> bool:
    """Return whether all seeds of `block` are among `seeds`."""
    first, last = span(block)
    return seeds.start <= first and last < seeds.stop


def _repeated(run: Path, shown: set[tuple[str, str]], arm: str, block: str) -> bool:
    """Return whether an undamaged block that hides this one holds the same replicates."""
    from sublim_causal.store.tables import read_table

    (outer,) = [pair for pair in shown if pair[0] == arm and within(block, pair[1])][:1]
    (checked,) = check_blocks(run, [outer])
    if checked.problems:
        return False
    try:
        rows, others = (
            read_table(run, COMMIT_TABLE, arms=[arm], blocks=[name]).set_index("seed")
            for name in (block, outer[1])
        )
    except RunError:  # it is damaged
        return False
    return rows.equals(others.loc[rows.index])


def _temporary(run: Path) -> list[Path]:
    """Return the files that a killed run left half written; an object is put whole."""
    if is_remote(run):
        return []
    of_tables = (
        path for table in (*TABLES, WEIGHTS) for path in (run / table).glob("arm=*/.*.tmp")
    )
    found = [*run.glob(".*.tmp"), *run.glob("networks/*/.*.tmp"), *filter(is_ours, of_tables)]
    return [path for path in found if TEMPORARY.fullmatch(path.name) and path.is_file()]


def remove_block(run: Path, arm: str, block: str) -> None:
    """Delete one arm of one block and the weights of its seeds, so that they are trained again.

    Weights of seeds that another block holds too are kept.
    """
    remove_tables(run, arm, block)
    others = [name for a, name in commits_of(run) if a == arm]
    for path in matching(file_of(run, WEIGHTS, arm, block).parent, "*.safetensors"):
        if within(path.stem, block) and not any(within(path.stem, name) for name in others):
            remove(path)
