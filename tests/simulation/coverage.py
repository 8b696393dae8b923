"""How often the default intervals cover the truth, by simulation.

Run ``python tests/simulation/coverage.py --studies 1000`` for the table; ``--only`` picks
estimands. Every study is drawn by `sublim_causal.analysis.simulation` with known truth.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from sublim_causal.analysis.contrasts import paired_contrast
from sublim_causal.analysis.equivalence import tost
from sublim_causal.analysis.estimates import Estimand, Result
from sublim_causal.analysis.measurement import corrected_slopes
from sublim_causal.analysis.simulation import ArmTruth, Simulated, Truth, simulate
from sublim_causal.analysis.slopes import slope_estimates, slope_model

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


@dataclass(frozen=True)
class Target:
    """An estimand: its default estimate, its truth, and the scenarios it is shown in."""

    estimate: Callable[[Simulated], Result]
    truth: Callable[[Truth], float]
    scenarios: tuple[str, ...]


def _contrast(simulated: Simulated) -> Result:
    return paired_contrast(simulated.tables["replicates"], "final_accuracy", "projection")


def _equivalence(simulated: Simulated) -> Result:
    return tost(simulated.tables["replicates"], "final_accuracy", "shuffled", margin=0.05)


def _slope(simulated: Simulated) -> Result:
    model = slope_model(simulated.tables["steps"], "gain", "cos_gradient", "pooled")
    return slope_estimates(model, {"": Estimand("slope", "The pooled slope.")})[""]


def _corrected(simulated: Simulated) -> Result:
    return corrected_slopes(simulated.tables["steps"], "gain").corrected


TARGETS = {
    "arm contrast": Target(
        _contrast,
        lambda truth: truth.arms["projection"].accuracy - truth.arms["baseline"].accuracy,
        ("normal", "unequal arm noise", "missing", *SKEWED),
    ),
    "equivalence (90 %)": Target(_equivalence, lambda truth: 0.0, ("normal", *SKEWED)),
    "slope, CR2": Target(
        _slope,
        lambda truth: truth.slope,
        ("normal", "unequal arm noise", "AR noise", "missing", "no slope variance", *SKEWED),
    ),
    "corrected slope": Target(
        _corrected, lambda truth: truth.slope, ("noisy alignment", "normal", "skewed")
    ),
}


def covered(target: Target, truth: Truth, studies: int, first: int = 0) -> pd.DataFrame:
    """Draw `studies` studies and say of each whether its interval covers, and how wide it is."""
    rows = []
    for number in range(first, first + studies):
        found = target.estimate(simulate(truth, rng=[number, truth.n_seeds]))
        rows.append(
            {
                "covers": found.low <= target.truth(truth) <= found.high,
                "width": found.high - found.low,
                "bootstrap": "bootstrap" in found.method,
            }
        )
    return pd.DataFrame(rows)


def coverage_table(only: list[str], studies: int, seeds: tuple[int, ...] = SEEDS) -> pd.DataFrame:
    """One row an estimand, scenario and number of seeds."""
    rows = []
    for name in only:
        for scenario in TARGETS[name].scenarios:
            for n_seeds in seeds:
                start = time.perf_counter()
                truth = replace(SCENARIOS[scenario], n_seeds=n_seeds)
                found = covered(TARGETS[name], truth, studies)
                share = found["covers"].mean()
                rows.append(
                    {
                        "estimand": name,
                        "scenario": scenario,
                        "seeds": n_seeds,
                        "coverage %": 100 * share,
                        "MC s.e.": 100 * np.sqrt(share * (1 - share) / studies),
                        "bootstrap-t %": 100 * found["bootstrap"].mean(),
                        "s": time.perf_counter() - start,
                    }
                )
                print(*rows[-1].values(), sep=" | ", flush=True)
    return pd.DataFrame(rows)


def main() -> None:
    """Print the coverage table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--only", nargs="+", choices=TARGETS, default=list(TARGETS))
    options = parser.parse_args()
    print(coverage_table(options.only, options.studies).round(2).to_string(index=False))


if __name__ == "__main__":
    main()
