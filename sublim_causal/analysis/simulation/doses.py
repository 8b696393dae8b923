r"""Which estimator of a dose study is biased where: worlds with a known truth.

A simulated study has the
shape of the dose study (every seed at every strength, and one yoked arm), with known effects:

.. math::

    x_t = 0.1 - s\lambda + \mu_s + w_{sa} + \nu_t - \phi \sum_{r<t} g_r, \qquad
    g_t = b x_t + c\, w_{sa} + \epsilon_t, \qquad Y = \sum_t g_t + direct(\lambda)

so that alignment M, the mean of x, has the effect ``T b`` on Y per unit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd

from sublim_causal.analysis.causal.anderson_rubin import anderson_rubin
from sublim_causal.analysis.causal.crossworld import cross_world
from sublim_causal.analysis.causal.doses import OUTCOME, TREATMENT
from sublim_causal.analysis.causal.instruments import egger_intercept, iv_linear_dose
from sublim_causal.analysis.causal.mediation import mediate
from sublim_causal.analysis.causal.two_stage import iv_2sls
from sublim_causal.analysis.estimates.settings import Settings
from sublim_causal.analysis.estimates.types import Estimate, Result

DOSES = {"baseline": 0.0, "p025": 0.25, "p050": 0.5, "p075": 0.75, "projection": 1.0, "p150": 1.5}
N_SEEDS = 16
N_STEPS = 60
EFFECT = 30.0
"""Effect of one unit of mean alignment on the outcome."""


@dataclass(frozen=True)
class DoseWorld:
    """One data-generating process; every departure is off by default.

    Attributes
    ----------
    title : str
        What is wrong, in words.
    strength : float
        How much a dose of 1 lowers alignment.
    confounding : float
        Effect on the outcome of the cause that also moves alignment by 0.01 (sd).
    feedback : float
        How much alignment falls for each unit of outcome gained so far.
    direct_constant, direct_quadratic : float
        Direct effect of any dose above 0, and of the dose squared.
    noise : float
        Standard deviation of the measurement error of mean alignment.
    """

    title: str
    strength: float = 0.1
    confounding: float = 0.0
    feedback: float = 0.0
    direct_constant: float = 0.0
    direct_quadratic: float = 0.0
    noise: float = 0.0


WORLDS = (
    DoseWorld("all assumptions hold"),
    DoseWorld("confounding within seed and arm", confounding=0.6),
    DoseWorld("feedback of gain on alignment", feedback=0.01),
    DoseWorld("exclusion violated, dose squared", direct_quadratic=1.5),
    DoseWorld("exclusion violated, same at every dose", direct_constant=-1.0),
    DoseWorld("weak dose, with confounding", strength=0.004, confounding=0.6),
    DoseWorld("alignment measured with error", noise=0.02),
)


def simulate_world(world: DoseWorld, n_seeds: int, rng: np.random.Generator) -> pd.DataFrame:
    """Draw one study: the run-level table with the dose arms and the arm ``yoked``.

    Parameters
    ----------
    world : DoseWorld
        The process.
    n_seeds : int
        Seeds.
    rng : Generator
        Randomness.

    Returns
    -------
    DataFrame
        seed, arm, mean_cos_update, final_accuracy (here a total gain, not a fraction).
    """
    lam = np.array(list(DOSES.values()))
    n_arms = len(lam)
    shape = (n_seeds, n_arms)
    common = 0.01 * rng.standard_normal(shape)
    level = 0.1 - world.strength * lam + 0.01 * rng.standard_normal((n_seeds, 1)) + common
    seed_gain = rng.standard_normal((n_seeds, 1))
    direct = world.direct_constant * (lam > 0) + world.direct_quadratic * lam**2
    slope = EFFECT / N_STEPS
    noise = 0.1 * rng.standard_normal((N_STEPS, n_seeds, n_arms + 1))
    wobble = 0.02 * rng.standard_normal((N_STEPS, n_seeds, n_arms))
    drift = world.confounding * common / 0.01 / N_STEPS
    yoked_drift = world.confounding * rng.standard_normal(n_seeds) / N_STEPS
    total, summed, yoked = np.zeros(shape), np.zeros(shape), np.zeros(n_seeds)
    for t in range(N_STEPS):
        x = level + wobble[t] - world.feedback * total
        total = total + slope * x + drift + noise[t, :, :-1]
        yoked = yoked + slope * x[:, 0] + yoked_drift + noise[t, :, -1]
        summed += x
    gain = np.column_stack([total + direct, yoked + direct[lam == 1.0]]) + 5 + seed_gain
    aligned = np.column_stack([summed, summed[:, 0]]) / N_STEPS
    aligned = aligned + world.noise * rng.standard_normal(aligned.shape)
    return pd.DataFrame(
        {
            "seed": np.repeat(np.arange(n_seeds), n_arms + 1),
            "arm": np.tile([*DOSES, "yoked"], n_seeds),
            TREATMENT: aligned.ravel(),
            OUTCOME: gain.ravel(),
        }
    )


@dataclass(frozen=True)
class TrueEffects:
    """True values in one world."""

    effect: float
    total: float
    direct: float
    indirect: float


@cache
def true_values(world: DoseWorld, n_seeds: int = 20_000) -> TrueEffects:
    """Return the truth: effect and direct effect by construction, the total by a large draw."""
    table = simulate_world(world, n_seeds, np.random.default_rng(1))
    means = table.groupby("arm")[OUTCOME].mean()
    total = float(means["projection"] - means["baseline"])
    direct = world.direct_constant + world.direct_quadratic
    return TrueEffects(EFFECT, total, direct, total - direct)


ESTIMATORS: Mapping[str, str] = {
    "least squares within seed and arm": "effect",
    "dose as instrument, Fieller": "effect",
    "all doses as instruments, 2SLS": "effect",
    "all doses, Anderson-Rubin": "effect",
    "total effect, paired": "total",
    "indirect effect, run-level mediation": "indirect",
    "indirect effect, yoked": "indirect",
    "direct effect, run-level mediation": "direct",
    "direct effect, yoked": "direct",
    "direct effect, intercept over doses": "direct",
}
"""Estimators, and the member of `TrueEffects` that each estimates."""


def estimate_all(table: pd.DataFrame, rng: np.random.Generator) -> dict[str, Result]:
    """Run every estimator of `ESTIMATORS` on one study, as a user would."""
    doses = table.loc[table["arm"] != "yoked"]
    split = next(m for m in mediate(doses, n_draws=4000, rng=rng) if m.arm == "projection")
    world = cross_world(table, arm="projection", yoked="yoked", settings=Settings(interval="t"))
    return dict(
        zip(
            ESTIMATORS,
            (
                split.beta,
                iv_linear_dose(doses, DOSES),
                iv_2sls(doses, DOSES).effect,
                anderson_rubin(doses, DOSES),
                world.te,
                split.pnie,
                world.tnie,
                split.pnde,
                world.pnde,
                egger_intercept(doses, DOSES),
            ),
            strict=True,
        )
    )


@dataclass(frozen=True)
class EstimatorRow:
    """How one estimator did in one world.

    Attributes
    ----------
    world, estimator : str
        Names.
    truth, median : float
        True value and median estimate (ratios of weak instruments have no mean).
    error : float
        Half the median width of the intervals, the yardstick of the bias; inf if unbounded.
    coverage : float
        Share of the studies whose interval or set holds the truth; an empty set does not.
    unbounded : float
        Share of unbounded sets.
    rejected : float
        Share of studies whose over-identification test rejects; nan where there is none.
    n_sim : int
        Simulated studies.
    """

    world: str
    estimator: str
    truth: float
    median: float
    error: float
    coverage: float
    unbounded: float
    rejected: float
    n_sim: int

    @property
    def bias(self) -> float:
        """Median estimate minus truth."""
        return self.median - self.truth

    def reading(self) -> str:
        """The row in words, by fixed rules."""
        # Two Monte Carlo standard errors of a coverage of 95 %.
        slack = 2 * np.sqrt(0.95 * 0.05 / self.n_sim)
        if self.coverage < 0.95 - slack:
            reading = "biased: do not quote" if self._shifted else "covers too little"
        elif self._shifted:
            reading = "biased, hidden by wide intervals"
        else:
            reading = "holds"
        if self.unbounded > 0.1:
            reading += "; often unbounded"
        if self.rejected > 0.5:
            reading += "; J warns"
        return reading

    @property
    def _shifted(self) -> bool:
        """Bias above a third of the interval's half-width."""
        return abs(self.bias) > self.error / 3


