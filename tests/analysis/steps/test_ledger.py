"""The ledger is an identity, so most tests are exact up to rounding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sublim_causal.analysis.estimates.settings import Settings
from sublim_causal.analysis.estimates.types import Estimate, NotEstimable
from sublim_causal.analysis.steps.ledger import explained_shares, layer_shares, ledger, step_entries
from sublim_causal.analysis.steps.ledger_split import drive_factors, split_difference
from sublim_causal.errors import DataError

GOLDEN = Path(__file__).parents[2] / "golden"
ROUNDING = 1e-12


def golden_steps(name: str) -> pd.DataFrame:
    raw = pd.read_csv(GOLDEN / f"{name}.csv")
    return pd.DataFrame(
        {
            "seed": raw["seed"],
            "arm": "baseline",
            "step": raw["step"],
            "epoch": raw["step"] // 30,
            "drive": -raw["g_dot_u_left"],
            "drive_end": -raw["g_dot_u_right"],
            "gain": raw["loss_before"] - raw["loss_after"],
        }
    )


def steps_table(n_seeds: int = 10, n_steps: int = 20, seed: int = 0) -> pd.DataFrame:
    """Two arms with drive = |g| |u| cos exactly and a small curvature."""
    rng = np.random.default_rng(seed)
    parts = []
    for arm, cosine in (("baseline", 0.05), ("projection", 0.01)):
        n = n_seeds * n_steps
        frame = pd.DataFrame(
            {
                "seed": np.repeat(np.arange(n_seeds), n_steps),
                "arm": arm,
                "step": np.tile(np.arange(n_steps), n_seeds),
                "cos_update": cosine + 0.01 * rng.standard_normal(n),
                "norm_trait": rng.uniform(1, 2, n),
                "norm_update": rng.uniform(0.1, 0.2, n),
            }
        )
        frame["drive"] = frame["cos_update"] * frame["norm_trait"] * frame["norm_update"]
        frame["drive_end"] = 0.9 * frame["drive"]
        frame["gain"] = 0.95 * frame["drive"] + 1e-4 * rng.standard_normal(n)
        parts.append(frame)
    return pd.concat(parts, ignore_index=True)


def values(results: object) -> list[float]:
    return [result.value for result in results]  # type: ignore[attr-defined]


def test_the_trapezoid_explains_a_quadratic_loss_to_rounding() -> None:
    (share,) = explained_shares(golden_steps("accounting_quad"), term="drive_mid")
    # Fifteen digits in the file, 60 steps: rounding of the sums.
    assert share.value == pytest.approx(1.0, abs=1e-12)


def test_the_interval_of_an_exact_share_has_no_visible_width() -> None:
    (share,) = explained_shares(golden_steps("accounting_quad"), term="drive_mid")
    # A covariance of rounding errors: the width is the root of an eps-sized cancellation.
    assert share.high - share.low < 1e-6


def test_the_left_rule_overstates_a_quadratic_loss() -> None:
    (share,) = explained_shares(golden_steps("accounting_quad"))
    assert 1.024 < share.value < 1.040


def test_the_trapezoid_is_close_for_a_log_loss() -> None:
    (share,) = explained_shares(golden_steps("accounting_log"), term="drive_mid")
    assert 0.998 < share.value < 1.0001


def test_the_share_is_a_ratio_of_sums() -> None:
    steps = golden_steps("accounting_log")
    (share,) = explained_shares(steps)
    assert share.value == pytest.approx(steps["drive"].sum() / steps["gain"].sum(), rel=ROUNDING)


def test_four_seeds_carry_a_warning() -> None:
    (share,) = explained_shares(golden_steps("accounting_log"))
    assert any("only 4 seeds" in warning for warning in share.warnings)


def test_drive_and_remainder_shares_add_up_to_one() -> None:
    steps = golden_steps("accounting_log")
    (drive,), (rest,) = explained_shares(steps), explained_shares(steps, term="remainder")
    assert drive.value + rest.value == pytest.approx(1.0, abs=ROUNDING)


def test_epoch_shares_average_to_the_share_of_the_run() -> None:
    steps = golden_steps("accounting_log")
    whole = explained_shares(steps)[0].value
    weights = steps.groupby("epoch")["gain"].sum()
    by_epoch = values(explained_shares(steps, epochs=True))
    assert len(by_epoch) == 2
    assert np.average(by_epoch, weights=weights) == pytest.approx(whole, rel=ROUNDING)


def test_an_arm_without_drop_gets_an_unbounded_set() -> None:
    steps = steps_table()
    steps["gain"] = np.random.default_rng(1).standard_normal(len(steps))
    share = explained_shares(steps)[0]
    assert np.isinf(share.low) or np.isinf(share.high)
    assert any("unbounded" in warning for warning in share.warnings)


def test_entries_satisfy_the_identity_at_every_step() -> None:
    entries = step_entries(steps_table())
    np.testing.assert_allclose(entries["drive"] + entries["remainder"], entries["gain"], atol=1e-15)


def test_the_ledger_sums_by_run_and_arm() -> None:
    steps = steps_table()
    runs, arms = ledger(steps), ledger(steps, ["arm"])
    assert len(runs) == 20
    assert runs["gain"].sum() == pytest.approx(steps["gain"].sum(), rel=ROUNDING)
    assert arms["gain"].sum() == pytest.approx(steps["gain"].sum(), rel=ROUNDING)


def test_a_diverged_run_is_dropped_and_counted_not_summed_short() -> None:
    steps = steps_table()
    steps.loc[3, "gain"] = np.nan
    assert ledger(steps)["gain"].isna().sum() == 1
    share = explained_shares(steps)[0]
    assert (share.n_seeds, share.n_dropped) == (9, 1)


@pytest.mark.parametrize("mid", [False, True])
def test_the_arm_difference_splits_exactly(mid: bool) -> None:
    split = split_difference(steps_table(), "projection", mid=mid)
    assert split.drive.value + split.remainder.value == pytest.approx(split.gain.value, abs=1e-14)


def test_the_difference_is_the_paired_t() -> None:
    steps = steps_table()
    gain = split_difference(steps, "projection", settings=Settings(interval="t")).gain
    wide = ledger(steps).pivot(index="seed", columns="arm", values="gain")
    d = wide["projection"] - wide["baseline"]
    assert gain.value == pytest.approx(d.mean(), rel=ROUNDING)
    assert gain.se == pytest.approx(d.std() / np.sqrt(len(d)), rel=1e-10)


def test_factors_add_up_to_the_difference_of_the_drive() -> None:
    factors = drive_factors(steps_table(), "projection")
    total = factors.cosine.value + factors.norm_trait.value + factors.norm_update.value
    assert total == pytest.approx(factors.drive.value, abs=1e-13)


def test_only_the_factor_that_differs_contributes() -> None:
    steps = steps_table()
    base = steps.loc[steps["arm"] == "baseline"]
    other = base.assign(arm="projection", cos_update=0.2 * base["cos_update"])
    factors = drive_factors(pd.concat([base, other], ignore_index=True), "projection")
    assert factors.norm_trait.value == 0.0
    assert factors.norm_update.value == 0.0
    assert factors.cosine.value == pytest.approx(-0.8 * base["drive"].sum() / 10, rel=1e-12)


def test_factors_leave_a_broken_seed_out() -> None:
    steps = steps_table()
    steps.loc[0, "cos_update"] = np.nan
    drive = drive_factors(steps, "projection").drive
    assert (drive.n_seeds, drive.n_dropped) == (9, 1)


def layer_table(steps: pd.DataFrame) -> pd.DataFrame:
    parts = [
        steps[["seed", "arm", "step"]].assign(layer=layer, drive=share * steps["drive"])
        for layer, share in (("hidden", 0.7), ("head", 0.3))
    ]
    return pd.concat(parts, ignore_index=True)


def test_layer_shares_add_up_to_the_share_of_the_drive() -> None:
    steps = steps_table()
    shares = layer_shares(layer_table(steps), steps)
    by_arm = explained_shares(steps)
    assert len(shares) == 4
    baseline = [s.value for s in shares if "baseline" in s.estimand.name]
    assert sum(baseline) == pytest.approx(by_arm[0].value, rel=ROUNDING)


def test_a_thinned_table_of_layers_is_refused() -> None:
    steps = steps_table()
    thinned = layer_table(steps).loc[lambda table: table["step"] % 5 == 0]
    with pytest.raises(DataError, match="record the layers at every step"):
        layer_shares(thinned, steps)


def test_two_seeds_estimate_nothing() -> None:
    assert isinstance(explained_shares(steps_table(n_seeds=2))[0], NotEstimable)


def test_a_missing_column_is_named() -> None:
    with pytest.raises(DataError, match="drive_end"):
        ledger(steps_table().drop(columns="drive_end"))


def test_an_unknown_arm_is_named() -> None:
    with pytest.raises(DataError, match="'yoked'"):
        split_difference(steps_table(), "yoked")


def test_results_are_estimates_with_a_line() -> None:
    share = explained_shares(steps_table())[0]
    assert isinstance(share, Estimate)
    assert "share_drive_baseline" in share.summary()
