from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from sublim_causal.errors import RunError
from sublim_causal.store import blocks, removal, tables
from sublim_causal.store import compact as compacting
from sublim_causal.store.compact import compact
from sublim_causal.store.damage import damaged
from sublim_causal.store.schema import SCHEMA_VERSION, version_of
from tests.store.conftest import block

STEPS = 6


class Killed(BaseException):
    """The process is gone; nothing it would still do is done."""


def write(
    run: Path, arm: str, seeds: Iterable[int], *, failed: bool = False, weights: bool = False
) -> None:
    seeds = list(seeds)
    frames = block(seeds, np.random.default_rng([*seeds, *arm.encode()]), STEPS)
    if failed:
        frames = {"replicates": frames["replicates"].assign(status="failed", reason="why")}
    name = f"{seeds[0]:07d}-{seeds[-1]:07d}"
    tables.write_block(run, name, arm, frames, weights=bytes(seeds) if weights else None)


def written(run: Path, *, seeds: int = 4, weights: bool = False) -> Path:
    for arm in ("baseline", "a/b"):
        for seed in range(seeds):
            write(run, arm, [seed], weights=weights)
    return run


def rows(run: Path) -> dict[str, pd.DataFrame]:
    keys = ["arm", "seed", "step"]
    frames = {name: tables.read_table(run, name) for name in ("steps", "evaluations", "replicates")}
    return {
        name: frame.sort_values([key for key in keys if key in frame], ignore_index=True)
        for name, frame in frames.items()
    }


def assert_same(found: dict[str, pd.DataFrame], expected: dict[str, pd.DataFrame]) -> None:
    for name, frame in expected.items():
        pd.testing.assert_frame_equal(found[name], frame, check_exact=True)


def files(run: Path) -> list[str]:
    return sorted(path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file())


def test_all_rows_are_in_one_file_per_arm_and_table(tmp_path: Path) -> None:
    before = rows(written(tmp_path))
    done = compact(tmp_path)
    assert (done.before.files, done.after.files) == (24, 6)
    assert done.after.bytes == sum((tmp_path / file).stat().st_size for file in files(tmp_path))
    assert set(blocks.committed(tmp_path)) == {
        (arm, "0000000-0000003") for arm in ("baseline", "a/b")
    }
    assert damaged(tmp_path) == {}
    assert_same(rows(tmp_path), before)


def test_a_second_call_changes_nothing(tmp_path: Path) -> None:
    compact(written(tmp_path))
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")}
    said = []
    done = compact(tmp_path, lambda done, total: said.append((done, total)))
    assert done.before == done.after
    assert said[-1] == (4, 4)
    assert times == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")}


def test_a_merged_block_is_bounded_and_so_are_its_row_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compacting, "BLOCK_ROWS", 3 * STEPS)
    monkeypatch.setattr(tables, "ROW_GROUP", 2 * STEPS)
    before = rows(written(tmp_path, seeds=7))
    compact(tmp_path)
    names = [name for arm, name in blocks.committed(tmp_path) if arm == "baseline"]
    assert names == ["0000000-0000002", "0000003-0000005", "0000006-0000006"]
    metadata = pq.read_metadata(tmp_path / "steps" / "arm=baseline" / f"{names[0]}.parquet")
    assert [metadata.row_group(i).num_rows for i in range(2)] == [2 * STEPS, STEPS]
    assert compact(tmp_path).after.files == 3 * 3 * 2
    assert_same(rows(tmp_path), before)


def test_blocks_that_are_added_later_are_merged_in(tmp_path: Path) -> None:
    compact(written(tmp_path))
    write(tmp_path, "baseline", [4, 5])
    before = rows(tmp_path)
    compact(tmp_path)
    assert set(blocks.committed(tmp_path)) == {
        ("baseline", "0000000-0000005"),
        ("a/b", "0000000-0000003"),
    }
    assert_same(rows(tmp_path), before)


def test_a_failed_block_and_a_gap_part_what_is_merged(tmp_path: Path) -> None:
    for seeds in ([0, 1], [2], [4], [5]):
        write(tmp_path, "baseline", seeds)
    write(tmp_path, "baseline", [6], failed=True)
    write(tmp_path, "baseline", [7])
    write(tmp_path, "baseline", [8])
    before = rows(tmp_path)
    assert compact(tmp_path).failed == 1
    assert [name for _, name in blocks.committed(tmp_path)] == [
        "0000000-0000002",
        "0000004-0000005",
        "0000006-0000006",
        "0000007-0000008",
    ]
    assert_same(rows(tmp_path), before)


