"""Verdicts keep their error rates in worlds of known truth, as far as a few studies can tell."""

from __future__ import annotations

import pytest
from scipy import stats

from sublim_causal.analysis.simulation.claim_worlds import (
    CAUSES,
    CLAIMS,
    LIMINAL,
    PERSISTS,
    WORLDS,
    World,
)
from sublim_causal.analysis.simulation.claims import Rates, claims_section, study_world

N_SIM = 6
BY_TITLE = {world.title: world for world in WORLDS}


def rates_of(title: str, n_seeds: int = 16) -> dict[str, Rates]:
    return {one.claim: one for one in study_world(BY_TITLE[title], n_seeds, N_SIM, seed=1)}


def at_most(share: float, limit: float) -> bool:
    """Whether so many of the studies are not too many for a rate of `limit`."""
    count = round(share * N_SIM)
    return bool(stats.binomtest(count, N_SIM, limit, alternative="greater").pvalue > 1e-3)


@pytest.mark.parametrize(
    "title",
    [
        "alignment is a by-product",
        pytest.param("40 % of the transfer takes another path", marks=pytest.mark.slow),
        pytest.param("40 % of projection's effect is direct", marks=pytest.mark.slow),
    ],
)
def test_a_false_cause_is_not_supported(title: str) -> None:
    found = rates_of(title, n_seeds=8)[CAUSES]
    assert not found.true
    assert at_most(found.shares["supported"], 0.05)
    assert at_most(found.shares["partly supported"], 0.1)


def test_what_is_true_is_supported_with_sixteen_seeds() -> None:
    for title in ("true, sizes of MNIST", "true and linear, floor at chance"):
        for found in rates_of(title).values():
            count = round(found.shares["supported"] * N_SIM)
            assert stats.binomtest(count, N_SIM, 0.8, alternative="less").pvalue > 1e-3, found


def test_alignment_that_ends_does_not_persist_and_no_effect_does_not_attenuate() -> None:
    assert at_most(
        rates_of("alignment gone after the second epoch")[PERSISTS].shares["supported"], 0.05
    )
    found = rates_of("nothing matters", n_seeds=8)[LIMINAL]
    assert at_most(found.shares["supported"], 0.05)
    assert at_most(found.shares["partly supported"], 0.1)


def test_seeds_that_collapse_unseen_are_allowed_for() -> None:
    title = "a tenth of the seeds collapses: liminal keeps half on average"
    assert at_most(rates_of(title, n_seeds=8)[LIMINAL].shares["supported"], 0.05)


def test_the_paper_s_arms_alone_leave_the_cause_undetermined() -> None:
    found = rates_of("true, the paper's four arms only")[CAUSES]
    assert found.shares["undetermined"] == 1


def test_the_section_marks_what_misses_its_goal() -> None:
    def rates(claim: str, true: bool, supported: float) -> Rates:
        shares = {"supported": supported, "partly supported": 0.0}
        rest = {"undetermined": 1 - supported, "not supported": 0.0}
        return Rates("a world", claim, 16, 100, true, true, {**shares, **rest})  # type: ignore[dict-item]

    text = "\n".join(claims_section([rates(name, name == CAUSES, 0.3) for name in CLAIMS]))
    assert "| a world | true | **30 / 0 / 70 / 0** |" in text
    assert "| a world | false | **30 / 0 / 70 / 0** |" in text
    assert "100 simulated studies" in text


def test_a_world_names_claims_of_the_plan() -> None:
    for world in WORLDS:
        assert isinstance(world, World)
        assert world.true | world.no_goal <= set(CLAIMS)
        assert set(world.arms) <= set(world.transfer)
