from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sublim_causal.store import curves, tables

MakeRun = Callable[..., Path]


@given(length=st.integers(0, 500), points=st.integers(2, 60))
def test_thinning_keeps_first_and_last_and_spreads_evenly(length: int, points: int) -> None:
    steps = 7 + 3 * np.arange(length)
    kept = curves.thin(steps, points)
    assert len(kept) == min(length, points)
    assert set(kept) <= set(steps)
    if length:
        assert (kept[0], kept[-1]) == (steps[0], steps[-1])
    gaps = np.diff(np.searchsorted(steps, kept))
    # Rounding moves each end of a gap by at most a half.
    assert len(gaps) == 0 or gaps.max() - gaps.min() <= 1


def test_block_curves_are_points_of_the_tables(make_run: MakeRun) -> None:
    run = make_run(seeds=[3], arms=["baseline"], steps=120)
    points = curves.block_curves(run, "baseline", "0000003-0000003")
    assert list(points) == [3]
    table = tables.read_table(run, "steps").set_index("step")["cos_gradient"]
    mirrored = {step: value for name, step, value in points[3] if name == "cos_gradient"}
    assert len(mirrored) == curves.MAX_POINTS
    assert {0, 119} <= set(mirrored)
    assert mirrored == {step: table[step] for step in mirrored}
    assert sum(name == "test_accuracy" for name, _, _ in points[3]) == 6


def test_mean_curves_are_means_over_the_wanted_seeds(make_run: MakeRun) -> None:
    run = make_run(seeds=range(4), arms=["baseline", "projection"], steps=50)
    wanted = tables.read_table(run, "steps", arms=["projection"]).query("seed in [0, 2, 3]")
    expected = wanted.groupby("step")["drive"].mean()
    points = curves.mean_curves(run, "projection", [0, 2, 3])
    drive = {step: value for name, step, value in points if name == "drive"}
    assert len(drive) == curves.MAX_POINTS
    for step, value in drive.items():
        # The same three numbers are summed, perhaps in another order.
        assert value == pytest.approx(expected[step], rel=1e-14)


def test_a_replicate_without_steps_has_no_curves(make_run: MakeRun) -> None:
    run = make_run(seeds=[0], arms=["baseline"])
    failed = tables.read_table(run, "replicates").assign(status="failed", reason="no memory")
    tables.write_block(run, "0000000-0000000", "baseline", {"replicates": failed})
    assert curves.block_curves(run, "baseline", "0000000-0000000") == {}
    assert curves.mean_curves(run, "baseline", []) == []


def test_figures_leave_out_what_is_not_finite() -> None:
    values = pd.Series(dict.fromkeys(curves.FIGURES, np.nan) | {"final_accuracy": 0.5})
    values["final_trait_loss"] = np.inf
    assert curves.figures(values) == [("final_accuracy", 0, 0.5)]


def test_nested_options_become_dotted_names() -> None:
    nested = {
        "a": {"b": 1, "c": {"d": None, "e": {}}},
        "f": [True, "x"],
        "g": [{"h": 1e-3}, {"h": "y"}],
    }
    assert curves.flatten(nested) == {
        "a.b": "1",
        "a.c.d": "null",
        "a.c.e": "{}",
        "f": '[true, "x"]',
        "g.0.h": "0.001",
        "g.1.h": "y",
    }


def test_names_keep_only_what_mlflow_allows() -> None:
    assert curves.metric_name("dose 0.5") == "dose 0.5"
    assert curves.metric_name("a/b=ü%") == "a_2f_b_3d_ü_25_"
    assert curves.metric_name("a+b") != curves.metric_name("a=b")


def test_a_digest_changes_with_a_value_but_not_with_the_order(make_run: MakeRun) -> None:
    rows = tables.read_table(make_run(), "replicates")
    assert curves.digest_of_rows(rows) == curves.digest_of_rows(rows.iloc[::-1])
    changed = rows.assign(final_accuracy=np.nextafter(rows["final_accuracy"], 1))
    assert curves.digest_of_rows(rows) != curves.digest_of_rows(changed)


def test_the_summary_counts_every_status(make_run: MakeRun) -> None:
    rows = tables.read_table(make_run(seeds=range(3)), "replicates")
    rows.loc[(rows["arm"] == "baseline") & (rows["seed"] == 1), "status"] = "diverged"
    table = curves.summary(rows).set_index("arm")
    assert table.loc["baseline", "complete"] == 2
    assert table.loc["baseline", "diverged"] == 1
    assert table.loc["projection", "diverged"] == 0
    complete = rows.query("arm == 'baseline' and status == 'complete'")["final_accuracy"]
    assert table.loc["baseline", "final_accuracy_mean"] == pytest.approx(complete.mean(), rel=1e-14)
    assert table.loc["baseline", "final_accuracy_std"] == pytest.approx(complete.std(), rel=1e-14)
