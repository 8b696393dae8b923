"""The lock of a run in an object store."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from sublim_causal.errors import RunError
from sublim_causal.location import locate, put
from sublim_causal.store import lease
from sublim_causal.store.lease import leased
from sublim_causal.store.lock import locked

pytestmark = pytest.mark.end_to_end


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background shell ignores it
    monkeypatch.setattr(lease, "RENEW_SECONDS", 0.1)
    monkeypatch.setattr(lease, "STALE_SECONDS", 2.0)
    monkeypatch.setattr(lease, "SETTLE_SECONDS", 0.2)


@pytest.fixture
def run(bucket: str) -> Path:
    return locate(f"{bucket}/run")


def claimed(lock: Path, **changes: object) -> None:
    """Write the lock of another process, which was renewed just now."""
    claim = {"host": "far", "pid": 7, "machine": "", "token": "theirs", "renewed": time.time()}
    put(lock, json.dumps(claim | changes).encode())


def wait() -> None:
    for _ in range(100):
        time.sleep(0.1)


def test_a_second_runner_is_refused_until_the_first_has_ended(run: Path) -> None:
    with locked(run):
        time.sleep(2.5)  # longer than an unrenewed lock lasts
        with pytest.raises(RunError, match=f"in use by process {os.getpid()} on host"), locked(run):
            pass
    with locked(run):
        assert (run / ".lock").exists()
    assert not (run / ".lock").exists()


def test_a_living_process_elsewhere_is_named(run: Path) -> None:
    claimed(run / ".lock")
    with pytest.raises(RunError, match="process 7 on host far"), locked(run):
        pass
    assert json.loads((run / ".lock").read_bytes())["token"] == "theirs"


@pytest.mark.parametrize("content", [{"renewed": 0.0}, None])
def test_a_stale_or_damaged_lock_is_taken_over(run: Path, content: dict[str, object]) -> None:
    if content is None:
        put(run / ".lock", b"{")
    else:
        claimed(run / ".lock", **content)
    with locked(run):
        assert json.loads((run / ".lock").read_bytes())["pid"] == os.getpid()


def test_the_lock_of_a_killed_process_of_this_machine_is_taken_over_at_once(run: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    claimed(run / ".lock", pid=ended.pid, machine=lease._machine())
    with locked(run):
        assert json.loads((run / ".lock").read_bytes())["pid"] == os.getpid()


def test_a_stale_lock_taken_twice_at_once_has_one_holder(run: Path) -> None:
    claimed(run / ".lock", renewed=0.0)
    start, outcomes = threading.Barrier(2), []

    def take() -> None:
        start.wait()
        try:
            with leased(run / ".lock"):
                outcomes.append("held")
                time.sleep(1)
        except RunError:
            outcomes.append("refused")

    threads = [threading.Thread(target=take) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["held", "refused"]


def test_a_holder_that_was_taken_over_stops_and_leaves_the_lock(run: Path) -> None:
    def hold() -> None:
        with locked(run):
            claimed(run / ".lock")
            wait()

    with pytest.raises(KeyboardInterrupt):
        hold()
    assert json.loads((run / ".lock").read_bytes())["token"] == "theirs"


def test_a_holder_that_ends_in_order_learns_who_took_over(run: Path) -> None:
    def stop_when_interrupted() -> None:
        claimed(run / ".lock")
        with pytest.raises(KeyboardInterrupt):
            wait()

    with pytest.raises(RunError, match="process 7 on host far"), locked(run):
        stop_when_interrupted()