def study_world(world: DoseWorld, n_sim: int, seed: int) -> tuple[EstimatorRow, ...]:
    """Simulate `n_sim` studies of `world` and judge every estimator."""
    truth = true_values(world)
    rng = np.random.default_rng([seed, WORLDS.index(world)])
    runs = [estimate_all(simulate_world(world, N_SEEDS, rng), rng) for _ in range(n_sim)]
    return tuple(
        _row(world, name, float(getattr(truth, part)), [run[name] for run in runs])
        for name, part in ESTIMATORS.items()
    )


def _row(world: DoseWorld, name: str, truth: float, results: Sequence[Result]) -> EstimatorRow:
    found = [result for result in results if isinstance(result, Estimate)]
    widths = [result.high - result.low for result in found]
    verdicts = [r.diagnostics["j_rejects"] for r in found if "j_rejects" in r.diagnostics]
    # No compatible effect at all is a rejection by the same test, and covers nothing.
    empty = len(results) - len(found)
    return EstimatorRow(
        world=world.title,
        estimator=name,
        truth=truth,
        median=float(np.median([result.value for result in found])),
        error=float(np.median(widths)) / 2,
        coverage=sum(_covers(result, truth) for result in found) / len(results),
        unbounded=float(np.mean(np.isinf(widths))),
        rejected=(sum(verdicts) + empty) / len(results) if verdicts else float("nan"),
        n_sim=len(results),
    )


