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


@given(length=st.integers(0, 500), bins=st.integers(2, 60))
def test_bins_hold_equally_many_steps_and_are_shown_at_one_of_them(length: int, bins: int) -> None:
    steps = 7 + 3 * np.arange(length)
    shown = curves.binned(steps, bins)
    places, sizes = np.unique(shown, return_counts=True)
    assert len(shown) == length
    assert len(places) == min(length, bins)
    assert set(places) <= set(steps)
    assert (np.diff(shown) >= 0).all()
    if length:
        assert sizes.max() - sizes.min() <= 1
    for place in places:
        members = steps[shown == place]
        assert members[0] <= place <= members[-1]


def test_block_curves_are_means_over_the_steps_of_a_bin(make_run: MakeRun) -> None:
    run = make_run(seeds=[3], arms=["baseline"], steps=120)
    points = curves.block_curves(run, "baseline", "0000003-0000003")
    assert list(points) == [3]
    table = tables.read_table(run, "steps")
    expected = table.groupby(curves.binned(table["step"].to_numpy()))["cos_gradient"].mean()
    mirrored = {step: value for name, step, value in points[3] if name == "cos_gradient"}
    assert len(mirrored) == curves.MAX_POINTS
    assert mirrored == pytest.approx(dict(expected), rel=1e-14)
    assert sum(name == "test_accuracy" for name, _, _ in points[3]) == 6


def mean_curves(run: Path, arm: str, seeds: list[int]) -> list[curves.Point]:
    return curves.mean_points([curves.bin_sums(run, arm, seeds)])


def test_mean_curves_are_means_over_the_wanted_seeds(make_run: MakeRun) -> None:
    run = make_run(seeds=range(4), arms=["baseline", "projection"], steps=50)
    wanted = tables.read_table(run, "steps", arms=["projection"]).query("seed in [0, 2, 3]")
    shown = dict(zip(range(50), curves.binned(np.arange(50)), strict=True))
    expected = wanted.groupby(wanted["step"].map(shown))["drive"].mean()
    points = mean_curves(run, "projection", [0, 2, 3])
    drive = {step: value for name, step, value in points if name == "drive"}
    assert len(drive) == curves.MAX_POINTS
    # The same numbers are summed, perhaps in another order.
    assert drive == pytest.approx(dict(expected), rel=1e-12)


def test_a_replicate_without_steps_has_no_curves(make_run: MakeRun) -> None:
    run = make_run(seeds=[0], arms=["baseline"])
    failed = tables.read_table(run, "replicates").assign(status="failed", reason="no memory")
    tables.write_block(run, "0000000-0000000", "baseline", {"replicates": failed})
    assert curves.block_curves(run, "baseline", "0000000-0000000") == {}
    assert mean_curves(run, "baseline", []) == []


def test_figures_leave_out_what_is_not_finite() -> None:
    values = pd.Series({"seed": 3, "status": "complete", "sum_gain": np.nan, "final_accuracy": 0.5})
    values["final_trait_loss"] = np.inf
    assert curves.figures(values) == [("final_accuracy", 0, 0.5)]


def test_nested_options_become_dotted_names() -> None:
    nested = {
        "a": {"b": 1, "c": {"d": None, "e": {}}},
        "f": [True, "x"],
        "g": [{"h": 1e-3}, {"h": "y"}],
    }
    assert curves.parameters(nested) == {
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
