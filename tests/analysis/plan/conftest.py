"""A small record with doses and yoked arms, and a simulated run with a plan and its results."""

from __future__ import annotations

from pathlib import Path

import pytest

from sublim_causal.analysis.plan.file import Plan, parse_plan
from sublim_causal.analysis.plan.record import Record
from sublim_causal.analysis.plan.results.results import Results
from sublim_causal.analysis.plan.run import analyse
from sublim_causal.analysis.simulation.tables import Truth, simulate, write_run
from tests.analysis.small import make_record


@pytest.fixture(scope="module")
def record() -> Record:
    return make_record()


TRUTH = Truth(n_seeds=10, n_steps=40, steps_per_epoch=10, reliability=0.6, diverged_runs=0.05)


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run of ten seeds, some of which diverged."""
    return write_run(tmp_path_factory.mktemp("runs") / "small", simulate(TRUTH, rng=8))


@pytest.fixture(scope="session")
def plan() -> Plan:
    """Return a plan of six estimands, one of them of an arm that was not run."""
    sentence = "Some quantity, in one sentence."
    effect = {"method": "paired_contrast", "outcome": "final_accuracy"}
    entries = [
        {"name": "effect", "contrast": "each - baseline", "family": "arms", **effect},
        {"name": "absent", "contrast": "yoked - baseline", **effect},
        {
            **effect,
            "name": "same",
            "method": "equivalence",
            "contrast": "shuffled - baseline",
            "margin": 0.5,
        },
        {
            "name": "aligned",
            "method": "seed_summary",
            "outcome": "cos_gradient",
            "summary": "share_positive",
            "window": "early - late",
            "arm": "baseline",
        },
        {"name": "reliability", "method": "reliability"},
        {"name": "slope", "method": "corrected_slope", "outcome": "gain"},
    ]
    return parse_plan(
        {
            "name": "small",
            "families": {"arms": "sign_flip"},
            "estimand": [{"sentence": sentence, **entry} for entry in entries],
        }
    )


@pytest.fixture(scope="session")
def results(run: Path, plan: Plan) -> Results:
    """Return what the plan gives on the run."""
    return analyse(run, plan)
