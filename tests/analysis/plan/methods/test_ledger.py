"""Shares and differences of the ledger, by arm, epoch and layer."""

from __future__ import annotations

import pytest

from sublim_causal.analysis.estimates.types import NotEstimable
from sublim_causal.analysis.plan.record import Record
from sublim_causal.analysis.steps.ledger import explained_shares
from sublim_causal.analysis.steps.ledger_split import split_difference
from tests.analysis.small import estimated, make_record, number


def test_shares_by_arm_epoch_and_layer() -> None:
    record = make_record(["baseline", "yoked"], layers=True)
    by_arm = estimated(record, method="explained_share")
    assert list(by_arm) == ["x_baseline", "x_yoked"]
    assert number(by_arm["x_baseline"]).value == pytest.approx(1 / 0.95)
    mid = estimated(record, method="explained_share", term="drive_mid", arm="yoked")
    assert number(mid["x"]).value == pytest.approx(1.0)
    by_epoch = estimated(record, method="explained_share", by="epoch", arm="baseline")
    assert list(by_epoch) == ["x_baseline_0", "x_baseline_1"]
    by_layer = estimated(record, method="explained_share", by="layer", arm="baseline")
    assert number(by_layer["x_baseline_2"]).value == pytest.approx(0.75 / 0.95)
    direct = explained_shares(record.steps)
    assert [number(one).value for one in by_arm.values()] == [number(one).value for one in direct]


def test_without_recorded_layers_the_remedy_is_named(record: Record) -> None:
    lacking = estimated(record, method="explained_share", by="layer")["x"]
    assert isinstance(lacking, NotEstimable)
    assert "layers = true under [measure]" in lacking.reason


def test_the_ledger_difference_adds_up(record: Record) -> None:
    entry = {"method": "ledger_difference", "contrast": "projection - baseline"}
    found = estimated(record, **entry)
    parts = number(found["x_drive"]).value + number(found["x_remainder"]).value
    assert parts == pytest.approx(number(found["x_gain"]).value, rel=1e-12)
    same = number(split_difference(record.steps, "projection").gain)
    assert number(found["x_gain"]).value == same.value
    each = estimated(record, method="ledger_difference", contrast="each - baseline")
    assert number(each["x_gain_projection"]).value == same.value


def test_the_factors_of_the_drive_add_up(record: Record) -> None:
    found = estimated(record, method="drive_factors", contrast="half - baseline")
    parts = [number(found[f"x_{name}"]).value for name in ("cosine", "norm_trait", "norm_update")]
    assert sum(parts) == pytest.approx(number(found["x_drive"]).value, rel=1e-12)
    assert parts[1:] == pytest.approx([0, 0], abs=1e-15)
