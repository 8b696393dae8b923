"""Mediation and its sensitivity, declared in a plan."""

from __future__ import annotations

import numpy as np
import pytest

from sublim_causal.analysis.causal.mediation import mediate
from sublim_causal.analysis.plan.record import Record
from tests.analysis.small import N_SEEDS, estimated, number


def test_mediation_is_that_of_the_estimator(record: Record) -> None:
    found = estimated(record, method="mediation", contrast="projection - baseline")
    entering = [arm for arm in record.arms if arm not in ("baseline", "yoked", "reverse")]
    same = mediate(record.replicates, arms=entering)[0]
    assert same.arm == "projection"
    for part in ("te", "alpha", "beta", "pnde"):
        assert number(found[f"x_{part}"]).value == number(getattr(same, part)).value
    each = estimated(record, method="mediation", contrast="each - baseline")
    assert number(each["x_alpha_half"]).value == pytest.approx(-0.02, abs=0.002)


def test_the_vanishing_correlation_has_fishers_interval(record: Record) -> None:
    entry = {"method": "mediation_sensitivity", "contrast": "projection - baseline"}
    own = number(estimated(record, **entry)["x"])
    wide = record.replicates.pivot(index="seed", columns="arm")
    change = [
        wide[name]["projection"] - wide[name]["baseline"]
        for name in ("mean_cos_update", "final_accuracy")
    ]
    r = np.corrcoef(*change)[0, 1]
    assert own.value == pytest.approx(r, abs=1e-12)
    half = 1.959963985 / np.sqrt(N_SEEDS - 3)
    assert (own.low, own.high) == pytest.approx(
        (np.tanh(np.arctanh(r) - half), np.tanh(np.arctanh(r) + half))
    )
