"""Arm differences in the ledger: total gain by entry, and drive by factor.

Both are identities, exact in every seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from sublim_causal.analysis.estimates.intervals import mean_interval
from sublim_causal.analysis.estimates.panel import (
    paired_panel,
    seeds_and_arms,
    validate_arms,
    validate_columns,
)
from sublim_causal.analysis.estimates.settings import Settings
from sublim_causal.analysis.estimates.types import Estimand, Floats, Result
from sublim_causal.analysis.steps.ledger import ledger

_FACTORS = ("cos_update", "norm_trait", "norm_update")


@dataclass(frozen=True)
class LedgerSplit:
    """Arm difference in total gain, split exactly: ``gain = drive + remainder``.

    Attributes
    ----------
    gain, drive, remainder : Estimate or NotEstimable
        Paired differences over the same seeds, in nats; the values add up to rounding.
    """

    gain: Result
    drive: Result
    remainder: Result


@dataclass(frozen=True)
class DriveFactors:
    """Arm difference in total drive, split over the factors of the drive.

    Attributes
    ----------
    drive : Estimate or NotEstimable
        Paired difference of ``sum_t |g_t| |u_t| cos(-u_t, g_t)``, in nats.
    cosine, norm_trait, norm_update : Estimate or NotEstimable
        Contribution of each factor; the three values add up to `drive`.
    """

    drive: Result
    cosine: Result
    norm_trait: Result
    norm_update: Result


def split_difference(
    steps: pd.DataFrame,
    arm: str,
    *,
    reference: str = "baseline",
    mid: bool = False,
    settings: Settings = Settings(),
) -> LedgerSplit:
    """Split the arm difference in total gain exactly into drive and remainder.

    ``D gain = D drive + D remainder``, each the mean over seeds of a paired difference.

    Parameters
    ----------
    steps : DataFrame
        Table ``steps``.
    arm, reference : str
        The contrast is `arm` minus `reference`.
    mid : bool
        Use the trapezoid drive, ``drive_mid``, instead of ``drive``.
    settings : Settings
        How the intervals are computed.

    Returns
    -------
    LedgerSplit
        Three results over the same complete seeds, in nats.
    """
    drive, remainder = ("drive_mid", "remainder_mid") if mid else ("drive", "remainder")
    panel = paired_panel(ledger(steps), ["gain", drive, remainder], [reference, arm])

    def entry(name: str) -> Result:
        return mean_interval(
            panel.difference(name, arm, reference),
            estimand=Estimand(
                name=f"difference_{name}_{arm}",
                sentence=f"Mean change of summed {name} from {reference!r} to {arm!r}, same seed.",
                outcome=f"sum_{name} (nats)",
                contrast=f"{arm} - {reference}",
                arm=arm,
                reference=reference,
                part=name,
                unit="nats",
                assumptions=("seeds are independent",),
            ),
            n_dropped=panel.n_dropped,
            settings=settings,
        )

    return LedgerSplit(gain=entry("gain"), drive=entry(drive), remainder=entry(remainder))


def drive_factors(
    steps: pd.DataFrame, arm: str, *, reference: str = "baseline", settings: Settings = Settings()
) -> DriveFactors:
    r"""Split the arm difference in drive over cosine, gradient norm and update norm.

    ``drive_t = |g_t| |u_t| c_t``. The difference of the product at step t is split by the
    Shapley value of each factor: for factor x with the others y, z, ``Dx ((y0 z0 + y1 z1) / 3 +
    (y0 z1 + y1 z0) / 6)``, so that the three parts add up exactly and do not depend on an order.

    Parameters
    ----------
    steps : DataFrame
        Table ``steps`` with cos_update (1), norm_trait (nats), norm_update (1).
    arm, reference : str
        The contrast is `arm` minus `reference`, paired by seed and step.
    settings : Settings
        How the intervals are computed.

    Notes
    -----
    An identity, not mediation: after the first step the arms are at different parameters, so a
    gradient norm can differ because the cosine did earlier.

    References
    ----------
    Shapley (1953), A value for n-person games; Shorrocks (2013), J. Econ. Inequal. 11, 99-126.
    """
    validate_columns(steps, ["seed", "arm", "step", *_FACTORS])
    steps = seeds_and_arms(steps)
    validate_arms(steps, [arm, reference])
    sides = [
        steps.loc[steps["arm"] == name, ["seed", "step", *_FACTORS]] for name in (reference, arm)
    ]
    pairs = sides[0].merge(sides[1], on=["seed", "step"], suffixes=("_0", "_1"))
    start, end = ([pairs[f"{name}_{side}"].to_numpy(float) for name in _FACTORS] for side in (0, 1))
    parts = {name: _shapley(start, end, i) for i, name in enumerate(_FACTORS)}
    parts["drive"] = np.prod(end, axis=0) - np.prod(start, axis=0)
    # A missing step would understate the sum of a run: the whole seed is left out.
    broken = pairs.loc[~np.isfinite(parts["drive"]), "seed"]
    sums = pd.DataFrame(parts).groupby(pairs["seed"]).sum()
    whole = sums.loc[~sums.index.isin(broken)]
    n_seeds = steps.loc[steps["arm"].isin([arm, reference]), "seed"].nunique()

    def part(column: str, phrase: str) -> Result:
        return mean_interval(
            whole[column].to_numpy(float),
            estimand=Estimand(
                name=f"difference_drive_{column}_{arm}" if column != "drive" else f"{column}_{arm}",
                sentence=f"Change of summed drive from {reference!r} to {arm!r} {phrase}.",
                outcome="sum_drive (nats)",
                contrast=f"{arm} - {reference}",
                assumptions=("identity: the factors influence each other along the run",),
            ),
            n_dropped=n_seeds - len(whole),
            settings=settings,
        )

    return DriveFactors(
        drive=part("drive", "through all factors"),
        cosine=part("cos_update", "through the cosine of update and trait gradient"),
        norm_trait=part("norm_trait", "through the length of the trait gradient"),
        norm_update=part("norm_update", "through the length of the update"),
    )


def _shapley(start: Sequence[Floats], end: Sequence[Floats], which: int) -> Floats:
    """Shapley value of factor `which` in the change of a product of three."""
    y, z = (i for i in range(3) if i != which)
    same = (start[y] * start[z] + end[y] * end[z]) / 3
    mixed = (start[y] * end[z] + end[y] * start[z]) / 6
    return (end[which] - start[which]) * (same + mixed)
