"""The store of MLflow beside a run."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from sublim_causal.store.connection import _places


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
