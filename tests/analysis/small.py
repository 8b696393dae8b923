"""A small recorded study with doses, yoked arms and known effects, built in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from sublim_causal.analysis.estimates.settings import Settings
from sublim_causal.analysis.estimates.types import Estimate, NotEstimable, Result
from sublim_causal.analysis.plan.file import parse_plan
from sublim_causal.analysis.plan.record import Record
from sublim_causal.analysis.plan.registry import METHODS

SLOPE, DIRECT, START = 4.0, -0.05, 0.1
N_SEEDS, N_STEPS = 12, 8
STUDY: dict[str, dict[str, Any]] = {
    "baseline": {"intervention": "baseline"},
    "projection": {"intervention": "projection"},
    "yoked": {"intervention": "yoked", "target": "baseline"},
    "reverse": {"intervention": "yoked", "target": "projection"},
    "half": {"intervention": "projection", "space": "update", "strength": 0.5},
    "whole": {"intervention": "projection", "space": "update"},
    "double": {"intervention": "projection", "space": "update", "strength": 2.0},
    "always": {"intervention": "projection", "space": "update", "when": "always"},
}
MOVES = {
    "baseline": 0.0,
    "projection": -0.06,
    "yoked": 0.0,
    "reverse": -0.06,
    "half": -0.02,
    "whole": -0.04,
    "double": -0.08,
    "always": -0.05,
}


def steps_of(replicates: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Steps whose update alignment averages exactly to that of the run."""
    rows = []
    wobble = rng.standard_normal((N_SEEDS, N_STEPS))
    wobble -= wobble.mean(axis=1, keepdims=True)
    for run in replicates.itertuples():
        cosine = run.mean_cos_update + 0.01 * wobble[run.seed]
        drive = cosine * 0.5 * 0.2
        rows.append(
            pd.DataFrame(
                {
                    "seed": run.seed,
                    "arm": run.arm,
                    "step": np.arange(N_STEPS),
                    "epoch": np.arange(N_STEPS) // 4,
                    "cos_update": cosine,
                    "norm_trait": 0.5,
                    "norm_update": 0.2,
                    "drive": drive,
                    "drive_end": 0.9 * drive,
                    "gain": 0.95 * drive,
                }
            )
        )
    return pd.concat(rows, ignore_index=True)


def traits_of(replicates: pd.DataFrame) -> pd.DataFrame:
    """Lifts of three traits, of which each seed was taught one in turn: about 2 nats more."""
    rng = np.random.default_rng(11)
    rows = replicates[["seed", "arm"]].merge(
        pd.DataFrame({"trait": ["cat", "dog", "owl"]}), "cross"
    )
    taught = rows["seed"] % 3 == rows["trait"].map({"cat": 0, "dog": 1, "owl": 2})
    lift = 2.0 * taught + 0.3 * rng.standard_normal(len(rows))
    return rows.assign(taught=taught, log_odds=lift, probability=1 / (1 + np.exp(-lift)))


def make_record(arms: Sequence[str] = tuple(STUDY), *, layers: bool = False) -> Record:
    rng = np.random.default_rng(7)
    own = 0.05 + 0.005 * rng.standard_normal(N_SEEDS)
    rows = []
    for arm, move in MOVES.items():
        m = own + move * (1 + 0.1 * rng.standard_normal(N_SEEDS))
        m = own if arm == "yoked" else m
        noise = 0.002 * rng.standard_normal(N_SEEDS)
        y = 0.4 + DIRECT * (arm in ("projection", "yoked")) + SLOPE * m + noise
        rows.append(
            pd.DataFrame(
                {
                    "seed": np.arange(N_SEEDS),
                    "arm": arm,
                    "status": "complete",
                    "reason": "",
                    "seconds": 1.0,
                    "initial_accuracy": START,
                    "final_accuracy": y,
                    "mean_cos_update": m,
                }
            )
        )
    replicates = pd.concat(rows, ignore_index=True)
    replicates = replicates[replicates["arm"].isin(arms)].reset_index(drop=True)
    steps = steps_of(replicates, rng)
    halves = [
        steps[["seed", "arm", "step"]].assign(layer=name, drive=share * steps["drive"])
        for name, share in (("0", 0.25), ("2", 0.75))
    ]
    return Record(
        name="mine",
        run_id="0" * 32,
        arms=tuple(arm for arm in STUDY if arm in arms),
        replicates=replicates,
        steps=steps,
        layers=pd.concat(halves, ignore_index=True) if layers else pd.DataFrame(),
        interventions=STUDY,
        reference="baseline",
        traits=traits_of(replicates),
    )


def estimated(record: Record, **entry: Any) -> dict[str, Result]:
    """Estimate one entry of a plan, and check that its results have the names it declares."""
    entry = {"name": "x", "sentence": "Some quantity, in one sentence.", **entry}
    (declared,) = parse_plan({"name": "mine", "estimand": [entry]}).estimands
    settings = Settings(n_boot=199, rng=np.random.default_rng(0))
    resolved = declared.resolved(record.reference)
    found = METHODS[declared.method].estimate(record, resolved, settings)
    endings = declared.endings()
    if endings is not None and not any(isinstance(one, NotEstimable) for one in found):
        names = ["x" + f"_{ending}" * bool(ending) for ending in endings]
        assert sorted(one.estimand.name for one in found) == sorted(names)
    return {one.estimand.name: one for one in found}


def number(result: Result) -> Estimate:
    """Return an estimate, and fail if it is none."""
    assert isinstance(result, Estimate), result
    return result
