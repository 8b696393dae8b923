"""How often the default intervals cover the truth, by simulation.

Run ``python tests/analysis/simulation/coverage_study.py --studies 1000`` for the table; ``--only``
picks estimands, ``--seeds`` sizes of a study. Every study is drawn by
`sublim_causal.analysis.simulation.tables` with known truth.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from sublim_causal.analysis.arms.contrasts import paired_arms
from sublim_causal.analysis.estimates.intervals import mean_interval
from sublim_causal.analysis.estimates.settings import Settings
from sublim_causal.analysis.estimates.types import Estimand, Result
from sublim_causal.analysis.simulation.tables import ArmTruth, Simulated, Truth, simulate
from sublim_causal.analysis.steps.measurement import corrected_slopes
from sublim_causal.analysis.steps.slopes import slope_estimates, slope_model

SEEDS = (8, 16, 30)

SMALL = Truth(n_steps=40, steps_per_epoch=8)
NOISY_ARM = {
    "baseline": ArmTruth(noise=0.5),
    "projection": ArmTruth(alignment=-0.06, accuracy=-0.35, noise=2.0),
    "shuffled": ArmTruth(noise=0.5),
}
SYMMETRIC = {
    "normal": SMALL,
    "unequal arm noise": replace(SMALL, arms=NOISY_ARM),
    "AR noise": replace(SMALL, ar_gain=0.4, ar_alignment=0.4),
    "missing": replace(SMALL, missing_steps=0.08, missing_runs=0.05),
    "no slope variance": replace(SMALL, slope_sd=0.0),
    "noisy alignment": replace(SMALL, reliability=0.5),
}
SKEWED = {
    "skewed": replace(SMALL, skewed=True, slope_sd=0.04),
    "skewed, unequal, AR": replace(SMALL, skewed=True, slope_sd=0.04, arms=NOISY_ARM, ar_gain=0.4),
}
SCENARIOS = SYMMETRIC | SKEWED


CHUNK = 50
"""Studies drawn together: seeds are independent, so a large study is cut into small ones."""


@dataclass(frozen=True)
class Target:
    """An estimand: the default estimates of studies cut from one, and its truth."""

    estimates: Callable[[Simulated, int], Iterator[Result]]
    truth: Callable[[Truth], float]
    scenarios: tuple[str, ...]
    n_steps: int = SMALL.n_steps


def _cut(table: pd.DataFrame, n_seeds: int) -> Iterator[pd.DataFrame]:
    for _, part in table.groupby(table["seed"] // n_seeds):
        yield part.reset_index(drop=True)


def _differences(level: float, arm: str) -> Callable[[Simulated, int], Iterator[Result]]:
    def estimates(simulated: Simulated, n_seeds: int) -> Iterator[Result]:
        panel = paired_arms(simulated.tables["replicates"], "final_accuracy", arm)
        d = panel.difference("final_accuracy", arm, "baseline")
        cuts = np.flatnonzero(np.diff(panel.seeds // n_seeds)) + 1
        for part in np.split(d, cuts):
            yield mean_interval(part, settings=Settings(level))

    return estimates


def _slopes(simulated: Simulated, n_seeds: int) -> Iterator[Result]:
    for steps in _cut(simulated.tables["steps"], n_seeds):
        model = slope_model(steps, "gain", "cos_gradient", "pooled")
        yield slope_estimates(model, {"": Estimand("slope", "The pooled slope.")})[""]


def _corrected(simulated: Simulated, n_seeds: int) -> Iterator[Result]:
    for steps in _cut(simulated.tables["steps"], n_seeds):
        yield corrected_slopes(steps, "gain").corrected


TARGETS = {
    "arm contrast": Target(
        _differences(0.95, "projection"),
        lambda truth: truth.arms["projection"].accuracy - truth.arms["baseline"].accuracy,
        ("normal", "unequal arm noise", "missing", *SKEWED),
        n_steps=1,  # run-level outcomes do not depend on the steps
    ),
    "equivalence (90 %)": Target(
        _differences(0.90, "shuffled"), lambda truth: 0.0, ("normal", *SKEWED), n_steps=1
    ),
    "slope, CR2": Target(
        _slopes,
        lambda truth: truth.slope,
        ("normal", "unequal arm noise", "AR noise", "missing", "no slope variance", *SKEWED),
    ),
    "corrected slope": Target(
        _corrected, lambda truth: truth.slope, ("noisy alignment", "normal", "skewed")
    ),
}


def covered(target: Target, truth: Truth, studies: int, seed: int = 0) -> pd.DataFrame:
    """Draw `studies` studies; say of each whether its interval covers, and how wide it is."""
    rows = []
    large = replace(truth, n_seeds=CHUNK * truth.n_seeds, n_steps=target.n_steps)
    for chunk in range(-(-studies // CHUNK)):
        simulated = simulate(large, rng=[seed, chunk, truth.n_seeds])
        for found in target.estimates(simulated, truth.n_seeds):
            rows.append(
                {
                    "covers": found.low <= target.truth(truth) <= found.high,
                    "width": found.high - found.low,
                    "bootstrap": "bootstrap" in found.method,
                }
            )
    return pd.DataFrame(rows[:studies])


def coverage_table(only: list[str], studies: int, seeds: tuple[int, ...] = SEEDS) -> pd.DataFrame:
    """One row an estimand, scenario and number of seeds."""
    rows = []
    for name in only:
        for scenario in TARGETS[name].scenarios:
            for n_seeds in seeds:
                truth = replace(SCENARIOS[scenario], n_seeds=n_seeds)
                found = covered(TARGETS[name], truth, studies)
                share = found["covers"].mean()
                rows.append(
                    {
                        "estimand": name,
                        "scenario": scenario,
                        "seeds": n_seeds,
                        "coverage %": round(100 * share, 1),
                        "s.e.": round(100 * np.sqrt(share * (1 - share) / studies), 2),
                        "bootstrap-t led %": round(100 * found["bootstrap"].mean(), 1),
                    }
                )
                print(*rows[-1].values(), sep=" | ", flush=True)
    return pd.DataFrame(rows)


def main() -> None:
    """Print the coverage table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--only", nargs="+", choices=TARGETS, default=list(TARGETS))
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS)
    options = parser.parse_args()
    coverage_table(options.only, options.studies, tuple(options.seeds))


if __name__ == "__main__":
    main()
