"""Power of a study that is looked at several times, by simulation from a pilot's residuals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from sublim_causal.analysis.arms.power import Pilot
from sublim_causal.analysis.arms.sequential import anytime_half_width, nominal_levels
from sublim_causal.analysis.arms.stopping import Boundary, validate_looks
from sublim_causal.analysis.estimates.distributions import t_critical

N_STUDIES = 2000


def power_by_look(
    differences: ArrayLike,
    difference: float,
    looks: Sequence[int],
    *,
    boundary: Boundary = "obrien-fleming",
    n_studies: int = N_STUDIES,
) -> pd.DataFrame:
    """Estimate the power to detect `difference` by each look.

    Studies are drawn with replacement from the residuals of the pilot, once with its standard
    deviation and once with its upper 80 % limit.

    Parameters
    ----------
    differences : array_like of shape (n,)
        Paired differences of the pilot, at least 3.
    difference : float
        Smallest difference that matters, in their unit.
    looks : sequence of int
        Numbers of seeds at which the study is looked at, rising.
    boundary
        As in `Stopping`; the level is 0.95.
    n_studies : int
        Simulated studies; the error of a power near 0.8 is 0.01 with 2000.

    Returns
    -------
    DataFrame
        n_seeds, sd ("pilot" or "cautious"), power: the share of studies whose interval has
        excluded 0 at this look or an earlier one.

    Raises
    ------
    RequestError
        If the looks do not rise from at least 3.
    """
    validate_looks(looks)
    d = np.asarray(differences, dtype=float)
    pilot = Pilot("", "", float(d.mean()), float(d.std(ddof=1)), len(d))
    drawn = np.random.default_rng(0).choice(d - pilot.mean, size=(n_studies, looks[-1]))
    drawn *= np.sqrt(len(d) / (len(d) - 1))
    rows = []
    for name, scale in (("pilot", 1.0), ("cautious", pilot.sd_upper / pilot.sd)):
        found = np.zeros(n_studies, dtype=bool)
        for place, n in enumerate(looks):
            part = difference + scale * drawn[:, :n]
            sd = part.std(axis=1, ddof=1)
            half = _half_width(looks, place, boundary) * sd
            found |= np.abs(part.mean(axis=1)) > half
            rows.append({"n_seeds": n, "sd": name, "power": float(found.mean())})
    return pd.DataFrame(rows)


def _half_width(looks: Sequence[int], place: int, boundary: Boundary) -> float:
    """Return half the width of the interval at a look, in standard deviations."""
    n = looks[place]
    if boundary == "anytime":
        return anytime_half_width(1.0, n)
    nominal = nominal_levels(looks)[place]
    return float(t_critical(nominal, n - 1) / np.sqrt(n))
