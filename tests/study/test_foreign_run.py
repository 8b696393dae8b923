"""Runs of other people: links and stores that point elsewhere are refused; nothing is hidden."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from sublim_causal.declared import validate_declared
from sublim_causal.errors import RequestError
from sublim_causal.store.blocks import committed, file_of
from sublim_causal.store.manifest import read_manifest, write_manifest
from sublim_causal.store.tables import read_table, write_block
from sublim_causal.study.spec.reading import load_study
from sublim_causal.study.spec.study import Study
from tests.study.commands import TINY, same_tables, sublim

pytestmark = pytest.mark.end_to_end

OPTIONS = (*TINY, "--seeds", "3")


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a run of three seeds and its mirror."""
    cwd = tmp_path_factory.mktemp("sound")
    done = sublim("run", *OPTIONS, "--arms", "baseline,projection", cwd=cwd)
    assert done.returncode == 0, done.stderr
    return cwd / "runs"


@pytest.fixture
def run(sound: Path, tmp_path: Path) -> Path:
    """A copy of the run, without the mirror."""
    run = tmp_path / "runs" / "quickstart"
    shutil.copytree(sound / "quickstart", run)
    return run


def folder_link(run: Path, outside: Path) -> Path:
    (run / "report").symlink_to(outside)
    return run / "report"


def file_link(run: Path, outside: Path) -> Path:
    (run / "errors").mkdir()
    (run / "errors" / "x.log").symlink_to(outside / "mine")
    return run / "errors" / "x.log"


def lock_link(run: Path, outside: Path) -> Path:
    (run / ".lock").unlink(missing_ok=True)
    (run / ".lock").symlink_to(outside / "mine")
    return run / ".lock"


@pytest.mark.parametrize("verb", ["run", "compact", "sync", "analyse", "report"])
@pytest.mark.parametrize("link", [folder_link, file_link, lock_link])
def test_links_are_refused_and_nothing_outside_changes(
    link: Callable[[Path, Path], Path], verb: str, run: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "mine").write_text("mine")
    place = link(run, outside)
    what = OPTIONS if verb == "run" else (run,)
    refused = sublim(verb, *what, cwd=tmp_path)
    assert refused.returncode == 2, refused.stdout
    assert f"{place.name}: a symbolic link" in refused.stderr
    assert [path.name for path in outside.iterdir()] == ["mine"]
    assert (outside / "mine").read_text() == "mine"


@pytest.mark.parametrize("verb", ["compact", "sync", "analyse", "report"])
def test_a_pipe_in_a_run_is_refused_and_stays(verb: str, run: Path, tmp_path: Path) -> None:
    (run / "report").mkdir()
    pipe = run / "report" / "index.html"
    os.mkfifo(pipe)
    refused = sublim(verb, run, cwd=tmp_path)
    assert refused.returncode == 2, refused.stdout
    assert "index.html: a pipe, where only files and folders are allowed" in refused.stderr
    assert pipe.is_fifo()


