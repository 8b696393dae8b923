"""The mirror of a run: its deadline, its end, and two mirrors at once."""

from __future__ import annotations

import json
import socket
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from sublim_causal.errors import RunError
from sublim_causal.store import connection as store
from sublim_causal.store.connection import TrackingError
from sublim_causal.store.lock import mirroring
from sublim_causal.store.manifest import read_manifest
from sublim_causal.study.running.mirroring import BackgroundMirror, is_mirroring, sync_in_time
from tests.study.commands import TINY, command, environment, sublim

pytestmark = pytest.mark.end_to_end

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n"


@contextmanager
def dripping_server() -> Iterator[str]:
    """Answer every request with a byte now and then."""
    over = threading.Event()

    def drip(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.sendall(ANSWER)
            while not over.wait(0.2):
                connection.sendall(b" ")

    def serve() -> None:
        with suppress(OSError):
            while not over.is_set():
                threading.Thread(target=drip, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            over.set()
            listener.shutdown(socket.SHUT_RDWR)


def wait_for_mirror() -> None:
    """Wait until no thread waits for a server any more."""
    deadline = time.monotonic() + 30
    while is_mirroring():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.fixture(scope="module")
def cwd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a complete run of two arms and seeds and its mirror, without a report."""
    cwd = tmp_path_factory.mktemp("mirrored")
    done = sublim("run", *TINY, "--seeds", "2", "--arms", "baseline,liminal", cwd=cwd)
    assert done.returncode == 0, done.stderr
    return cwd


def test_the_mirror_of_a_complete_run_is_finished_without_a_report(cwd: Path) -> None:
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{cwd / 'runs' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("quickstart")
    (study,) = client.search_runs(
        [experiment.experiment_id], filter_string="tags.`sublim.kind` = 'study'"
    )
    assert study.info.status == "FINISHED"


def test_the_time_at_which_a_run_was_finished_stays(cwd: Path) -> None:
    manifest = cwd / "runs" / "quickstart" / "manifest.json"
    before = manifest.read_bytes()
    assert json.loads(before)["finished"] is not None
    options = (*TINY, "--seeds", "2", "--arms", "baseline,liminal")
    time.sleep(1)
    assert sublim("run", *options, cwd=cwd).returncode == 0
    assert manifest.read_bytes() == before


def test_a_second_mirror_at_once_is_refused(cwd: Path) -> None:
    run = cwd / "runs" / "quickstart"
    with mirroring(run):
        refused = sublim("sync", run, cwd=cwd)
        assert refused.returncode == 2
        assert "in use by process" in refused.stderr
        with BackgroundMirror(run, f"sqlite:///{cwd / 'other.db'}", replicates=True) as mirror:
            pass
    assert "in use by process" in mirror.error
    with mirroring(run), pytest.raises(RunError), mirroring(run):
        pass


def test_a_server_that_drips_delays_the_end_by_the_deadline(cwd: Path) -> None:
    with dripping_server() as uri:
        start = time.monotonic()
        run = cwd / "runs" / "quickstart"
        with BackgroundMirror(run, uri, replicates=True, seconds=1.0) as mirror:
            time.sleep(0.5)
        assert time.monotonic() - start < 5
        assert "took too long" in mirror.error
        assert mirror.seconds == 0
    wait_for_mirror()


def test_sync_gives_up_on_a_server_that_drips(cwd: Path) -> None:
    with dripping_server() as uri:
        start = time.monotonic()
        with pytest.raises(TrackingError, match="accepted nothing for 1 s"):
            sync_in_time(
                cwd / "runs" / "quickstart",
                uri,
                replicates=None,
                progress=lambda done, total: None,
                seconds=1.0,
            )
        assert time.monotonic() - start < 5
    wait_for_mirror()


def test_sync_takes_its_time_with_a_file(cwd: Path) -> None:
    calls: list[tuple[int, int]] = []
    result = sync_in_time(
        cwd / "runs" / "quickstart",
        f"sqlite:///{cwd / 'slow.db'}",
        replicates=True,
        progress=lambda done, total: calls.append((done, total)),
        seconds=1e-3,
    )
    assert result.written == 4
    assert calls[-1] == (4, 4)
    assert not is_mirroring()


def test_a_run_goes_on_without_a_store_that_is_locked(
    cwd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "CONNECT_SECONDS", 0.1)
    with closing(sqlite3.connect(cwd / "runs" / "mlflow.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        done = sublim("run", *TINY, "--seeds", "2", "--arms", "baseline,liminal", cwd=cwd)
        refused = sublim("sync", "runs/quickstart", cwd=cwd)
    assert done.returncode == 0, done.stderr
    assert "No MLflow mirror: " in done.stderr
    assert "locked by another process" in done.stderr
    assert refused.returncode == 2
    assert "remedy: wait for it, or end it" in refused.stderr


@pytest.mark.slow
def test_a_run_ends_although_its_server_drips(tmp_path: Path) -> None:
    with dripping_server() as uri:
        start = time.monotonic()
        done = subprocess.run(
            command("run", *TINY, "--seeds", "1", "--tracking-uri", uri),
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=150,
        )
        took = time.monotonic() - start
    assert done.returncode == 0, done.stderr
    assert "took too long" in done.stderr
    assert "sublim-causal sync" in done.stderr
    assert took < 100
    assert read_manifest(tmp_path / "runs" / "quickstart")["finished"] is not None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--tracking-uri", "sqlit:///x.db"], "did you mean 'sqlite'"),
        (["--tracking-uri", "http://127.0.0.1:1"], "cannot be used"),
        (["--tracking-uri", "http://"], "name the host"),
        (["--tracking-uri", "sqlite:///text"], "cannot be used"),
        (["--device", "tpu"], "auto, cpu or cuda"),
        (["--set", "data.name=mnist", "--data-dir", "none"], "none"),
    ],
)
def test_a_dry_run_finds_what_is_wrong(options: list[str], message: str, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no database")
    refused = sublim("run", "--dry-run", *options, cwd=tmp_path)
    assert refused.returncode == 2, refused.stdout
    assert message in refused.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["text"]
