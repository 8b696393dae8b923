"""Curves of a block while it trains."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from sublim_causal.store.curves import CURVES, ArmCurves, bin_sums
from sublim_causal.study.worker.blocks import Block
from sublim_causal.study.worker.curves import BlockCurves
from sublim_causal.study.worker.trainer import prepare
from tests.study.worker.test_trainer import job


def test_curves_so_far_are_those_of_the_tables(tmp_path: Path) -> None:
    block = Block((0, 1, 2), ("baseline", "projection"))
    found: list[BlockCurves] = []
    updates: list[ArmCurves] = []

    def after_step() -> None:
        if found:
            updates.append(found[0].update(0.0))

    train = prepare(job(tmp_path, "distillation.batch_size=32", "distillation.epochs=2"))
    train(block, after_step, lambda all_: found.append(BlockCurves(all_)))
    for arm in block.arms:
        recorded = bin_sums(tmp_path, arm, list(block.seeds)).rename_axis(["metric", "step"])
        recorded = recorded[recorded["count"] > 0].sort_index()
        # The last bin of steps and the last evaluation come after the last step.
        steps = recorded.index.get_level_values("step").to_series(index=recorded.index)
        of_steps = recorded.index.isin(CURVES["steps"], level="metric")
        expected = recorded[steps < steps.groupby(of_steps).transform("max")]
        assert len(expected.loc[["test_accuracy"]]) > 1
        pd.testing.assert_frame_equal(
            updates[-1][arm].sort_index(),
            expected,
            check_dtype=False,
            check_index_type=False,
            rtol=1e-6,  # tables hold some columns in single precision
            atol=1e-9,
        )
    begun = [len(one["baseline"]) for one in updates if "baseline" in one]
    assert begun == sorted(begun)
    assert len(set(begun)) > 2
