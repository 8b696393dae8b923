"""Which replicates of a run are complete, and which have to be trained again."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import pandas as pd

from sublim_causal.errors import RunError
from sublim_causal.store.blocks import committed, span
from sublim_causal.store.damage import damaged
from sublim_causal.store.lock import SEEDS
from sublim_causal.store.removal import holds_only, remove_block, remove_uncommitted
from sublim_causal.store.tables import read_table
from sublim_causal.study.spec.study import Study


def finished(run: Path, arms: Collection[str], seeds: range | None = None) -> dict[str, set[int]]:
    """Return the seeds of `arms` that need no rerun: those that are complete or diverged.

    The block of a failed replicate is run again: an error is no result. A process that runs some
    `seeds` only reruns blocks of these seeds only.
    """
    replicates = _statuses(run, arms)
    again = replicates["status"] == "failed"
    if seeds is not None and again.any():
        others = {
            (arm, seed)
            for arm, block in committed(run)
            if not holds_only(seeds, block)
            for seed in range(span(block)[0], span(block)[1] + 1)
        }
        pairs = zip(replicates["arm"], replicates["seed"], strict=True)
        again &= pd.Series([pair not in others for pair in pairs], index=again.index)
    return {str(arm): set(part["seed"]) for arm, part in replicates[~again].groupby("arm")}


def is_whole(run: Path, study: Study) -> bool:
    """Return whether every replicate of `study` has a row, failed ones too."""
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
    replicates = _statuses(run, arms)
    failed = set(replicates.loc[replicates["status"] == "failed", "arm"])
    for arm, block in list(committed(run)):
        if arm not in failed or not holds_only(seeds, block):
            continue
        part = read_table(run, "replicates", columns=["status"], arms=[arm], blocks=[block])
        if (part["status"] == "failed").any():
            remove_block(run, arm, block)
    return {path: problem for found in broken.values() for path, problem in found.items()}