def test_a_report_does_not_replace_a_pipe(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "page"
    folder.mkdir()
    os.mkfifo(folder / "index.html")
    refused = sublim("report", run, "--out", folder, cwd=tmp_path)
    assert refused.returncode == 2, refused.stdout
    assert "cannot be written: it is a pipe" in refused.stderr
    assert (folder / "index.html").is_fifo()


def test_a_run_directory_may_itself_be_a_link(run: Path, tmp_path: Path) -> None:
    moved = run.rename(tmp_path / "elsewhere")
    run.symlink_to(moved)
    done = sublim("compact", run, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("table", "column"), [("experiments", "artifact_location"), ("runs", "artifact_uri")]
)
@pytest.mark.parametrize("place", ["file:///etc", "/etc", "s3://bucket", "{root}/../../etc"])
def test_a_store_beside_a_run_that_keeps_files_elsewhere_is_refused(
    table: str, column: str, place: str, sound: Path, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    shutil.copytree(sound, runs)
    place = place.format(root=f"file://{runs / 'mlartifacts'}")
    with closing(sqlite3.connect(runs / "mlflow.db")) as store:
        for name, one in (("experiments", "artifact_location"), ("runs", "artifact_uri")):
            store.execute(
                f"UPDATE {name} SET {one} = replace({one}, ?, ?)", (str(sound), str(runs))
            )
        store.commit()
        assert sublim("sync", runs / "quickstart", cwd=tmp_path).returncode == 0
        store.execute(f"UPDATE {table} SET {column} = ? WHERE experiment_id != 0", (place,))
        store.commit()
    for verb in (["sync", runs / "quickstart"], ["ui", runs / "quickstart"], ["run", *OPTIONS]):
        refused = sublim(*verb, cwd=tmp_path)
        assert refused.returncode == 2, refused.stdout
        assert f"a store whose files are in {runs / 'mlartifacts'}; not {place}" in refused.stderr
        assert "--tracking-uri" in refused.stderr


def copies(run: Path, source: str, target: str, arm: str = "baseline", to: str = "") -> None:
    """Copy a block's files under the name of another."""
    for table in ("replicates", "steps", "evaluations"):
        copy = file_of(run, table, to or arm, target)
        copy.parent.mkdir(exist_ok=True)
        shutil.copy(file_of(run, table, arm, source), copy)


def test_a_stray_copy_hides_nothing_and_is_named_by_whatever_makes_numbers(
    run: Path, sound: Path, tmp_path: Path
) -> None:
    copies(run, "0000000-0000000", "0000000-0000099")
    assert ("baseline", "0000001-0000001") in committed(run)
    for verb in ("analyse", "report", "power"):
        refused = sublim(verb, run, cwd=tmp_path)
        assert refused.returncode == 2, refused.stdout
        assert "arm=baseline/0000000-0000099.parquet (it " in refused.stderr
    options = (*OPTIONS, "--arms", "baseline,projection", "--tracking-uri", "none")
    repaired = sublim("run", *options, cwd=tmp_path)
    assert repaired.returncode == 0, repaired.stderr
    assert "6 of 6 replicates are already done" in repaired.stderr
    same_tables(run, sound / "quickstart")


def test_a_block_of_another_arm_is_named(run: Path, tmp_path: Path) -> None:
    copies(run, "0000001-0000001", "0000001-0000001", to="projection")
    refused = sublim("analyse", run, cwd=tmp_path)
    assert refused.returncode == 2
    assert "it was written as arm and block baseline/0000001-0000001" in refused.stderr


@pytest.mark.parametrize("table", ["steps", "evaluations"])
def test_a_file_that_a_commit_declares_and_that_is_not_there_is_named(
    table: str, run: Path, tmp_path: Path
) -> None:
    file_of(run, table, "projection", "0000001-0000001").unlink()
    for verb in ("analyse", "report"):
        refused = sublim(verb, run, cwd=tmp_path)
        assert refused.returncode == 2, refused.stdout
        assert f"{table}/arm=projection/0000001-0000001.parquet (it is missing)" in refused.stderr


def test_a_hidden_block_with_other_rows_is_never_deleted(run: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    shutil.copytree(run, kept)
    assert sublim("compact", run, cwd=tmp_path).returncode == 0
    same = [file_of(kept, t, "baseline", "0000001-0000001") for t in ("replicates", "steps")]
    for path in same:
        shutil.copy(path, run / path.relative_to(kept))
    assert sublim("compact", run, cwd=tmp_path).returncode == 0
    assert not (run / same[0].relative_to(kept)).exists()
    rows = read_table(kept, "replicates", arms=["baseline"], blocks=["0000001-0000001"])
    steps = read_table(kept, "steps", arms=["baseline"], blocks=["0000001-0000001"])
    write_block(
        run, "0000001-0000001", "baseline", {"replicates": rows.assign(seconds=9), "steps": steps}
    )
    assert sublim("compact", run, cwd=tmp_path).returncode == 0
    assert all((run / path.relative_to(kept)).exists() for path in same)


def test_a_manifest_that_was_changed_is_damaged(run: Path, tmp_path: Path) -> None:
    manifest = run / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"seeds": 3', '"seeds": 4'))
    refused = sublim("status", run, cwd=tmp_path)
    assert refused.returncode == 2
    assert "its checksum differs" in refused.stderr


HOSTILE = "\x1b[2Jwiped\u202egpj"


def test_names_of_files_cannot_command_the_terminal(run: Path, tmp_path: Path) -> None:
    manifest = read_manifest(run)
    study = manifest["study"]
    arms = {HOSTILE: study["arms"]["projection"], **study["arms"]}
    write_manifest(run, {**manifest, "name": HOSTILE, "study": {**study, "arms": arms}})
    rows = read_table(run, "replicates", arms=["projection"], blocks=["0000001-0000001"])
    steps = read_table(run, "steps", arms=["projection"], blocks=["0000001-0000001"])
    failed = rows.assign(status="failed", reason=f"it says {HOSTILE}")
    tables = {"replicates": failed, "steps": steps}
    write_block(run, "0000001-0000001", HOSTILE, tables)
    file_of(run, "steps", HOSTILE, "0000001-0000001").write_bytes(b"")
    for verb in ("status", "analyse", "compact", "power", "sync"):
        said = sublim(verb, run, cwd=tmp_path)
        shown = said.stdout + said.stderr
        assert "\x1b" not in shown, verb
        assert "\u202e" not in shown, verb
    assert r"\x1b[2Jwiped\u202egpj" in sublim("status", run, cwd=tmp_path).stdout


@pytest.mark.parametrize(
    "name", ["a\x1b[31m", "a\x9b", "a\u202eb", "a\u2066b", "a\u2028b", "a\u200fb"]
)
def test_such_names_are_refused_in_new_studies(name: str) -> None:
    table = load_study("quickstart").model_dump(mode="json", by_alias=True)
    for field in ("name", "title", "arms"):
        value = {name: table["arms"]["baseline"]} if field == "arms" else name
        with pytest.raises(RequestError, match="is not allowed") as refused:
            validate_declared(Study, {**table, field: value}, "")
        assert refused.value.field.split(".")[0] == field
