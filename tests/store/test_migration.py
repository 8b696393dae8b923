"""A run in version 1 of the tables, stored when that was the latest, under every command.

``version_1/`` holds it: the digits, a tiny network, two seeds under two arms as one block.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from sublim_causal.store import tables
from sublim_causal.store.damage import damaged
from sublim_causal.store.manifest import read_manifest
from sublim_causal.store.schema import SCHEMA_VERSION, TABLES, arrow_schema, version_of
from sublim_causal.study.spec import Study, arm_definition, definition, digest
from tests.study.commands import sublim

STORED = Path(__file__).parent / "version_1"
NEWER = [column.name for column in TABLES["replicates"] if column.since > 1]


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A copy of the stored run, to be written to."""
    return Path(shutil.copytree(STORED, tmp_path / "old"))


def test_the_stored_files_are_of_version_1() -> None:
    for table in TABLES:
        schema = pq.read_schema(STORED / table / "arm=baseline" / "0000000-0000001.parquet")
        assert version_of(schema) == 1
        assert schema.equals(arrow_schema(table, version=1))
    assert read_manifest(STORED)["schema_version"] == 1


def test_all_tables_are_read_and_only_newer_columns_are_empty() -> None:
    assert damaged(STORED) == {}
    for table, columns in TABLES.items():
        frame = tables.read_table(STORED, table)
        assert set(frame.columns) == {column.name for column in columns}
        assert set(frame.columns[frame.isna().any()]) == {c.name for c in columns if c.since > 1}
    assert NEWER


def test_the_definition_of_a_study_has_not_changed() -> None:
    manifest = read_manifest(STORED)
    study, precision = Study.model_validate(manifest["study"]), manifest["precision"]
    assert digest(study, precision) == manifest["digest"]
    assert json.loads(json.dumps(definition(study, precision))) == manifest["definition"]
    for arm, recorded in manifest["arms"].items():
        assert json.loads(json.dumps(arm_definition(study, arm))) == recorded


def test_every_command_reads_it(old: Path) -> None:
    store = f"sqlite:///{old.parent / 'mlflow.db'}"
    for arguments in (
        ["status", old],
        ["analyse", old],
        ["report", old],
        ["sync", old, "--tracking-uri", store],
    ):
        done = sublim(*arguments, cwd=old.parent)
        assert done.returncode == 0, (arguments, done.stderr)
        assert "Traceback" not in done.stderr
    assert (old / "report" / "index.html").exists()


def test_a_run_goes_on_beside_the_old_blocks(old: Path) -> None:
    kept = tables.read_table(old, "replicates", arms=["baseline"])
    (victim,) = (old / "replicates" / "arm=projection").glob("*.parquet")
    victim.unlink()  # as if it had been killed before this arm was committed
    options = ("--out", old, "--no-report", "--tracking-uri", "none")
    done = sublim("run", STORED / "study.toml", *options, "--seeds", "3", cwd=old.parent)
    assert done.returncode == 0, done.stderr
    assert "2 of 6 replicates are there already" in done.stderr
    assert read_manifest(old)["schema_version"] == SCHEMA_VERSION
    assert damaged(old) == {}
    rows = tables.read_table(old, "replicates")
    assert sorted(zip(rows["arm"], rows["seed"], strict=True)) == [
        (arm, seed) for arm in ("baseline", "projection") for seed in range(3)
    ]
    same = rows[(rows["arm"] == "baseline") & (rows["seed"] < 2)]
    assert same.reset_index(drop=True).equals(kept)
    stored = tables.read_table(STORED, "replicates", arms=["projection"])["final_accuracy"]
    again = rows[(rows["arm"] == "projection") & (rows["seed"] < 2)]["final_accuracy"]
    # Not bit for bit: another processor rounds otherwise. A test image more or less is 0.003.
    np.testing.assert_allclose(again, stored, atol=0.05)


def test_old_and_new_blocks_are_compacted_into_one(old: Path) -> None:
    for arm in ("baseline", "projection"):
        rows = {t: tables.read_table(old, t, arms=[arm]) for t in TABLES}
        newer = {t: part[part["seed"] == 0].assign(seed=2) for t, part in rows.items()}
        tables.write_block(old, "0000002-0000002", arm, newer)
    before = {table: tables.read_table(old, table) for table in TABLES}
    done = sublim("compact", old, cwd=old.parent)
    assert done.returncode == 0, done.stderr
    assert list(tables.committed(old)) == [
        (arm, "0000000-0000002") for arm in ("baseline", "projection")
    ]
    assert read_manifest(old)["schema_version"] == SCHEMA_VERSION
    for table, rows in before.items():
        assert tables.read_table(old, table).equals(rows)


def test_a_file_that_does_not_tell_its_version_is_damaged(old: Path) -> None:
    (victim,) = (old / "replicates" / "arm=projection").glob("*.parquet")
    content = pq.read_table(victim, partitioning=None)
    pq.write_table(content.replace_schema_metadata({}), victim)
    assert "version" in damaged(old)[tables.block_of(victim)][victim]
