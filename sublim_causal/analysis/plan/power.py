r"""Power of a per-step slope, by simulation from a pilot's seeds.

Within runs and steps, seed s contributes :math:`X_s = \sum \tilde x^2` and the score, adjusted for
the estimated effects as in CR2, :math:`w_s = (\sum \tilde x \tilde y - \hat b X_s) /
\sqrt{\lambda_s}`. A simulated study of n seeds draws pairs :math:`(X_s, w_s)` with replacement, so
that :math:`\hat b^* = \beta + \sum w^* / \sum X^*` for the slope :math:`\beta` that matters. Its
own scores are :math:`\sqrt{1 - 1/n}\, w^*_s - (\hat b^* - \beta) X^*_s`, and CR2 and
Satterthwaite's degrees of freedom those of `steps.two_way`, where no row is missing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from sublim_causal.analysis.arms.power import Pilot
from sublim_causal.analysis.arms.sequential import anytime_half_width, nominal_levels
from sublim_causal.analysis.arms.stopping import Boundary, validate_looks
from sublim_causal.analysis.estimates.distributions import t_critical
from sublim_causal.analysis.estimates.types import MIN_SEEDS, Floats
from sublim_causal.analysis.plan.methods.comparable import comparable_arms
from sublim_causal.analysis.plan.methods.slopes import StepSlope
from sublim_causal.analysis.plan.record import Record
from sublim_causal.analysis.steps.two_way import TwoWay, two_way
from sublim_causal.errors import DataError

N_STUDIES = 1000


def pilot_slope(record: Record, declared: StepSlope) -> TwoWay:
    """Return the cross products of a pilot for a slope over comparable arms.

    Raises
    ------
    DataError
        If fewer than 3 seeds have steps.
    """
    arms = comparable_arms(record)
    steps = record.steps[record.steps["arm"].isin(arms)]
    if (n := steps["seed"].nunique()) < MIN_SEEDS:
        raise DataError(f"{declared.name}: {n} seeds with steps; a pilot needs {MIN_SEEDS}")
    return two_way(steps, declared.outcome, declared.predictor)


def power_of_slope(
    pilot: TwoWay,
    slope: float,
    seeds: Sequence[int],
    *,
    boundary: Boundary | None = None,
    level: float = 0.95,
    n_studies: int = N_STUDIES,
    rng: np.random.Generator | int = 0,
) -> pd.DataFrame:
    """Estimate the power of studies of these numbers of seeds to detect a slope.

    Parameters
    ----------
    pilot : TwoWay
        Of `pilot_slope`.
    slope : float
        Smallest slope that matters, in the outcome per unit of the predictor; not the pilot's.
    seeds : sequence of int
        Numbers of seeds, rising from at least 3: of separate studies, or of the looks at one.
    boundary : {"obrien-fleming", "anytime"}, optional
        As in `Stopping`, for looks; None: each number is that of a study of its own.
    level : float
        Confidence level.
    n_studies : int
        Simulated studies; the error of a power near 0.8 is 0.013 with 1000.
    rng : Generator or int
        Randomness.

    Returns
    -------
    DataFrame
        n_seeds, sd ("pilot", or "cautious" with its upper 80 % limit), power: the share of studies
        whose interval excludes 0, with looks at this one or an earlier one.

    Raises
    ------
    RequestError
        If the numbers of seeds do not rise from at least 3.
    """
    validate_looks(seeds)
    n_pilot = len(pilot.seeds)
    score = (pilot.xy - pilot.slope * pilot.xx) / np.sqrt(pilot.kept)
    cautious = Pilot("", "", 0.0, 1.0, n_pilot).sd_upper
    drawn = np.random.default_rng(rng).integers(n_pilot, size=(n_studies, seeds[-1]))
    rows = []
    for name, scale in (("pilot", 1.0), ("cautious", cautious)):
        found = np.zeros(n_studies, dtype=bool)
        for place, n in enumerate(seeds):
            chosen = drawn[:, :n]
            shift, se, df = _estimates(pilot.xx[chosen], scale * score[chosen])
            half = se * _factor(seeds, place, boundary, level, df)
            excludes = np.abs(slope + shift) > half
            found = excludes if boundary is None else found | excludes
            rows.append({"n_seeds": n, "sd": name, "power": float(found.mean())})
    return pd.DataFrame(rows)


def _estimates(xx: Floats, score: Floats) -> tuple[Floats, Floats, Floats]:
    """Return error of the slope, CR2 standard error and degrees of freedom of each study (row)."""
    n = xx.shape[1]
    total = xx.sum(axis=1, keepdims=True)
    shift = score.sum(axis=1, keepdims=True) / total
    weight = 1 / (np.sqrt(1 - 1 / n - xx / total) * total)
    own = np.sqrt(1 - 1 / n) * score - shift * xx
    se = np.sqrt(((weight * own) ** 2).sum(axis=1))
    # Trace and squared norm of W (diag(d) - X X' / total) W, without the n by n matrix.
    w2, kept = weight**2, xx * (1 - 1 / n) - xx**2 / total
    trace = (w2 * kept).sum(axis=1)
    crossed = (w2 * xx**2).sum(axis=1) ** 2 - (w2**2 * xx**4).sum(axis=1)
    norm = (w2**2 * kept**2).sum(axis=1) + crossed / total[:, 0] ** 2
    return shift[:, 0], se, trace**2 / norm


def _factor(
    seeds: Sequence[int], place: int, boundary: Boundary | None, level: float, df: Floats
) -> Floats | float:
    """Return half the width of the interval in standard errors."""
    n = seeds[place]
    if boundary == "anytime":
        return anytime_half_width(1.0, n, level) * np.sqrt(n)
    nominal = level if boundary is None else nominal_levels(seeds, level)[place]
    return np.asarray(t_critical(nominal, df))
