"""The simulation page: known truths, the verdicts that follow from them, and the command."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sublim_causal.analysis.simulation import claims, slopes, validity
from sublim_causal.analysis.simulation.doses import (
    DOSES,
    EFFECT,
    ESTIMATORS,
    N_SEEDS,
    WORLDS,
    DoseWorld,
    simulate_world,
    study_world,
    true_values,
)
from sublim_causal.analysis.simulation.validity import main, page, with_claims

BY_TITLE = {world.title: world for world in WORLDS}
QUICK = 40
"""Studies a scenario: Monte Carlo error of a coverage near 95 % is 3.4 points."""
ENOUGH = 33
"""Binomial(40, 0.95) falls below 33 with probability 0.1 %."""


def test_a_study_has_every_arm_for_every_seed() -> None:
    table = simulate_world(WORLDS[0], 5, np.random.default_rng(0))
    assert len(table) == 5 * (len(DOSES) + 1)
    assert not table.duplicated(["seed", "arm"]).any()


def test_without_direct_effect_the_total_is_the_effect_times_the_move() -> None:
    truth = true_values(WORLDS[0])
    # 20,000 seeds: the error of the mean total is 0.01.
    assert truth.total == pytest.approx(-EFFECT * WORLDS[0].strength, abs=0.04)
    assert truth.direct == 0.0


def test_a_direct_effect_adds_to_the_total() -> None:
    truth = true_values(DoseWorld("direct", direct_constant=-1.0, direct_quadratic=0.5))
    assert truth.direct == -0.5
    assert truth.indirect == pytest.approx(-3.0, abs=0.04)


def test_nothing_is_flagged_when_all_assumptions_hold() -> None:
    found = study_world(WORLDS[0], QUICK, seed=7)
    assert len(found) == len(ESTIMATORS)
    assert min(row.coverage for row in found) >= ENOUGH / QUICK
    assert not any("biased" in row.reading() for row in found)


def test_feedback_ruins_run_level_mediation_but_not_the_yoked_split() -> None:
    found = {
        r.estimator: r for r in study_world(BY_TITLE["feedback of gain on alignment"], QUICK, 7)
    }
    assert found["indirect effect, run-level mediation"].reading().startswith("biased")
    assert found["indirect effect, yoked"].coverage >= ENOUGH / QUICK
    assert found["dose as instrument, Fieller"].coverage >= ENOUGH / QUICK


@pytest.mark.slow
def test_a_violated_exclusion_ruins_the_instruments_and_j_warns() -> None:
    found = {
        r.estimator: r for r in study_world(BY_TITLE["exclusion violated, dose squared"], QUICK, 7)
    }
    assert found["dose as instrument, Fieller"].reading() == "biased: do not quote; J warns"
    assert found["indirect effect, yoked"].coverage >= ENOUGH / QUICK


@pytest.mark.slow
def test_a_weak_dose_ruins_2sls_but_not_the_sets() -> None:
    n = 200
    found = {r.estimator: r for r in study_world(BY_TITLE["weak dose, with confounding"], n, 7)}
    # True coverage of 2SLS is about 80 %, so 90 % is three and a half standard errors away.
    assert found["all doses as instruments, 2SLS"].coverage < 0.9
    # Binomial(200, 0.95) falls below 181 with probability 0.3 %.
    assert found["dose as instrument, Fieller"].coverage >= 181 / n
    assert found["dose as instrument, Fieller"].unbounded > 0.1


@pytest.mark.parametrize("n_worlds", [2, pytest.param(None, marks=pytest.mark.slow)])
def test_the_command_writes_the_page(
    n_worlds: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worlds = WORLDS[:n_worlds]
    monkeypatch.setattr(validity, "WORLDS", worlds)
    monkeypatch.setattr(claims, "WORLDS", claims.WORLDS[:n_worlds])
    monkeypatch.setattr(slopes, "SLOPE_WORLDS", slopes.SLOPE_WORLDS[:n_worlds])
    said: list[str] = []
    out = tmp_path / "docs" / "validity.md"
    main(["--out", str(out), "--simulations", "3", "--claim-simulations", "1"], say=said.append)
    text = out.read_text()
    assert said == [str(out)]
    assert text.count("\n## ") == len(worlds) + 3
    assert f"{N_SEEDS} seeds" in text


def test_the_page_is_deterministic_and_its_claims_can_be_made_anew() -> None:
    first, second = (study_world(WORLDS[0], 3, seed=1) for _ in range(2))
    rates = claims.study_world(claims.WORLDS[0], 8, 1, seed=1)
    steps = [slopes.study_slopes(slopes.SLOPE_WORLDS[0], 2, seed=1) for _ in range(2)]
    whole = page(first, rates, steps[0])
    assert whole == page(second, rates, steps[1])
    others = [replace(one, n_seeds=12) for one in rates]
    assert with_claims(whole, others) == page(first, others, steps[0])


def test_a_slope_within_run_and_step_is_free_of_time_and_minibatch() -> None:
    worlds = {world.title: world for world in slopes.SLOPE_WORLDS}
    names = list(slopes.SLOPE_ESTIMATORS)
    for title in ("a shared minibatch", "runs of unequal length"):
        found = {row.estimator: row for row in slopes.study_slopes(worlds[title], 16, seed=5)}
        # Binomial(16, 0.95) falls below 12 with probability 0.1 %.
        assert found[names[2]].coverage >= 12 / 16
        assert found[names[0]].coverage == found[names[1]].coverage == 0
    trend = slopes.study_slopes(worlds["a trend of each arm and run"], 16, seed=5)
    assert [row.coverage >= 12 / 16 for row in trend] == [False, True, True]
