"""Instruments against AER::ivreg, linearmodels, and what a set must contain by definition."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sublim_causal.analysis.causal.anderson_rubin import _pivot, anderson_rubin
from sublim_causal.analysis.causal.doses import validate_doses
from sublim_causal.analysis.causal.fixed_effects import demean
from sublim_causal.analysis.causal.instruments import egger_intercept, iv_linear_dose, wald_by_dose
from sublim_causal.analysis.causal.two_stage import iv_2sls
from sublim_causal.analysis.estimates.panel import paired_panel
from sublim_causal.analysis.estimates.types import Estimate, NotEstimable
from sublim_causal.errors import DataError, RequestError

GOLDEN = Path(__file__).parents[2] / "golden"
COLUMNS: dict[str, Any] = {"treatment": "alignment", "outcome": "gain"}
DOSES = {str(lam): lam for lam in (0.0, 0.25, 0.5, 0.75, 1.0, 1.5)}
REL = 1e-8
"""Both sides solve the same linear equations; R prints 15 digits."""


def dose_table() -> pd.DataFrame:
    table = pd.read_csv(GOLDEN / "dose_valid.csv")
    return table.assign(arm=table["lam"].map(str))


def simulated(
    *,
    n_seeds: int = 16,
    effect: float = 30.0,
    direct: float = 0.0,
    quadratic: float = 0.0,
    strength: float = 0.1,
    seed: int = 0,
) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    lam = np.array(list(DOSES.values()))
    common = rng.standard_normal((n_seeds, len(lam)))
    m = 0.1 - strength * lam + 0.01 * rng.standard_normal((n_seeds, 1)) + 0.01 * common
    noise = 0.5 * common + 0.5 * rng.standard_normal((n_seeds, len(lam)))
    y = 5 + effect * m + direct * (lam > 0) + quadratic * lam**2 + noise
    return pd.DataFrame(
        {
            "seed": np.repeat(np.arange(n_seeds), len(lam)),
            "arm": np.tile(list(DOSES), n_seeds),
            "alignment": m.ravel(),
            "gain": y.ravel(),
        }
    )


@pytest.fixture(scope="module")
def reference() -> dict[str, Any]:
    return json.loads((GOLDEN / "dose_valid.json").read_text())


INSTRUMENTS = [("doses", "iv_all_doses"), ("linear", "iv_linear_dose")]


@pytest.mark.parametrize(("instruments", "key"), INSTRUMENTS)
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("value", "estimate"),
        ("se_iid", "se"),
        ("se_cr0", "se_cluster_hc0"),
        ("se_cr1s", "se_cluster_hc1"),
        ("first_stage_f", "weak_F"),
        ("wu_hausman", "wu_hausman"),
        ("wu_hausman_p", "wu_hausman_p"),
    ],
)
def test_two_stage_agrees_with_ivreg(
    reference: dict[str, Any], instruments: Any, key: str, ours: str, theirs: str
) -> None:
    fit = iv_2sls(dose_table(), DOSES, instruments=instruments, **COLUMNS)
    numbers = {
        **fit.effect.diagnostics,
        "value": fit.effect.value,
        "wu_hausman": fit.endogeneity.statistic,
        "wu_hausman_p": fit.endogeneity.p_value,
    }
    assert numbers[ours] == pytest.approx(reference[key][theirs], rel=REL)


def test_sargan_agrees_with_ivreg(reference: dict[str, Any]) -> None:
    test = iv_2sls(dose_table(), DOSES, **COLUMNS).overidentification
    expected = reference["iv_all_doses"]
    assert test.statistic == pytest.approx(expected["sargan"], rel=REL)
    assert test.p_value == pytest.approx(expected["sargan_p"], rel=REL)
    assert test.df == (expected["sargan_df"],)


def test_first_stage_degrees_of_freedom_count_the_seeds(reference: dict[str, Any]) -> None:
    test = iv_2sls(dose_table(), DOSES, **COLUMNS).first_stage
    expected = reference["iv_all_doses"]
    assert test.df == (expected["weak_df1"], expected["weak_df2"])


def test_one_instrument_has_nothing_to_compare() -> None:
    test = iv_2sls(dose_table(), DOSES, instruments="linear", **COLUMNS).overidentification
    assert test.statistic is None
    assert "one instrument" in test.reason


@pytest.mark.parametrize("name", ["runs_nointer", "runs_inter"])
@pytest.mark.parametrize("ours", ["value", "se_iid", "se_cr0", "se_cr1s", "first_stage_f", "j"])
def test_arms_as_instruments_agree_with_ivreg(name: str, ours: str) -> None:
    expected = json.loads((GOLDEN / f"{name}.json").read_text())["iv_arms"]
    keys = ("estimate", "se", "se_cluster_hc0", "se_cluster_hc1", "weak_F", "sargan")
    theirs = dict(
        zip(("value", "se_iid", "se_cr0", "se_cr1s", "first_stage_f", "j"), keys, strict=True)
    )
    effect = iv_2sls(pd.read_csv(GOLDEN / f"{name}.csv"), instruments="arms", **COLUMNS).effect
    numbers = {**effect.diagnostics, "value": effect.value}
    assert numbers[ours] == pytest.approx(expected[theirs[ours]], rel=REL)


def test_a_rejected_estimate_says_so_in_its_line() -> None:
    table = pd.read_csv(GOLDEN / "runs_inter.csv")
    effect = iv_2sls(table, instruments="arms", **COLUMNS).effect
    assert "OVER-IDENTIFICATION REJECTED" in effect.summary()
    assert any("exclusion is contradicted" in warning for warning in effect.warnings)


def test_the_fieller_estimate_carries_the_verdict_too() -> None:
    bent = simulated(quadratic=4.0)
    assert "OVER-IDENTIFICATION REJECTED" in iv_linear_dose(bent, DOSES, **COLUMNS).summary()
    straight = iv_linear_dose(dose_table(), DOSES, **COLUMNS)
    assert "over-identification not rejected" in straight.summary()


def test_two_stage_agrees_with_linearmodels() -> None:
    from linearmodels.iv import IV2SLS

    table = dose_table()
    rows = table["seed"].to_numpy()
    m, y = (demean(table[c].to_numpy(float), rows) for c in ("alignment", "gain"))
    z = demean(np.asarray(pd.get_dummies(table["lam"], drop_first=True), dtype=float), rows)
    theirs = IV2SLS(y, None, m, z).fit(cov_type="clustered", clusters=rows, debiased=False)
    effect = iv_2sls(table, DOSES, **COLUMNS).effect
    assert effect.value == pytest.approx(theirs.params.item(), rel=1e-9)
    assert effect.diagnostics["se_cr0"] == pytest.approx(theirs.std_errors.item(), rel=1e-9)
    assert effect.diagnostics["j"] == pytest.approx(theirs.sargan.stat, rel=1e-9)


@pytest.mark.parametrize("position", range(5))
@pytest.mark.parametrize("quantity", ["wald", "dM", "dY", "se_dM", "se_dY", "cov_means"])
def test_wald_ratios_agree_with_r(reference: dict[str, Any], position: int, quantity: str) -> None:
    ratio = wald_by_dose(dose_table(), DOSES, **COLUMNS)[position]
    numbers = {
        "wald": ratio.ratio.value,
        "dM": ratio.treatment_change.value,
        "dY": ratio.outcome_change.value,
        "se_dM": ratio.treatment_change.se,
        "se_dY": ratio.outcome_change.se,
        "cov_means": ratio.covariance,
    }
    assert numbers[quantity] == pytest.approx(reference["wald"][position][quantity], rel=REL)


def test_linear_two_stage_and_slope_ratio_are_one_number() -> None:
    linear = iv_2sls(dose_table(), DOSES, instruments="linear", **COLUMNS).effect
    assert iv_linear_dose(dose_table(), DOSES, **COLUMNS).value == pytest.approx(linear.value)


def test_with_one_dose_anderson_rubin_is_fieller() -> None:
    two = {"0.0": 0.0, "1.0": 1.0}
    fieller, exact = (f(dose_table(), two, **COLUMNS) for f in (iv_linear_dose, anderson_rubin))
    assert exact.low == pytest.approx(fieller.low, rel=1e-7)
    assert exact.high == pytest.approx(fieller.high, rel=1e-7)
    assert exact.p_value == pytest.approx(fieller.p_value, rel=1e-9)


def p_values(table: pd.DataFrame, effects: Sequence[float] | np.ndarray) -> np.ndarray:
    """P of the Anderson-Rubin test at each of `effects`."""
    pivot = _pivot(paired_panel(table, [*COLUMNS.values()], validate_doses(DOSES)), **COLUMNS)
    return np.array([pivot.p_value(b) for b in effects])


def test_the_anderson_rubin_set_ends_where_p_is_five_percent() -> None:
    region = anderson_rubin(dose_table(), DOSES, **COLUMNS)
    p_low, p_best, p_high = p_values(dose_table(), [region.low, region.value, region.high])
    assert p_low == pytest.approx(0.05, rel=1e-6)
    assert p_high == pytest.approx(0.05, rel=1e-6)
    assert p_best > 0.9


def test_the_anderson_rubin_set_agrees_with_a_grid_when_doses_are_weak() -> None:
    # Seeds chosen so that bounded, unbounded and whole-line sets occur.
    shapes = set()
    for seed in range(12):
        table = simulated(n_seeds=10, strength=0.004, seed=seed)
        region = anderson_rubin(table, DOSES, **COLUMNS)
        grid = np.concatenate([np.linspace(-2000, 2000, 801), [-1e7, 1e7]])
        inside = p_values(table, grid) > 0.05
        if isinstance(region, NotEstimable):
            assert not inside.any()
            shapes.add("empty")
            continue
        member = [
            any(low <= b <= high for low, high in region.diagnostics["intervals"]) for b in grid
        ]
        assert member == inside.tolist()
        shapes.add(region.diagnostics["shape"])
    assert {"line", "complement"} & shapes


def test_a_weak_dose_gives_an_unbounded_set_that_says_so() -> None:
    estimate = iv_linear_dose(simulated(n_seeds=8, strength=0.0, seed=3), DOSES, **COLUMNS)
    assert np.isinf(estimate.low)
    assert np.isinf(estimate.high)
    assert estimate.diagnostics["shape"] in ("line", "complement")
    assert any("unbounded" in warning for warning in estimate.warnings)


def test_a_weak_first_stage_is_named() -> None:
    effect = iv_2sls(simulated(strength=0.0, seed=3), DOSES, **COLUMNS).effect
    assert any("weak" in warning for warning in effect.warnings)


def test_an_incompatible_study_leaves_no_effect() -> None:
    bent = simulated(n_seeds=40, quadratic=20.0)
    result = anderson_rubin(bent, DOSES, **COLUMNS)
    assert isinstance(result, NotEstimable)
    assert "OVER-IDENTIFICATION REJECTED" in result.reason


def test_alignment_that_no_arm_moves_has_no_effect() -> None:
    still = dose_table().assign(alignment=0.0)
    fit = iv_2sls(still, DOSES, **COLUMNS)
    assert isinstance(fit.effect, NotEstimable)
    assert fit.first_stage.p_value is None
    assert isinstance(iv_linear_dose(still, DOSES, **COLUMNS), NotEstimable)
    assert isinstance(anderson_rubin(still, DOSES, **COLUMNS), NotEstimable)


def test_an_outcome_that_repeats_over_doses_has_no_joint_test() -> None:
    table = dose_table()
    wide = table.pivot(index="seed", columns="arm", values="gain")
    repeated = table["arm"].isin(["1.0", "1.5"])
    table.loc[repeated, "gain"] = wide["1.0"].loc[table.loc[repeated, "seed"]].to_numpy()
    result = anderson_rubin(table, DOSES, **COLUMNS)
    assert isinstance(result, NotEstimable)
    assert "independently" in result.reason


def test_two_seeds_estimate_nothing() -> None:
    table = dose_table().query("seed < 2")
    fit = iv_2sls(table, DOSES, **COLUMNS)
    assert isinstance(fit.effect, NotEstimable)
    assert "2 complete seeds" in fit.overidentification.reason
    assert isinstance(iv_linear_dose(table, DOSES, **COLUMNS), NotEstimable)


def test_too_few_seeds_for_the_doses() -> None:
    result = anderson_rubin(simulated(n_seeds=6), DOSES, **COLUMNS)
    assert isinstance(result, NotEstimable)
    assert "7 are needed" in result.reason


def test_the_intercept_finds_a_constant_direct_effect() -> None:
    result = egger_intercept(simulated(n_seeds=200, direct=-2.0), DOSES, **COLUMNS)
    # Attenuation by noise in dM is below 0.01 of the effect at this strength.
    assert result.low < -2.0 < result.high
    assert result.value == pytest.approx(-2.0, abs=0.3)
    assert result.diagnostics["slope"] == pytest.approx(30.0, abs=3.0)


def test_two_doses_draw_no_line() -> None:
    result = egger_intercept(dose_table(), {"0.0": 0.0, "1.0": 1.0}, **COLUMNS)
    assert isinstance(result, NotEstimable)


def test_missing_runs_are_dropped_and_counted() -> None:
    table = dose_table().drop(index=3)
    estimate = iv_linear_dose(table, DOSES, **COLUMNS)
    assert (estimate.n_seeds, estimate.n_dropped) == (29, 1)
    unbalanced = iv_2sls(table, DOSES, **COLUMNS).effect
    assert (unbalanced.n_seeds, unbalanced.n_dropped) == (30, 0)


def test_unfinished_runs_do_not_enter() -> None:
    table = dose_table().assign(status="complete")
    table.loc[0, "status"] = "diverged"
    assert iv_linear_dose(table, DOSES, **COLUMNS).n_dropped == 1


def test_the_answer_does_not_depend_on_the_order_of_rows() -> None:
    shuffled = dose_table().sample(frac=1, random_state=1)
    first, second = (iv_linear_dose(t, DOSES, **COLUMNS) for t in (dose_table(), shuffled))
    assert isinstance(first, Estimate)
    assert first.value == pytest.approx(second.value, rel=1e-13)


@pytest.mark.parametrize("doses", [{"a": 1.0}, {"a": 1.0, "b": 1.0}, {"a": 0.0, "b": np.inf}])
def test_doses_must_differ_and_be_finite(doses: dict[str, float]) -> None:
    with pytest.raises(RequestError, match="doses"):
        validate_doses(doses)


def test_doses_are_needed_unless_arms_are_the_instruments() -> None:
    with pytest.raises(RequestError, match="doses"):
        iv_2sls(dose_table(), **COLUMNS)


def test_an_arm_that_is_not_there_is_named() -> None:
    with pytest.raises(DataError, match=r"'2\.0'"):
        iv_linear_dose(dose_table(), {**DOSES, "2.0": 2.0}, **COLUMNS)


@pytest.mark.parametrize("column", ["alignment", "gain"])
def test_the_intercept_needs_a_line(column: str) -> None:
    flat = dose_table().assign(**{column: 0.5})
    found = egger_intercept(flat, DOSES, **COLUMNS)
    assert isinstance(found, NotEstimable)
    assert "does not vary over seeds" in found.reason
