from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sublim_causal.analysis.plan import record
from sublim_causal.analysis.plan.record import complete_steps, read_record
from sublim_causal.analysis.simulation.tables import Truth, simulate, write_run
from sublim_causal.store import tables


def test_the_steps_of_complete_replicates_are_kept_in_order() -> None:
    simulated = simulate(Truth(n_seeds=6, n_steps=9, diverged_runs=0.3), rng=3)
    replicates, steps = simulated.tables["replicates"], simulated.tables["steps"]
    assert set(replicates["status"]) == {"complete", "diverged"}
    shuffled = steps.sample(frac=1, random_state=0)
    complete = replicates.loc[replicates["status"] == "complete", ["seed", "arm"]]
    expected = steps.merge(complete).sort_values(["seed", "arm", "step"], ignore_index=True)
    assert 0 < len(expected) < len(steps)
    pd.testing.assert_frame_equal(complete_steps(replicates, shuffled), expected)
    assert complete_steps(replicates.assign(status="failed"), steps).empty


def test_an_analysis_reads_only_the_columns_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = write_run(tmp_path / "run", simulate(Truth(n_seeds=3, n_steps=5)), block_seeds=1)
    asked = {}

    def read(run: Path, table: str, **options: object) -> pd.DataFrame:
        asked[table] = options.get("columns")
        return tables.read_table(run, table, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(record, "read_table", read)
    found = read_record(run, {"gain"})
    assert asked == {"replicates": None, "steps": ["seed", "arm", "gain", "step"]}
    assert set(found.steps) == {"seed", "arm", "step", "gain"}


def test_many_files_are_read_a_few_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = write_run(tmp_path / "run", simulate(Truth(n_seeds=3, n_steps=5)), block_seeds=1)
    at_once = tables.read_table(run, "steps")
    monkeypatch.setattr(tables, "FILES", 5)
    pd.testing.assert_frame_equal(tables.read_table(run, "steps"), at_once)
    assert np.array_equal(np.unique(at_once["seed"]), [0, 1, 2])
