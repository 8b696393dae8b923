"""Runs in directories and in an object store: an S3 server on this machine."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pandas as pd
import pytest

from sublim_causal.errors import RequestError, RunError, StorageError
from sublim_causal.location import is_remote, locate, put, remove, validate_files, write_atomically
from sublim_causal.store import blocks, removal, tables
from sublim_causal.store.damage import damaged
from sublim_causal.store.manifest import read_manifest
from tests.store.conftest import write_run
from tests.store.test_tables import ODD_ARMS, block_of
from tests.study.commands import sublim


@pytest.fixture
def requests(bucket: str, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What is asked of the server from now on: operation and key."""
    import s3fs

    asked: list[tuple[str, str]] = []
    call = s3fs.S3FileSystem._call_s3

    async def counted(self: Any, method: str, *arguments: Any, **options: Any) -> Any:
        asked.append((method, options.get("Key", "")))
        return await call(self, method, *arguments, **options)

    monkeypatch.setattr(s3fs.S3FileSystem, "_call_s3", counted)
    return asked


def make_device(path: Path) -> None:
    """Make a second ``/dev/null``."""
    try:
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("only root makes devices")


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))


@pytest.mark.parametrize(
    ("make", "kind"), [(os.mkfifo, "pipe"), (make_device, "device"), (make_socket, "socket")]
)
def test_a_file_replaces_no_pipe_and_no_device(
    make: Callable[[Path], None], kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the address of a socket is short
    special, link = Path("folder", "special"), Path("link")
    special.parent.mkdir()
    make(special)
    link.symlink_to(special)
    before = special.lstat()
    for place in (special, link):
        with pytest.raises(StorageError, match=f"{place}: cannot be written: it is a {kind}"):
            write_atomically(place, b"content")
    with pytest.raises(RunError, match=f"special: a {kind}, where only files"):
        validate_files(special.parent)
    assert special.lstat() == before
    assert link.is_symlink()
    assert [path.name for path in special.parent.iterdir()] == ["special"]


@pytest.mark.parametrize("place", ["runs/a", "/abs/run", "..", "c:/x", "a:b", ""])
def test_a_plain_path_stays_a_path(place: str) -> None:
    assert locate(place) == Path(place)
    assert not is_remote(locate(place))


def test_a_plain_path_imports_no_file_systems() -> None:
    code = "; ".join(
        [
            "import sys",
            "from sublim_causal.location import locate",
            "locate('runs/a')",
            "print({'fsspec', 'upath', 's3fs', 'pyarrow'} & {*sys.modules})",
        ]
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_a_file_address_is_a_directory(tmp_path: Path) -> None:
    assert locate(tmp_path.as_uri()) == tmp_path


@pytest.mark.parametrize("arm", ODD_ARMS)
def test_any_arm_name_survives_the_object_store(bucket: str, arm: str) -> None:
    run = locate(f"{bucket}/a run")
    tables.write_block(run, "0000000-0000000", "plain", block_of(0))
    tables.write_block(run, "0000000-0000000", arm, block_of(0))
    assert set(blocks.committed(run)) == {("plain", "0000000-0000000"), (arm, "0000000-0000000")}
    assert set(tables.read_table(run, "steps", arms=[arm])["arm"]) == {arm}
    removal.remove_block(run, arm, "0000000-0000000")
    assert (arm, "0000000-0000000") not in set(blocks.committed(run))


def test_an_object_store_holds_what_a_directory_holds(bucket: str, tmp_path: Path) -> None:
    local, remote = write_run(tmp_path), write_run(locate(bucket))
    assert read_manifest(local) == read_manifest(remote)
    assert list(blocks.committed(local)) == list(blocks.committed(remote))
    for table in ("steps", "evaluations", "replicates"):
        pd.testing.assert_frame_equal(
            tables.read_table(local, table), tables.read_table(remote, table)
        )


def test_a_reader_sees_what_another_process_writes_meanwhile(bucket: str) -> None:
    run = write_run(locate(bucket), seeds=[0])
    assert len(list(blocks.committed(run))) == 2
    code = (
        "from sublim_causal.location import locate; "
        "from tests.store.conftest import write_run; "
        f"write_run(locate({bucket!r}), seeds=[1])"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[1])
    assert len(list(blocks.committed(run))) == 4
    assert set(tables.read_table(run, "replicates")["seed"]) == {0, 1}


def test_an_uncommitted_block_is_not_read_and_goes_away(bucket: str) -> None:
    run = write_run(locate(bucket), seeds=[0], arms=["baseline"])
    orphan = run / "steps" / "arm=baseline" / "0000001-0000001.parquet"
    put(orphan, b"half")
    assert set(tables.read_table(run, "steps")["seed"]) == {0}
    assert removal.remove_uncommitted(run) == 1
    assert not orphan.exists()


def test_damage_is_found_without_fetching_the_tables(
    bucket: str, requests: list[tuple[str, str]]
) -> None:
    run = write_run(locate(bucket), seeds=range(3), arms=["baseline"])
    steps, evaluations, replicates = (
        sorted((run / table).glob("arm=*/*.parquet"))
        for table in ("steps", "evaluations", "replicates")
    )
    requests.clear()
    assert damaged(run) == {}
    fetched = [key for method, key in requests if method == "get_object"]
    assert len(fetched) == 3
    assert all("/replicates/" in key for key in fetched)
    assert len(requests) - len(fetched) < 16  # listings, however many blocks there are
    remove(steps[0])
    put(evaluations[1], evaluations[1].read_bytes()[:-1])
    put(replicates[2], replicates[2].read_bytes()[:-20])
    found = damaged(run)
    problems = {path: problem for one in found.values() for path, problem in one.items()}
    assert set(problems) == {steps[0], evaluations[1], replicates[2]}
    assert problems[steps[0]] == "it is missing"
    assert problems[evaluations[1]] == "its content differs from what was written"


def test_columns_and_arms_are_selected_at_the_store(
    bucket: str, requests: list[tuple[str, str]]
) -> None:
    run = write_run(locate(bucket), seeds=range(4))
    requests.clear()
    tables.read_table(run, "steps", columns=["seed", "drive"], arms=["baseline"])
    fetched = [key for method, key in requests if method == "get_object"]
    assert all("/steps/arm=baseline/" in key for key in fetched)
    assert len(fetched) <= 2 * 4


def fails(place: str, cwd: Path, **changes: str) -> tuple[str, float]:
    """What `status` of `place` says in this environment, and after how many seconds."""
    from s3fs import S3FileSystem

    environment = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")} | changes
    start = time.monotonic()
    S3FileSystem.clear_instance_cache()  # those that it holds have read another environment
    with mock.patch.dict(
        os.environ, {**environment, "AWS_EC2_METADATA_DISABLED": "true"}, clear=True
    ):
        done = sublim("status", place, cwd=cwd)
    S3FileSystem.clear_instance_cache()
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "remedy: " in done.stderr
    return done.stderr, time.monotonic() - start


@pytest.mark.end_to_end
def test_what_cannot_be_reached_is_reported(s3_server: str, tmp_path: Path) -> None:
    keys = {"AWS_ACCESS_KEY_ID": "test-key", "AWS_SECRET_ACCESS_KEY": "test-secret"}
    missing, _ = fails("s3://no-such-bucket/x", tmp_path, AWS_ENDPOINT_URL=s3_server, **keys)
    assert "there is no no-such-bucket" in missing
    anonymous, _ = fails("s3://any/x", tmp_path, AWS_ENDPOINT_URL=s3_server, HOME="/nonexistent")
    assert "credentials" in anonymous
    nobody, seconds = fails("s3://any/x", tmp_path, AWS_ENDPOINT_URL="http://127.0.0.1:9", **keys)
    assert "127.0.0.1:9" in nobody
    assert seconds < 30


def test_a_prefix_that_is_no_run_is_reported(bucket: str) -> None:
    with pytest.raises(RunError, match="not a run directory"):
        read_manifest(locate(f"{bucket}/nothing"))


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("nosuch://a/b", "nosuch"),
        ("s3://key:hunter2@bucket/x", "environment"),
        ("s3://key:a/hunter2@bucket/x", "environment"),
        ("s3://[bad/x", "not allowed"),
    ],
)
def test_a_wrong_address_is_refused(place: str, said: str) -> None:
    with pytest.raises((RequestError, RunError), match=said) as refused:
        locate(place)
    assert "hunter2" not in str(refused.value)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "upath", None)
    with pytest.raises(RequestError, match=r"sublim-causal\[remote\]"):
        locate("s3://bucket/x")


def test_what_cannot_be_written_is_reported(bucket: str) -> None:
    nowhere = locate(bucket) / "run"
    other = nowhere.with_segments(bucket.replace("bucket-", "no-bucket-"), "run")
    with pytest.raises(StorageError, match="bucket does not exist"):
        tables.write_block(other, "0000000-0000000", "plain", block_of(0))
    put(nowhere, b"1", create=True)
    with pytest.raises(FileExistsError):
        put(nowhere, b"2", create=True)
    assert nowhere.read_bytes() == b"1"


def test_a_path_that_is_none_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(RequestError, match="a path without a loop of links"):
        locate(tmp_path / "loop" / "run")
    with pytest.raises(RequestError, match=r"xff.* is not allowed\nallowed: a path in UTF-8"):
        locate(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(RequestError, match="the working directory has been deleted"):
        locate("run")
