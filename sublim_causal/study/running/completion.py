"""Which replicates of a run are complete, and which have to be trained again."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from sublim_causal.errors import RunError
from sublim_causal.store.blocks import committed, span
from sublim_causal.store.damage import damaged
from sublim_causal.store.lock import SEEDS
from sublim_causal.store.removal import holds_only, remove_block, remove_uncommitted
from sublim_causal.study.spec.study import Study


def finished(run: Path, arms: Collection[str], seeds: range | None = None) -> dict[str, set[int]]:
    """Return the seeds of `arms` that need no rerun: those that are complete or diverged.

    The block of a failed replicate is run again: an error is no result. A process that runs some
    `seeds` only reruns blocks of these seeds only.
    """
    rows = _statuses(run, arms)
    again = {(arm, seed) for seed, arm, status in rows if status == "failed"}
    if seeds is not None and again:
        again -= {
            (arm, seed)
            for arm, block in committed(run)
            if not holds_only(seeds, block)
            for seed in range(span(block)[0], span(block)[1] + 1)
        }
    found: dict[str, set[int]] = {}
    for seed, arm, _ in rows:
        if (arm, seed) not in again:
            found.setdefault(arm, set()).add(seed)
    return found


def is_whole(run: Path, study: Study) -> bool:
    """Return whether every replicate of `study` has a row, failed ones too."""
    try:
        rows = _statuses(run, study.arms)
    except RunError:  # a file is damaged
        return False
    there = {(arm, seed) for seed, arm, _ in rows}
    return all((arm, seed) in there for arm in study.arms for seed in range(study.seeds))


def _statuses(run: Path, arms: Collection[str]) -> list[tuple[int, str, str]]:
    """Return seed, arm and status of the replicates of `arms`."""
    there = {arm for arm, _ in committed(run)} & set(arms)
    if not there:
        return []
    from sublim_causal.store.tables import read_table

    rows = read_table(run, "replicates", columns=["seed", "arm", "status"], arms=there)
    return [(int(seed), str(arm), str(status)) for seed, arm, status in rows.to_numpy()]


def remove_unusable(
    run: Path, arms: Collection[str], seeds: range | None = None
) -> dict[Path, str]:
    """Delete what has to be run again of `arms`; return the damaged files, with what was wrong.

    A process that runs some `seeds` only deletes blocks of these.

    That is what a killed run left uncommitted, blocks with a damaged file, and failed blocks.
    """
    seeds = SEEDS if seeds is None else seeds
    remove_uncommitted(run, seeds)
    broken = {
        (arm, block): found
        for (arm, block), found in damaged(run).items()
        if arm in arms and holds_only(seeds, block)
    }
    for pair in broken:
        remove_block(run, *pair)
    failed = {(arm, seed) for seed, arm, status in _statuses(run, arms) if status == "failed"}
    for arm, block in list(committed(run)):
        first, last = span(block)
        of_block = {(arm, seed) for seed in range(first, last + 1)}
        if holds_only(seeds, block) and failed & of_block:
            remove_block(run, arm, block)
    return {path: problem for found in broken.values() for path, problem in found.items()}
