"""The run-level regressions of mediation, all of them within seeds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sublim_causal.analysis.causal.fixed_effects import Contrast, WithinFit, fit_within
from sublim_causal.analysis.estimates.panel import complete_runs, seeds_and_arms, validate_arms
from sublim_causal.analysis.estimates.types import Floats
from sublim_causal.errors import DataError


@dataclass(frozen=True)
class Runs:
    """Complete runs as arrays, one entry per run: n of them, of R seeds.

    Attributes
    ----------
    m, y : ndarray of shape (n,)
        Mean alignment and outcome.
    seeds, codes : ndarray of shape (n,)
        Seed codes 0..R-1, and places of the arm in `arms`.
    arms : tuple of str
        The arms, the baseline first.
    n_dropped : int
        Seeds without two complete runs.
    """

    m: Floats
    y: Floats
    seeds: NDArray[np.intp]
    codes: NDArray[np.intp]
    arms: tuple[str, ...]
    n_dropped: int

    @property
    def dummies(self) -> Floats:
        """One column for every arm but the first."""
        return np.eye(len(self.arms))[self.codes, 1:]

    @property
    def n_seeds(self) -> int:
        """Number of seeds, R."""
        return int(self.seeds.max(initial=-1)) + 1

    def n_paired(self, arm: int) -> int:
        """Number of seeds with a run under `arm` and one under the baseline."""
        ours, theirs = (self.seeds[self.codes == code] for code in (arm, 0))
        return len(np.intersect1d(ours, theirs))


@dataclass(frozen=True)
class RunModels:
    """The three regressions within seeds, and where a coefficient stands.

    `mediator`: M on arms; `total`: Y on arms; `outcome`: Y on arms, M and the kept interactions.
    """

    runs: Runs
    mediator: WithinFit
    total: WithinFit
    outcome: WithinFit
    interacting: tuple[int, ...]
    """Codes of the arms with a kappa (from 1); an arm of constant alignment has none."""

    def arm_effect(self, fit: WithinFit, arm: int) -> Contrast:
        """Coefficient of the dummy of `arm` in `fit`."""
        return fit.contrast(_unit(len(fit.params), arm - 1))

    def slope(self, arm: int, weight: float) -> Contrast:
        """``beta + weight kappa_arm``."""
        return self.outcome.contrast(self._weights(arm, 0.0, 1.0, weight))

    def direct(self, arm: int, level: float) -> Contrast:
        """``tau_arm + level kappa_arm``."""
        return self.outcome.contrast(self._weights(arm, 1.0, 0.0, level))

    def kappa(self, arm: int) -> float:
        """How far the slope under `arm` differs from the baseline's; 0 where it has none."""
        weights = self._weights(arm, 0.0, 0.0, 1.0)
        return float(weights @ self.outcome.params)

    def _weights(self, arm: int, tau: float, beta: float, kappa: float) -> Floats:
        n_arms = len(self.runs.arms) - 1
        weights = np.zeros(len(self.outcome.params))
        weights[arm - 1], weights[n_arms] = tau, beta
        if arm in self.interacting:
            weights[n_arms + 1 + self.interacting.index(arm)] = kappa
        return weights

    def mean_mediator(self, arm: int) -> float:
        """``E M(arm)`` over the seeds of the data, missing runs filled in by the model."""
        alphas = self.mediator.params
        base = float(self.runs.m.mean() - self.runs.dummies.mean(axis=0) @ alphas)
        return base + (float(alphas[arm - 1]) if arm else 0.0)

    def var_mean_mediator(self, arm: int) -> float:
        """Variance of the mean alignment under `arm`."""
        values = self.runs.m[self.runs.codes == arm]
        return float(values.var(ddof=1) / len(values))


def _unit(size: int, position: int) -> Floats:
    vector = np.zeros(size)
    vector[position] = 1.0
    return vector


def read_runs(frame: pd.DataFrame, mediator: str, outcome: str, arms: tuple[str, ...]) -> Runs:
    """Return the complete runs of `arms` in seeds that have at least two of them.

    Raises
    ------
    DataError
        If a column or an arm is missing, or a seed has two rows under one arm.
    """
    frame = seeds_and_arms(frame)
    validate_arms(frame, arms)
    chosen = frame.loc[frame["arm"].isin(arms)]
    runs = complete_runs(chosen, [mediator, outcome])
    # A seed with one run has nothing to compare within it.
    runs = runs.loc[runs.groupby("seed")["arm"].transform("size") > 1]
    seeds, names = pd.factorize(runs["seed"], sort=True)
    return Runs(
        m=runs[mediator].to_numpy(float),
        y=runs[outcome].to_numpy(float),
        seeds=seeds,
        codes=pd.Index(arms).get_indexer(pd.Index(runs["arm"])),
        arms=arms,
        n_dropped=int(chosen["seed"].nunique() - len(names)),
    )


def fit_models(runs: Runs, interaction: bool) -> RunModels:
    """Fit alignment on arms, outcome on arms, and outcome on arms and alignment.

    Raises
    ------
    DataError
        If an arm has no run, or alignment is determined by seed and arm.
    """
    absent = [arm for k, arm in enumerate(runs.arms) if k not in runs.codes]
    if absent:
        raise DataError(f"no seed is complete under {', '.join(map(repr, absent))} and another arm")
    dummies = runs.dummies
    spread = [np.ptp(runs.m[runs.codes == k]) for k in range(len(runs.arms))]
    moving = [k for k in range(1, len(runs.arms)) if spread[k] > 1e-12 * max(spread)]
    interacting = tuple(moving) if interaction else ()
    products = [dummies[:, k - 1] * runs.m for k in interacting]
    return RunModels(
        runs=runs,
        mediator=fit_within(runs.m, dummies, runs.seeds),
        total=fit_within(runs.y, dummies, runs.seeds),
        outcome=fit_within(runs.y, np.column_stack([dummies, runs.m, *products]), runs.seeds),
        interacting=interacting,
    )