def _covers(result: Estimate, truth: float) -> bool:
    pieces = result.diagnostics.get("intervals", [[result.low, result.high]])
    return any(low <= truth <= high for low, high in pieces)


def bias_matrix(rows: Sequence[EstimatorRow]) -> Iterator[str]:
    worlds = list(dict.fromkeys(row.world for row in rows))
    cells = {(row.estimator, row.world): row for row in rows}
    yield (
        "Each cell: bias in units of the interval's half-width, and coverage in %. Bold: bias of "
        "more than a third of the half-width, or coverage too low."
    )
    yield ""
    yield f"| estimator | {' | '.join(worlds)} |"
    yield "| --- |" + " --- |" * len(worlds)
    for name in ESTIMATORS:
        shown = [_cell(cells[name, world]) for world in worlds]
        yield f"| {name} | {' | '.join(shown)} |"


def _cell(row: EstimatorRow) -> str:
    shift = "unbounded" if np.isinf(row.error) else f"{row.bias / row.error:+.2f}"
    text = f"{shift}, {100 * row.coverage:.0f}"
    return text if row.reading().startswith("holds") else f"**{text}**"


def caveats_section(rows: Sequence[EstimatorRow]) -> Iterator[str]:
    yield "## What follows"
    yield ""
    for name in ESTIMATORS:
        mine = [row for row in rows if row.estimator == name]
        failed = [row for row in mine if not row.reading().startswith("holds")]
        warned = [row for row in failed if row.reading().endswith("J warns")]
        loose = [row.world for row in mine if row.unbounded > 0.1]
        reading = (
            f"fails under: {'; '.join(row.world for row in failed)}"
            if failed
            else "holds in all worlds"
        )
        if failed and len(warned) == len(failed):
            reading += " (its over-identification test rejects in these worlds)"
        if loose:
            reading += f". Often unbounded, as it should be, under: {'; '.join(loose)}"
        yield f"- **{name}** {reading}."


def worlds_section(rows: Sequence[EstimatorRow]) -> Iterator[str]:
    for world in dict.fromkeys(row.world for row in rows):
        yield f"## {world[0].upper()}{world[1:]}"
        yield ""
        yield (
            "| estimator | truth | median estimate | half-width | coverage % | unbounded % "
            "| J rejects % | reading |"
        )
        yield "| --- |" + " ---: |" * 6 + " --- |"
        for row in rows:
            if row.world == world:
                yield _line(row)
        yield ""


def _line(row: EstimatorRow) -> str:
    rejected = "" if np.isnan(row.rejected) else f"{100 * row.rejected:.0f}"
    return (
        f"| {row.estimator} | {row.truth:.2f} | {row.median:.2f} | {row.error:.2f} "
        f"| {100 * row.coverage:.1f} | {100 * row.unbounded:.0f} | {rejected} | {row.reading()} |"
    )
