r"""Per-step slopes under known truth, where training time moves alignment and gain alike.

Seed s, arm a, step t, with decays :math:`\tau_{sa}` and a minibatch :math:`b_{st}` that all arms of
a seed share:

.. math::

    x_{sat} = 0.04 + 0.06 e^{-t / \tau_{sa}} + 0.03\,\kappa\, b_{st} + 0.03\, u_{sat}, \qquad
    y_{sat} = 0.001 + 0.009 e^{-t / 80} + \beta x_{sat} + 0.006\,\kappa\, b_{st} + 0.006\, v_{sat}

u and v are AR(1) of unit variance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from sublim_causal.analysis.estimates.intervals import t_bounds
from sublim_causal.analysis.estimates.types import Floats
from sublim_causal.analysis.steps.slopes import fit_slopes, slope_model
from sublim_causal.analysis.steps.two_way import two_way

N_SEEDS = 12
N_STEPS = 245
ARMS = ("baseline", "projection", "liminal", "shuffled")
LEVEL = 0.95


@dataclass(frozen=True)
class SlopeWorld:
    """A process of alignment and gain.

    Attributes
    ----------
    title : str
        In words.
    slope : float
        True slope of gain on alignment.
    decays : tuple of float
        Steps in which alignment decays, by arm.
    spread : float
        Standard deviation of the logarithm of a run's own decay.
    shared : float
        How much the shared minibatch moves both.
    serial : float
        Correlation of the errors of successive steps.
    missing : float
        Share of rows that are missing at random.
    shortest : float
        Runs end after a share of the steps that is uniform from here to 1.
    """

    title: str
    slope: float = 0.0
    decays: tuple[float, ...] = (80.0, 80.0, 80.0, 80.0)
    spread: float = 0.0
    shared: float = 0.0
    serial: float = 0.0
    missing: float = 0.0
    shortest: float = 1.0


_BY_ARM = (80.0, 27.0, 53.0, 80.0)
SLOPE_WORLDS = (
    SlopeWorld("a trend common to all runs"),
    SlopeWorld("a trend of each arm", decays=_BY_ARM),
    SlopeWorld("a trend of each arm and run", slope=0.08, decays=_BY_ARM, spread=0.3),
    SlopeWorld("a shared minibatch", shared=1.0),
    SlopeWorld("serial errors", slope=0.08, decays=_BY_ARM, spread=0.3, serial=0.5),
    SlopeWorld("a tenth of the rows missing", decays=_BY_ARM, shared=1.0, missing=0.1),
    SlopeWorld("half of the rows missing", decays=_BY_ARM, shared=1.0, missing=0.5),
    SlopeWorld("runs of unequal length", decays=_BY_ARM, shared=1.0, shortest=0.5),
)


def simulate_steps(world: SlopeWorld, rng: np.random.Generator) -> pd.DataFrame:
    """Draw one study: seed, arm, step, x, y."""
    shape = (N_SEEDS, len(ARMS), N_STEPS)
    time = np.arange(N_STEPS)
    decays = np.array(world.decays)[:, None] * np.exp(
        world.spread * rng.standard_normal((N_SEEDS, len(ARMS), 1))
    )
    batch = world.shared * rng.standard_normal((N_SEEDS, 1, N_STEPS))
    x = 0.04 + 0.06 * np.exp(-time / decays) + 0.03 * (batch + _serial(world, shape, rng))
    y = 0.001 + 0.009 * np.exp(-time / 80) + world.slope * x
    y = y + 0.006 * (batch + _serial(world, shape, rng))
    there = rng.random(shape) >= world.missing
    ends = N_STEPS * rng.uniform(world.shortest, 1, (N_SEEDS, len(ARMS), 1))
    there &= time < np.where(world.shortest < 1, ends, N_STEPS)
    seed, arm, step = np.nonzero(there)
    names = np.array(ARMS, dtype=object)[arm]
    return pd.DataFrame({"seed": seed, "arm": names, "step": step, "x": x[there], "y": y[there]})


def _serial(world: SlopeWorld, shape: tuple[int, ...], rng: np.random.Generator) -> Floats:
    noise = rng.standard_normal(shape)
    for t in range(1, shape[-1] if world.serial else 0):
        noise[..., t] *= np.sqrt(1 - world.serial**2)
        noise[..., t] += world.serial * noise[..., t - 1]
    return noise


@dataclass(frozen=True)
class Interval:
    """An estimate and its limits."""

    value: float
    low: float
    high: float


def mixed(steps: pd.DataFrame) -> Interval:
    """Return the pooled slope of a mixed model over all arms: ``adjust = "none"``."""
    row = fit_slopes(slope_model(steps, "y", "x")).contrast("x", LEVEL).iloc[0]
    return Interval(float(row["estimate"]), float(row["low"]), float(row["high"]))


def within(steps: pd.DataFrame) -> Interval:
    """Return the slope within run and step of the arms in `steps`: ``adjust = "step"``."""
    found = two_way(steps, "y", "x")
    se, df = found.robust()
    return Interval(found.slope, *t_bounds(found.slope, se, df, LEVEL))


def one_arm(steps: pd.DataFrame) -> Interval:
    """Return the same of the first arm on its own."""
    return within(steps[steps["arm"] == ARMS[0]])


SLOPE_ESTIMATORS: Mapping[str, Callable[[pd.DataFrame], Interval]] = {
    "mixed model, all arms": mixed,
    "within run and step, one arm": one_arm,
    "within run and step, all arms": within,
}


@dataclass(frozen=True)
class SlopeRow:
    """How one estimator did in one world: mean estimate, and share of intervals that cover."""

    world: SlopeWorld
    estimator: str
    mean: float
    coverage: float
    n_sim: int


def study_slopes(world: SlopeWorld, n_sim: int, seed: int) -> tuple[SlopeRow, ...]:
    """Simulate `n_sim` studies of `world`, and judge every estimator."""
    rng = np.random.default_rng([seed, SLOPE_WORLDS.index(world)])
    found: dict[str, list[Interval]] = {name: [] for name in SLOPE_ESTIMATORS}
    for _ in range(n_sim):
        steps = simulate_steps(world, rng)
        for name, estimate in SLOPE_ESTIMATORS.items():
            found[name].append(estimate(steps))
    return tuple(
        SlopeRow(
            world,
            name,
            float(np.mean([one.value for one in ones])),
            float(np.mean([one.low <= world.slope <= one.high for one in ones])),
            n_sim,
        )
        for name, ones in found.items()
    )


def slopes_section(rows: Sequence[SlopeRow]) -> Iterator[str]:
    """Yield the lines of the page's section on per-step slopes."""
    yield "## Per-step slopes: does a slope measure training time?"
    yield ""
    yield (
        f"{rows[0].n_sim} simulated studies per world, {N_SEEDS} seeds, {len(ARMS)} arms, "
        f"{N_STEPS} steps. Alignment and gain decline during a run; in some worlds a minibatch "
        "shared by all arms of a seed affects both. Each cell: mean estimate, and coverage of the "
        "95 % interval in %. Bold: coverage below 90 %. The effect of a shared minibatch can be "
        "removed with several arms, but not with one; the row of such an estimate states this."
    )
    yield ""
    yield f"| world | true slope | {' | '.join(SLOPE_ESTIMATORS)} |"
    yield "| --- | ---: |" + " ---: |" * len(SLOPE_ESTIMATORS)
    for world in dict.fromkeys(row.world for row in rows):
        cells = [_cell(row) for row in rows if row.world == world]
        yield f"| {world.title} | {world.slope:g} | {' | '.join(cells)} |"


def _cell(row: SlopeRow) -> str:
    text = f"{row.mean:.4f}, {100 * row.coverage:.0f}"
    return f"**{text}**" if row.coverage < 0.9 else text
