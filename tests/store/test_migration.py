"""Runs in versions 1 and 2 of the tables, stored when those were the latest, under every command.

``version_1/`` and ``version_2/`` hold them: the digits, a tiny network, two seeds as one block. The
second has arms and columns in the words of before version 3.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from sublim_causal.declared import flatten
from sublim_causal.errors import RequestError
from sublim_causal.renames import RENAMED
from sublim_causal.store import blocks, tables
from sublim_causal.store.damage import damaged
from sublim_causal.store.manifest import read_manifest
from sublim_causal.store.schema import FORMER, SCHEMA_VERSION, TABLES, arrow_schema, version_of
from sublim_causal.study.spec.defaults import default_options
from sublim_causal.study.spec.identity import arm_definition, definition
from sublim_causal.study.spec.identity import digest as digest_of_study
from sublim_causal.study.spec.reading import load_study
from sublim_causal.study.spec.study import Study
from tests.study.commands import sublim

pytestmark = pytest.mark.end_to_end

NEW_OPTIONS = {"trait", "match"}
"""Options of interventions that the stored runs are older than."""
HELD = ("steps", "evaluations", "replicates", "layers")
"""Tables of the stored runs."""
ANALYSIS = Path(__file__).parents[2] / "analysis"
STORED = {version: Path(__file__).parent / f"version_{version}" for version in (1, 2)}


@pytest.fixture(params=STORED)
def version(request: pytest.FixtureRequest) -> int:
    """A version of the tables before the present one."""
    return int(request.param)


@pytest.fixture
def old(tmp_path: Path, version: int) -> Path:
    """A copy of the stored run, to be written to."""
    return Path(shutil.copytree(STORED[version], tmp_path / "old"))


def test_the_stored_files_are_of_their_version(version: int) -> None:
    for table in HELD:
        file = STORED[version] / table / "arm=baseline" / "0000000-0000001.parquet"
        schema = pq.read_schema(file)
        assert version_of(schema) == version
        assert schema.equals(arrow_schema(table, version=version))
        assert not set(FORMER) & set(schema.names)
    assert read_manifest(STORED[version])["schema_version"] == version


def test_all_tables_are_read_and_only_newer_columns_are_empty(version: int) -> None:
    assert damaged(STORED[version]) == {}
    for table in HELD:
        columns, frame = TABLES[table], tables.read_table(STORED[version], table)
        assert list(frame.columns) == [column.name for column in columns]
        newer = {column.name for column in columns if column.since > version}
        assert set(frame.columns[frame.isna().any()]) == newer


def test_a_renamed_column_is_found_under_its_old_name(version: int) -> None:
    file = STORED[version] / "replicates" / "arm=baseline" / "0000000-0000001.parquet"
    stored = pq.read_table(file, partitioning=None).to_pandas()
    read = tables.read_table(STORED[version], "replicates", columns=list(FORMER), arms=["baseline"])
    for name, former in FORMER.items():
        if former in stored:
            assert read[name].equals(stored[former])
            assert read[name].notna().all()


def test_the_definition_of_a_study_has_not_changed() -> None:
    manifest = read_manifest(STORED[1])
    study, precision = Study.model_validate(manifest["study"]), manifest["precision"]
    assert digest_of_study(study, precision) == manifest["digest"]


def test_a_manifest_is_read_with_current_names(version: int) -> None:
    manifest = read_manifest(STORED[version])
    study = Study.model_validate(manifest["study"])
    assert (
        json.loads(json.dumps(definition(study, manifest["precision"]))) == manifest["definition"]
    )
    for arm, recorded in manifest["arms"].items():
        now = json.loads(json.dumps(arm_definition(study, arm)))
        default = default_options(manifest["study"]["arms"][arm])
        told = flatten(recorded, lists=True)
        # A default that a study file wrote out was recorded; today it is as if it had not.
        assert {key: now.get(key, default.get(key)) for key in told} == told
        assert {key.partition(".")[2] for key in now.keys() - told.keys()} <= NEW_OPTIONS
    text = json.dumps(manifest)
    assert not [name for name in RENAMED if f'"{name}' in text or f".{name}" in text]


def test_a_study_file_with_old_names_is_refused_with_the_new_ones(tmp_path: Path) -> None:
    file = tmp_path / "study.toml"
    file.write_text((STORED[2] / "study.toml").read_text())
    for name in ("lesson", "jitter", "only", "inject"):
        remedy = f"remedy: {name!r} is called {RENAMED[name]!r} since version 0.2"
        with pytest.raises(RequestError, match=remedy):
            load_study(str(file))
        file.write_text(re.sub(rf"\b{name}\b", RENAMED[name], file.read_text()))
    load_study(str(file))


def test_every_command_reads_it(old: Path) -> None:
    store = f"sqlite:///{old.parent / 'mlflow.db'}"
    plan = old.parent / "plan.toml"
    plan.write_text(f"n_boot = 199\n{(ANALYSIS / 'primary.toml').read_text()}")
    for arguments in (
        ["status", old],
        ["analyse", old, "--plan", plan],
        ["report", old, "--plan", plan],
        ["sync", old, "--tracking-uri", store],
    ):
        done = sublim(*arguments, cwd=old.parent)
        assert done.returncode == 0, (arguments, done.stderr)
        assert "Traceback" not in done.stderr
    assert (old / "report" / "index.html").exists()


def test_a_run_continues_beside_the_old_blocks(old: Path, version: int) -> None:
    arms = [*read_manifest(old)["study"]["arms"]]
    kept = tables.read_table(old, "replicates", arms=["baseline"])
    (victim,) = (old / "replicates" / blocks.folder_of(arms[1])).glob("*.parquet")
    victim.unlink()  # as if it had been killed before this arm was committed
    study = old.parent / "study.toml"
    words = (old / "study.toml").read_text()
    for name, new in RENAMED.items():
        words = re.sub(rf"\b{name}\b", new, words)
    study.write_text(words)
    options = ("--out", old, "--no-report", "--tracking-uri", "none")
    done = sublim("run", study, *options, "--seeds", "3", cwd=old.parent)
    assert done.returncode == 0, done.stderr
    there, all_of_them = 2 * (len(arms) - 1), 3 * len(arms)
    assert f"{there} of {all_of_them} replicates are already done" in done.stderr
    assert read_manifest(old)["schema_version"] == SCHEMA_VERSION
    assert damaged(old) == {}
    rows = tables.read_table(old, "replicates")
    assert sorted(zip(rows["arm"], rows["seed"], strict=True)) == [
        (arm, seed) for arm in sorted(arms) for seed in range(3)
    ]
    same = rows[(rows["arm"] == "baseline") & (rows["seed"] < 2)]
    assert same.reset_index(drop=True).equals(kept)
    stored = tables.read_table(STORED[version], "replicates", arms=[arms[1]])["final_accuracy"]
    again = rows[(rows["arm"] == arms[1]) & (rows["seed"] < 2)]["final_accuracy"]
    # Not bit for bit: another processor rounds otherwise. A test image more or less is 0.003.
    np.testing.assert_allclose(again, stored, atol=0.05)


def test_old_and_new_blocks_are_compacted_into_one(old: Path) -> None:
    arms = sorted(read_manifest(old)["study"]["arms"])
    for arm in arms:
        rows = {t: tables.read_table(old, t, arms=[arm]) for t in HELD}
        newer = {t: part[part["seed"] == 0].assign(seed=2) for t, part in rows.items()}
        tables.write_block(old, "0000002-0000002", arm, newer)
    before = {table: tables.read_table(old, table) for table in HELD}
    done = sublim("compact", old, cwd=old.parent)
    assert done.returncode == 0, done.stderr
    assert list(blocks.committed(old)) == [(arm, "0000000-0000002") for arm in arms]
    assert read_manifest(old)["schema_version"] == SCHEMA_VERSION
    for table, rows in before.items():
        assert tables.read_table(old, table).equals(rows)


def test_a_file_without_its_version_is_damaged(old: Path) -> None:
    (victim,) = (old / "replicates" / "arm=baseline").glob("*.parquet")
    content = pq.read_table(victim, partitioning=None)
    pq.write_table(content.replace_schema_metadata({}), victim)
    assert "version" in damaged(old)[blocks.block_of(victim)][victim]
