r"""Measurement error of the alignment, and slopes corrected for it.

The probe is split into halves A and B, so a step has two measurements of its alignment with
independent errors. Noise in the regressor attenuates a slope by the reliability; using one half
as an instrument for the other removes the attenuation:

.. math:: b = \frac{S_{Ay} + S_{By}}{2 S_{AB}}, \qquad
          r = \frac{2 S_{AB}}{S_{AA} + S_{BB}}, \qquad r_{whole} = \frac{2 r}{1 + r}

with S the cross products within runs (Spearman, 1910, for the whole from its halves). Noise of
the minibatch, which both halves share, is not measurement error here: it moves the update too.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import pandas as pd

from sublim_causal.analysis.estimates.bootstrap import ClusterRatio
from sublim_causal.analysis.estimates.intervals import ratio_interval
from sublim_causal.analysis.estimates.panel import seeds_and_arms
from sublim_causal.analysis.estimates.settings import Settings
from sublim_causal.analysis.estimates.types import Estimand, Estimate, NotEstimable, Result
from sublim_causal.analysis.steps.within_runs import within_products

HALVES = ("cos_half_a", "cos_half_b")


class Slopes(NamedTuple):
    """The plain slope within runs, and the one corrected for measurement error."""

    plain: Result
    corrected: Result


def reliability(
    steps: pd.DataFrame,
    *,
    halves: tuple[str, str] = HALVES,
    settings: Settings = Settings(),
    estimand: Estimand | None = None,
    cluster: str = "seed",
    arm_column: str = "arm",
) -> Result:
    """Reliability within runs of the whole-probe measurement, from its halves.

    Parameters
    ----------
    steps : DataFrame
        One row per step: seed, arm, and both halves.
    halves : tuple of str
        The two columns.
    settings : Settings
        How the interval is computed.
    estimand : Estimand, optional
        What is estimated; the default names the halves.
    cluster, arm_column : str
        Columns that hold the seeds and the arms, numbers or text.

    Returns
    -------
    Estimate or NotEstimable
        Reliability of the mean of the halves; that of one half and its interval stand in the
        diagnostics (`half`, `half_low`, `half_high`). No p-value: no null value is of interest.

    Raises
    ------
    RequestError, DataError
        As in `within_products`.
    """
    s = within_products(seeds_and_arms(steps, cluster, arm_column), halves)
    a, b = halves
    ratio = ClusterRatio(s.of(a, b), (s.of(a, a) + s.of(b, b)) / 2)
    found = ratio_interval(
        ratio,
        estimand=estimand or Estimand("reliability", f"Reliability of the mean of {a} and {b}."),
        settings=settings,
    )
    return _stepped_up(found) if isinstance(found, Estimate) else found


def _stepped_up(half: Estimate) -> Estimate:
    """Carry value and limits from one half to the whole; the map is increasing on (-1, 1]."""
    kept = {**half.diagnostics, "half": half.value, "half_low": half.low, "half_high": half.high}
    kept.pop("also", None)
    return replace(
        half,
        value=_whole(half.value),
        se=half.se * 2 / (1 + half.value) ** 2,
        low=_whole(max(half.low, -0.999)),
        high=_whole(min(half.high, 1.0)),
        p_value=None,
        diagnostics=kept,
        draws=None,
    )


def _whole(half: float) -> float:
    return 2 * half / (1 + half)


def corrected_slopes(
    steps: pd.DataFrame,
    outcome: str,
    *,
    halves: tuple[str, str] = HALVES,
    settings: Settings = Settings(),
    estimand: Estimand | None = None,
    cluster: str = "seed",
    arm_column: str = "arm",
) -> Slopes:
    """Slope of `outcome` on alignment within runs, plain and corrected for measurement error.

    Parameters
    ----------
    steps : DataFrame
        One row per step: seed, arm, `outcome`, and both halves.
    outcome : str
        Per-step outcome.
    halves, settings, cluster, arm_column
        As in `reliability`.
    estimand : Estimand, optional
        What is estimated; its name gets the endings ``_plain`` and ``_corrected``.

    Raises
    ------
    RequestError, DataError
        As in `within_products`.
    """
    a, b = halves
    s = within_products(seeds_and_arms(steps, cluster, arm_column), [a, b, outcome])
    base = estimand or Estimand(f"slope_{outcome}", f"Slope of {outcome} on alignment in a run.")
    xy = (s.of(a, outcome) + s.of(b, outcome)) / 2
    plain = ClusterRatio(xy, (s.of(a, a) + s.of(b, b) + 2 * s.of(a, b)) / 4)
    corrected = ClusterRatio(xy, s.of(a, b))
    found = [
        ratio_interval(ratio, estimand=replace(base, name=f"{base.name}_{name}"), settings=settings)
        for name, ratio in (("plain", plain), ("corrected", corrected))
    ]
    if isinstance(found[1], NotEstimable):
        found[1] = replace(found[1], reason="the halves do not correlate: they measure no signal")
    return Slopes(*found)
