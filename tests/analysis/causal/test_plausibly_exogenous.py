"""The instrumented effect under a direct path of the dose, against the ratio it is made of."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from sublim_causal.analysis.causal.instruments import iv_linear_dose
from sublim_causal.analysis.causal.plausibly_exogenous import plausibly_exogenous
from sublim_causal.analysis.estimates.types import Estimate

DOSES = {"baseline": 0.0, "half": 0.5, "whole": 1.0}
SLOPE, N = 5.0, 16


def runs(direct: float = 0.0, slope: float = SLOPE) -> pd.DataFrame:
    rng = np.random.default_rng(3)
    rows = []
    for arm, dose in DOSES.items():
        cosine = 0.05 - 0.04 * dose + 0.004 * rng.standard_normal(N)
        final = 0.3 + slope * cosine + direct * dose + 0.02 * rng.standard_normal(N)
        rows.append(
            pd.DataFrame(
                {
                    "seed": np.arange(N),
                    "arm": arm,
                    "mean_cos_update": cosine,
                    "final_accuracy": final,
                }
            )
        )
    return pd.concat(rows, ignore_index=True)


def found(frame: pd.DataFrame, direct: float) -> Estimate:
    one = plausibly_exogenous(frame, DOSES, direct=direct)
    assert isinstance(one, Estimate)
    return one


def test_without_a_direct_path_it_is_the_linear_dose_instrument() -> None:
    plain = iv_linear_dose(runs(), DOSES)
    one = found(runs(), 0.0)
    assert isinstance(plain, Estimate)
    assert (one.value, one.low, one.high) == pytest.approx((plain.value, plain.low, plain.high))


def test_the_set_grows_with_the_direct_path_and_holds_the_effect_under_it() -> None:
    frame = runs(direct=0.1)
    assert not found(frame, 0.0).low < SLOPE < found(frame, 0.0).high
    assert found(frame, 0.1).low < SLOPE < found(frame, 0.1).high
    assert found(frame, 0.1).width > found(frame, 0.05).width > found(frame, 0.0).width


def test_the_sign_is_lost_where_the_set_first_holds_zero() -> None:
    frame = runs()
    lost = found(frame, 0.0).diagnostics["sign_lost"]
    assert 0.1 < lost < 0.2  # the dose takes 0.04 * 5 of accuracy, less its error
    assert found(frame, lost * 0.99).low > 0
    assert found(frame, lost * 1.01).low < 0
    assert found(runs(slope=0.0), 0.0).diagnostics["sign_lost"] == 0