def test_damage_is_not_merged(tmp_path: Path) -> None:
    written(tmp_path, seeds=5)
    victim = tmp_path / "steps" / "arm=baseline" / "0000002-0000002.parquet"
    content = bytearray(victim.read_bytes())
    content[100] ^= 1
    victim.write_bytes(content)
    assert list(compact(tmp_path).damaged) == [victim]
    assert list(damaged(tmp_path)) == [("baseline", "0000002-0000002")]
    removal.remove_block(tmp_path, "baseline", "0000002-0000002")
    assert set(rows(tmp_path)["steps"].query("arm == 'baseline'")["seed"]) == {0, 1, 3, 4}


def test_weights_stay_in_their_files_and_are_still_checked(tmp_path: Path) -> None:
    compact(written(tmp_path, weights=True))
    compact(tmp_path)
    weights = sorted((tmp_path / "weights" / "arm=baseline").iterdir())
    assert [path.stem for path in weights] == [f"{seed:07d}-{seed:07d}" for seed in range(4)]
    assert removal.remove_uncommitted(tmp_path) == 0
    assert damaged(tmp_path) == {}
    weights[2].write_bytes(b"other")
    assert damaged(tmp_path) == {
        ("baseline", "0000000-0000003"): {weights[2]: "its content differs from what was written"}
    }
    removal.remove_block(tmp_path, "baseline", "0000000-0000003")
    assert not any(path.exists() for path in weights)
    assert {arm for arm, _ in blocks.committed(tmp_path)} == {"a/b"}


def test_weights_of_no_committed_block_are_removed(tmp_path: Path) -> None:
    compact(written(tmp_path, weights=True))
    orphan = tmp_path / "weights" / "arm=baseline" / "0000004-0000004.safetensors"
    orphan.write_bytes(b"orphan")
    assert removal.remove_uncommitted(tmp_path) == 1
    assert not orphan.exists()


def die_after(operations: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the process die before the file operation of that number."""
    left = count(operations, -1)

    def counted(operation: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            if next(left) <= 0:
                raise Killed
            return operation(*args, **kwargs)

        return call

    for name in ("open", "replace", "unlink", "mkdir"):
        monkeypatch.setattr(Path, name, counted(getattr(Path, name)))


@pytest.mark.parametrize("stride", [3, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.end_to_end
def test_a_kill_at_no_moment_loses_or_repeats_a_row(
    stride: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    sound = tmp_path / "sound"
    for seed in range(3):
        write(sound, "baseline", [seed], weights=True)
    before, seen = rows(sound), set()
    for operations in count(step=stride):
        run = tmp_path / f"{operations}"
        shutil.copytree(sound, run)
        with monkeypatch.context() as dying, suppress(Killed):
            die_after(operations, dying)
            compact(run)
            break
        seen.add(tuple(files(run)))
        assert_same(rows(run), before)
        assert damaged(run) == {}
        compact(run)
        assert_same(rows(run), before)
        assert len(files(run)) == 3 + 3
    assert_same(rows(run), before)
    assert len(seen) > 15 / stride  # kills fell before, between and after the commits


def test_a_merged_block_is_of_the_current_version(tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(Path(__file__).parent / "version_1", run)
    frames = block([2, 3], np.random.default_rng(0), STEPS)
    frames["layers"] = tables.read_table(run, "layers").replace({"seed": {0: 2, 1: 3}})
    tables.write_block(run, "0000002-0000003", "baseline", frames)
    before = rows(run)
    compact(run)
    assert ("baseline", "0000000-0000003") in set(blocks.committed(run))
    for table in {"layers", *frames}:
        file = run / table / "arm=baseline" / "0000000-0000003.parquet"
        assert version_of(pq.read_schema(file)) == SCHEMA_VERSION
    assert damaged(run) == {}
    assert_same(rows(run), before)


def test_a_run_without_blocks_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="run the study first"):
        compact(tmp_path)
