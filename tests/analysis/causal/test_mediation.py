"""Mediation and its sensitivity against R's lm, mediation and medsens."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from sublim_causal.analysis.causal.mediation import Mediation, mediate
from sublim_causal.analysis.causal.sensitivity import sensitivity
from sublim_causal.analysis.estimates.types import Estimate, NotEstimable, Result
from sublim_causal.errors import DataError, RequestError

GOLDEN = Path(__file__).parents[2] / "golden"
COLUMNS: dict[str, Any] = {"mediator": "alignment", "outcome": "gain"}
ARMS = ("projection", "liminal", "shuffled")
NAMES = ("runs_nointer", "runs_inter")
REL = 1e-8
"""Both sides solve the same linear equations; R prints 15 digits."""


def table(name: str) -> pd.DataFrame:
    return pd.read_csv(GOLDEN / f"{name}.csv")


def reference(name: str, arm: str) -> dict[str, Any]:
    return json.loads((GOLDEN / f"{name}.json").read_text())["mediation"][arm]


def one(name: str, arm: str, **options: Any) -> Mediation:
    return next(m for m in mediate(table(name), **COLUMNS, **options) if m.arm == arm)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("arm", ARMS)
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("alpha", "alpha"),
        ("beta", "beta"),
        ("pnie", "nie"),
        ("tnie", "nie"),
        ("pnde", "nde"),
        ("te", "te"),
        ("proportion_mediated", "prop"),
    ],
)
def test_without_interaction_agrees_with_r(name: str, arm: str, ours: str, theirs: str) -> None:
    estimate = getattr(one(name, arm), ours)
    assert estimate.value == pytest.approx(reference(name, arm)[theirs], rel=REL)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("arm", ARMS)
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [("pnie", "nie0"), ("tnie", "nie1"), ("pnde", "nde0"), ("tnde", "nde1"), ("cde", "cde_at_EM0")],
)
def test_with_interaction_agrees_with_r(name: str, arm: str, ours: str, theirs: str) -> None:
    expected = reference(name, arm)["inter"]
    split = one(name, arm, interaction=True, controlled_at=expected["EM0"])
    assert getattr(split, ours).value == pytest.approx(expected[theirs], rel=REL)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("arm", ARMS)
@pytest.mark.parametrize(
    ("ours", "theirs", "interaction"),
    [("pnie", "acme", False), ("pnie", "acme0", True), ("tnie", "acme1", True)],
)
def test_indirect_effects_are_within_monte_carlo_error_of_mediate(
    name: str, arm: str, ours: str, theirs: str, interaction: bool
) -> None:
    block = reference(name, arm)["mediate_inter_mc" if interaction else "mediate_mc"]
    error = block[f"{theirs}_sd"] / np.sqrt(block["sims"])
    estimate = getattr(one(name, arm, interaction=interaction), ours)
    assert abs(estimate.value - block[theirs]) < 4 * error


@pytest.mark.parametrize("name", NAMES)
def test_beta_has_the_cr2_error_and_df_of_clubsandwich(name: str) -> None:
    beta = one(name, "projection").beta
    expected = json.loads((GOLDEN / f"{name}.json").read_text())["fe_beta_cr2"]
    assert beta.se == pytest.approx(expected["se"], rel=REL)
    assert beta.df == pytest.approx(expected["df"], rel=REL)


@pytest.mark.parametrize("position", range(3))
@pytest.mark.parametrize("name", NAMES)
def test_the_total_has_the_cr2_error_and_df_of_clubsandwich(name: str, position: int) -> None:
    total = one(name, ARMS[position]).te
    expected = json.loads((GOLDEN / f"{name}.json").read_text())["fe_arm_cr2"]
    assert total.se == pytest.approx(expected["se"][position], rel=REL)
    assert total.df == pytest.approx(expected["df"][position], rel=REL)


@pytest.mark.parametrize("interaction", [False, True])
@pytest.mark.parametrize("arm", ARMS)
def test_the_parts_add_up(arm: str, interaction: bool) -> None:
    split = one("runs_inter", arm, interaction=interaction)
    total = split.te.value
    assert split.pnde.value + split.tnie.value == pytest.approx(total, rel=1e-12)
    assert split.tnde.value + split.pnie.value == pytest.approx(total, rel=1e-12)


def test_the_product_interval_is_wider_than_sobel_with_few_df() -> None:
    nie = one("runs_nointer", "projection").pnie
    sobel = 2 * stats.norm.ppf(0.975) * nie.se
    assert nie.high - nie.low > sobel


def test_draws_follow_the_rng_and_are_kept() -> None:
    first, again, other = (one("runs_inter", "liminal", rng=r).pnie for r in (1, 1, 2))
    assert (first.low, first.high) == (again.low, again.high)
    assert first.low != other.low
    # Monte Carlo error of a 2.5 % quantile with 20,000 draws: about 0.02 se.
    assert first.low == pytest.approx(other.low, abs=0.1 * first.se)
    assert len(first.draws) == 20_000


def results(split: Mediation) -> list[Result]:
    return [one for one in vars(split).values() if isinstance(one, Estimate | NotEstimable)]


def test_every_split_number_is_labelled_a_sensitivity_analysis() -> None:
    split = one("runs_inter", "projection", interaction=True)
    by_design = {split.te.estimand.name, split.alpha.estimand.name}
    for result in results(split):
        if result.estimand.name not in by_design:
            assert "sensitivity analysis" in result.summary()
            assert any("feeds back" in warning for warning in result.warnings)


def test_a_constant_mediator_in_an_arm_loses_its_kappa_and_says_so() -> None:
    data = table("runs_inter")
    data.loc[data["arm"] == "projection", "alignment"] = 0.0
    splits = {m.arm: m for m in mediate(data, **COLUMNS, interaction=True)}
    notes = splits["projection"].tnie.warnings
    assert any("kappa taken as 0" in note for note in notes)
    assert splits["projection"].tnie.value == splits["projection"].pnie.value
    assert not any("kappa" in note for note in splits["liminal"].tnie.warnings)


def test_an_arm_that_misses_seeds_is_still_compared() -> None:
    data = table("runs_nointer").drop(index=[1, 5])
    total = next(m for m in mediate(data, **COLUMNS) if m.arm == "projection").te
    assert isinstance(total, Estimate)
    assert total.n_seeds == 30


def test_an_arm_of_two_seeds_is_not_split_and_the_others_are() -> None:
    data = table("runs_nointer")
    first = data["seed"].isin(sorted(data["seed"].unique())[:2])
    few = data[(data["arm"] != "projection") | first]
    by_arm = {split.arm: split for split in mediate(few, **COLUMNS)}
    assert all(isinstance(part, NotEstimable) for part in results(by_arm["projection"]))
    assert "2 complete seeds" in by_arm["projection"].te.reason
    assert isinstance(by_arm["liminal"].te, Estimate)


def test_without_variation_of_alignment_nothing_is_split() -> None:
    data = table("runs_nointer").assign(alignment=0.5)
    split = mediate(data, **COLUMNS)[0]
    assert isinstance(split.pnie, NotEstimable)


@pytest.mark.parametrize("gone", ["all but one", "baseline"])
def test_without_pairs_nothing_is_split_and_the_reason_is_told(gone: str) -> None:
    runs = table("runs_nointer").assign(status="complete")
    lost = runs["arm"] != ARMS[0] if gone == "all but one" else runs["arm"] == "baseline"
    runs.loc[lost, "status"] = "failed"
    for split in mediate(runs, **COLUMNS):
        assert all(isinstance(part, NotEstimable) for part in results(split))
        assert "complete" in split.te.reason


def test_two_seeds_estimate_nothing() -> None:
    data = table("runs_nointer").query("seed < 2")
    assert isinstance(mediate(data, **COLUMNS)[0].te, NotEstimable)


def test_too_few_draws_are_refused() -> None:
    with pytest.raises(RequestError, match="n_draws"):
        mediate(table("runs_nointer"), **COLUMNS, n_draws=10)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("arm", ARMS)
@pytest.mark.parametrize("quantity", ["acme", "se"])
def test_the_sensitivity_curve_agrees_with_medsens(name: str, arm: str, quantity: str) -> None:
    expected = reference(name, arm)["medsens"]
    result = sensitivity(table(name), arm, **COLUMNS, rho=expected["rho"])
    se = (np.array(expected["upper"]) - expected["lower"]) / 2 / stats.norm.ppf(0.975)
    theirs = np.array(expected["acme"]) if quantity == "acme" else se
    ours = result.indirect if quantity == "acme" else result.se
    # medsens iterates until coefficients change by less than 1.5e-8 in sum of squares.
    np.testing.assert_allclose(ours, theirs, atol=1e-5 * np.abs(theirs).max(), rtol=0)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("arm", ARMS)
def test_rho_zero_scale_and_left_variance_agree_with_r(name: str, arm: str) -> None:
    expected = reference(name, arm)
    result = sensitivity(table(name), arm, **COLUMNS)
    assert result.rho_zero == pytest.approx(expected["two_arm"]["rho_tilde"], rel=REL)
    assert result.scale == pytest.approx(expected["two_arm"]["sd_ratio"], rel=REL)
    left = math.prod(1 - expected["medsens"][name] for name in ("r_square_m", "r_square_y"))
    assert result.r2_product_total == pytest.approx(result.rho_zero**2 * left, rel=REL)


@pytest.mark.parametrize("arm", ARMS)
def test_the_r2_thresholds_are_those_of_medsens_at_its_grid_point(arm: str) -> None:
    expected = reference("runs_inter", arm)["medsens"]
    result = sensitivity(table("runs_inter"), arm, **COLUMNS)
    ratio = expected["r2tilde_d_thresh"] / expected["r2star_d_thresh"]
    assert result.r2_product_total / result.r2_product == pytest.approx(ratio, rel=REL)


@pytest.mark.parametrize("rho", [[-1.0], [0.0, 1.0]])
def test_correlations_must_be_inside_the_unit_interval(rho: list[float]) -> None:
    with pytest.raises(RequestError, match="rho"):
        sensitivity(table("runs_nointer"), "liminal", **COLUMNS, rho=rho)


def test_sensitivity_needs_residuals() -> None:
    data = table("runs_nointer").query("seed < 2")
    with pytest.raises(DataError, match="2 complete seeds"):
        sensitivity(data, "liminal", **COLUMNS)
