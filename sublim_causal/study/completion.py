"""Which replicates of a run are complete, and which have to be trained again."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import pandas as pd

from sublim_causal.errors import RunError
from sublim_causal.store.damage import damaged
from sublim_causal.store.removal import remove_block, remove_uncommitted
from sublim_causal.store.tables import committed, read_table
from sublim_causal.study.spec import Study


def finished(run: Path, arms: Collection[str]) -> dict[str, set[int]]:
    """Return the seeds of `arms` that need no rerun: those that are complete or diverged.

    A failed replicate says nothing about the experiment, so its block is run again.
    """
    replicates = _statuses(run, arms)
    kept = replicates[replicates["status"] != "failed"]
    return {str(arm): set(part["seed"]) for arm, part in kept.groupby("arm")}


def is_whole(run: Path, study: Study) -> bool:
    """Return whether every replicate of `study` has a row, be it of one that failed."""
    try:
        rows = _statuses(run, study.arms)
    except RunError:  # a file is damaged
        return False
    there = {*rows[["arm", "seed"]].itertuples(index=False, name=None)}
    return all((arm, seed) in there for arm in study.arms for seed in range(study.seeds))


def _statuses(run: Path, arms: Collection[str]) -> pd.DataFrame:
    """Read seed, arm and status of the replicates of `arms`."""
    columns = ["seed", "arm", "status"]
    there = {arm for arm, _ in committed(run)} & set(arms)
    if not there:
        return pd.DataFrame(columns=columns)
    return read_table(run, "replicates", columns=columns, arms=there)


def remove_unusable(run: Path, arms: Collection[str]) -> dict[Path, str]:
    """Delete what has to be run again of `arms`; return the damaged files, with what was wrong.

    That is what a killed run left uncommitted, blocks with a damaged file, and failed blocks.
    """
    remove_uncommitted(run)
    broken = {pair: found for pair, found in damaged(run).items() if pair[0] in arms}
    for pair in broken:
        remove_block(run, *pair)
    replicates = _statuses(run, arms)
    failed = set(replicates.loc[replicates["status"] == "failed", "arm"])
    for arm, block in [pair for pair in committed(run) if pair[0] in failed]:
        part = read_table(run, "replicates", columns=["status"], arms=[arm], blocks=[block])
        if (part["status"] == "failed").any():
            remove_block(run, arm, block)
    return {path: problem for found in broken.values() for path, problem in found.items()}
