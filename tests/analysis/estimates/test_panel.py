"""Run-level tables become matrices of complete seeds, and every other seed is accounted for."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from sublim_causal.analysis.estimates.panel import paired_panel
from sublim_causal.errors import DataError


def table() -> pd.DataFrame:
    """Six seeds under three arms; y is 10 seed + place of the arm."""
    rows = [
        {"seed": seed, "arm": arm, "y": 10.0 * seed + k, "status": "complete"}
        for seed in range(6)
        for k, arm in enumerate("abc")
    ]
    return pd.DataFrame(rows)


def changed(seed: int, arm: str, **values: object) -> pd.DataFrame:
    frame = table()
    frame.loc[(frame["seed"] == seed) & (frame["arm"] == arm), [*values]] = [*values.values()]
    return frame


def test_columns_follow_the_arms_asked_for() -> None:
    panel = paired_panel(table().sample(frac=1, random_state=0), ["y"], ["c", "a"])
    assert list(panel.seeds) == [0, 1, 2, 3, 4, 5]
    assert panel.column("y", "c") == pytest.approx(10.0 * panel.seeds + 2)
    assert panel.difference("y", "c", "a") == pytest.approx(np.full(6, 2.0))
    assert panel.changes("y") == pytest.approx(np.full((6, 1), -2.0))
    assert panel.dropped == {}


@pytest.mark.parametrize(
    ("frame", "dropped"),
    [
        (changed(1, "a", status="diverged"), {"a diverged": 1}),
        (changed(1, "b", y=np.nan), {"b without outcome": 1}),
        (table().query("seed != 4 or arm != 'b'"), {"b missing": 1}),
        (table().query("seed != 4 or arm == 'c'"), {"a missing": 1}),
        (changed(1, "c", y=np.nan), {}),
    ],
)
def test_seeds_left_out_are_counted_by_reason(frame: pd.DataFrame, dropped: dict[str, int]) -> None:
    panel = paired_panel(frame, ["y"], ["a", "b"])
    assert panel.dropped == dropped
    assert panel.n_dropped == 6 - len(panel.seeds) == sum(dropped.values())


def test_a_run_that_failed_and_was_repeated_counts_once() -> None:
    failed = changed(2, "a", status="failed", y=np.nan).query("seed == 2 and arm == 'a'")
    panel = paired_panel(pd.concat([failed, table()]), ["y"], ["a", "b"])
    assert (len(panel.seeds), panel.n_dropped) == (6, 0)


def test_a_run_twice_is_refused() -> None:
    with pytest.raises(DataError, match="seed 0 has more than one row under arm 'a'"):
        paired_panel(pd.concat([table(), table()]), ["y"], ["a", "b"])


@pytest.mark.parametrize(("columns", "arms"), [(["z"], ["a", "b"]), (["y"], ["a", "d"])])
def test_an_unknown_column_or_arm_is_named(columns: list[str], arms: list[str]) -> None:
    with pytest.raises(DataError, match=r"no (column 'z'|arm 'd')"):
        paired_panel(table(), columns, arms)
