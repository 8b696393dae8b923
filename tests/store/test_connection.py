"""The store of MLflow beside a run."""

import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from sublim_causal.store import connection as store
from sublim_causal.store.connection import LockedStoreError, PatientClient, _places


def test_a_store_whose_writer_was_killed_is_rolled_back(tmp_path: Path) -> None:
    written, killed = tmp_path / "written.db", tmp_path / "mlflow.db"
    with closing(sqlite3.connect(written)) as connection:
        connection.execute("CREATE TABLE experiments (experiment_id, artifact_location, filler)")
        connection.execute("INSERT INTO experiments VALUES (1, 'kept', '')")
        connection.commit()
        connection.execute("PRAGMA cache_size = 1")
        connection.execute("UPDATE experiments SET artifact_location = 'lost'")
        rows = ((n, "lost", "x" * 4000) for n in range(2, 200))
        connection.executemany("INSERT INTO experiments VALUES (?, ?, ?)", rows)
        shutil.copy(written, killed)
        shutil.copy(f"{written}-journal", f"{killed}-journal")
    assert _places(killed) == ["kept"]


def test_a_locked_store_is_no_damaged_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "CONNECT_SECONDS", 0.1)
    database = tmp_path / "mlflow.db"
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE experiments (experiment_id, artifact_location)")
        connection.execute("BEGIN EXCLUSIVE")
        with pytest.raises(LockedStoreError, match="locked by another process"):
            store.default_tracking_uri(tmp_path / "run")
        connection.execute("ROLLBACK")
    assert store.default_tracking_uri(tmp_path / "run") == f"sqlite:///{database}"


class SlowClient:
    """Takes as long as it is told."""

    def log(self, seconds: float) -> float:
        time.sleep(seconds)
        return seconds


def test_waiting_for_other_processes_adds_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "GRACE_SECONDS", 0.05)
    client = PatientClient(SlowClient(), seconds=0.15)
    assert [client.log(0.0) for _ in range(10)] == [0.0] * 10
    assert client.waited == 0
    client.log(0.15)
    with pytest.raises(TimeoutError, match="locked it for 0 s in total"):
        client.log(0.15)
    client.waited = 0.0
    assert client.log(0.0) == 0


def test_a_new_store_is_there_as_a_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow cannot go on with tables that it has begun to make."""
    from mlflow.store.db import utils

    uri = f"sqlite:///{tmp_path / 'new' / 'mlflow.db'}"

    def stop(engine: Any) -> None:
        with engine.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE _alembic_tmp_datasets (name)")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(utils, "_initialize_tables", stop)
        with pytest.raises(KeyboardInterrupt), store.reaching(uri):
            store.connect(uri)
    assert [*(tmp_path / "new").iterdir()] == []
    with store.reaching(uri):
        assert store.connect(uri).search_experiments()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["mlflow.db"]
