r"""The ledger: where the drop of the trait loss came from, step by step. Arithmetic, no model.

At every step ``gain = drive + remainder`` exactly, where ``gain = L(theta_t) - L(theta_{t+1})``,
``drive = -<g_t, u_t>`` is its first-order part and ``remainder`` is curvature and beyond;
``drive_mid``, the mean of ``drive`` and ``drive_end``, is exact for a quadratic loss. Summed over
a run it is an accounting identity: ``sum gain = L(theta_0) - L(theta_T)``. Nothing here needs a
causal assumption, and nothing here is a causal effect of alignment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from scipy import stats

from sublim_causal.analysis.estimates import Estimand, Result
from sublim_causal.analysis.intervals import IntervalRule, mean_interval
from sublim_causal.analysis.panel import (
    Vector,
    paired_panel,
    validate_arms,
    validate_columns,
    validate_level,
)
from sublim_causal.analysis.ratios import ratio_of_sums
from sublim_causal.errors import DataError

Term = Literal["drive", "drive_mid", "remainder", "remainder_mid"]
ENTRIES = ("drive", "drive_mid", "remainder", "remainder_mid", "gain")
"""Columns of every ledger, in nats."""

_FACTORS = ("cos_update", "norm_trait", "norm_update")
_IDENTITY = ("identity: gain = drive + remainder at every step; no causal assumption",)


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
        What each factor contributes; the three values add up to `drive`.
    """

    drive: Result
    cosine: Result
    norm_trait: Result
    norm_update: Result


def step_entries(steps: pd.DataFrame) -> pd.DataFrame:
    """Return seed, arm, step (epoch where there is one) and `ENTRIES` of every step.

    Parameters
    ----------
    steps : DataFrame
        Table ``steps``: seed, arm, step, drive, drive_end, gain, in nats. The remainder is
        recomputed as ``gain - drive``, so the identity holds to the last bit kept.

    Raises
    ------
    DataError
        If a column is missing.
    """
    validate_columns(steps, ["seed", "arm", "step", "drive", "drive_end", "gain"])
    keys = [name for name in ("seed", "arm", "step", "epoch") if name in steps.columns]
    drive_mid = (steps["drive"] + steps["drive_end"]) / 2
    return (
        steps[keys]
        .assign(
            drive=steps["drive"],
            drive_mid=drive_mid,
            remainder=steps["gain"] - steps["drive"],
            remainder_mid=steps["gain"] - drive_mid,
            gain=steps["gain"],
        )
        .sort_values(["seed", "arm", "step"], ignore_index=True)
    )


def ledger(steps: pd.DataFrame, by: Sequence[str] = ("seed", "arm")) -> pd.DataFrame:
    """Sum the entries by run, epoch or arm.

    Parameters
    ----------
    steps : DataFrame
        Table ``steps``.
    by : sequence of str
        Columns to sum within: ``("seed", "arm")`` a run, ``("seed", "arm", "epoch")`` an epoch
        of a run, ``("arm",)`` all runs of an arm, ``()`` the study.

    Returns
    -------
    DataFrame
        `by`, then `ENTRIES` in nats. A run with a missing value anywhere sums to NaN.
    """
    entries = step_entries(steps)
    validate_columns(entries, by)
    if not by:
        return entries[list(ENTRIES)].sum(skipna=False).to_frame().T
    groups = entries.groupby(list(by), observed=True, sort=True)[list(ENTRIES)]
    # groupby.sum skips NaN and would make a diverged run look small.
    sums = groups.sum().where(groups.count().eq(groups.size(), axis=0))
    return sums.reset_index()


def cumulative_ledger(steps: pd.DataFrame) -> pd.DataFrame:
    """Return the entries summed from the start of the run through each step, in nats."""
    entries = step_entries(steps)
    entries[list(ENTRIES)] = entries.groupby(["seed", "arm"], observed=True)[list(ENTRIES)].cumsum()
    return entries


def ledger_curve(steps: pd.DataFrame, *, level: float = 0.95) -> pd.DataFrame:
    """Mean cumulative ledger of each arm at each step, with pointwise t bands over seeds.

    Returns
    -------
    DataFrame
        arm, step, entry, mean, low, high (nats), n_seeds. With one seed the band is NaN.
    """
    validate_level(level)
    long = cumulative_ledger(steps).melt(
        ["arm", "step", "seed"], list(ENTRIES), var_name="entry", value_name="nats"
    )
    grouped = long.dropna().groupby(["arm", "step", "entry"], observed=True)["nats"]
    table = grouped.agg(mean="mean", sd="std", n_seeds="count").reset_index()
    n = table["n_seeds"].to_numpy()
    half = stats.t.isf((1 - level) / 2, np.maximum(n - 1, 1)) * table.pop("sd") / np.sqrt(n)
    return table.assign(low=table["mean"] - half, high=table["mean"] + half)


def explained_shares(
    steps: pd.DataFrame,
    *,
    term: Term = "drive",
    arms: Sequence[str] | None = None,
    epochs: bool = False,
    level: float = 0.95,
    rng: np.random.Generator | int = 0,
) -> tuple[Result, ...]:
    r"""Share of the trait-loss drop that `term` explains, ``sum_s term / sum_s gain``.

    Parameters
    ----------
    steps : DataFrame
        Table ``steps``.
    term : {"drive", "drive_mid", "remainder", "remainder_mid"}
        Numerator; ``drive_mid`` is the trapezoid rule.
    arms : sequence of str, optional
        Arms, one estimate each (default: all). An arm whose loss does not drop (the sum of
        gains is near 0) gets an unbounded set, and says so.
    epochs : bool
        One estimate an epoch and arm instead of one an arm.
    level : float
        Confidence level in (0, 1).
    rng : Generator or int
        Randomness of the bootstrap, used when the per-seed residuals are skewed.

    Returns
    -------
    tuple of (Estimate or NotEstimable)
        Ratio of sums over seeds with Fieller's set, or bootstrap-t if skewed.
    """
    by = ("seed", "arm", "epoch") if epochs else ("seed", "arm")
    sums = ledger(steps, by)
    if arms is not None:
        validate_arms(sums, arms)
        sums = sums.loc[sums["arm"].isin(arms)]
    return tuple(
        _share(_label(key), rows, term, level, rng)
        for key, rows in sums.groupby(list(by[1:]), observed=True, sort=True)
    )


def layer_shares(
    layers: pd.DataFrame,
    steps: pd.DataFrame,
    *,
    level: float = 0.95,
    rng: np.random.Generator | int = 0,
) -> tuple[Result, ...]:
    """Share of the trait-loss drop that each layer's drive explains, by arm.

    The drive splits exactly over layers, so the shares of an arm add up to its share explained
    by ``drive``.

    Parameters
    ----------
    layers : DataFrame
        Table ``layers``: seed, arm, step, layer, drive (nats).
    steps : DataFrame
        Table ``steps`` of the same runs and steps.
    level, rng
        As in `explained_shares`.

    Raises
    ------
    DataError
        If the layers' drives do not add up to the steps' (a thinned table of layers, say).
    """
    validate_columns(layers, ["seed", "arm", "step", "layer", "drive"])
    runs = ledger(steps)[["seed", "arm", "drive", "gain"]]
    sums = layers.groupby(["seed", "arm", "layer"], observed=True)["drive"].sum().reset_index()
    totals = sums.groupby(["seed", "arm"], observed=True)["drive"].sum().rename("layered")
    both = runs.join(totals, on=["seed", "arm"], how="inner").dropna()
    gap = (both["layered"] - both["drive"]).abs().max()
    # Float32 logs of the same inner product, summed in another order, agree to about 1e-4.
    if gap > 1e-3 * both["drive"].abs().max():
        raise DataError(
            f"the layers' drives miss the steps' by up to {gap:.3g} nats a run; "
            "record the layers at every step"
        )
    joined = sums.merge(runs[["seed", "arm", "gain"]], on=["seed", "arm"])
    return tuple(
        _share(_label(key), rows, "drive", level, rng)
        for key, rows in joined.groupby(["arm", "layer"], observed=True, sort=True)
    )


def _label(key: object) -> str:
    parts = key if isinstance(key, tuple) else (key,)
    return "_".join(str(part) for part in parts)


def _share(
    label: str, rows: pd.DataFrame, term: str, level: float, rng: np.random.Generator | int
) -> Result:
    whole = rows.loc[np.isfinite(rows[[term, "gain"]].to_numpy(float)).all(axis=1)]
    estimand = Estimand(
        name=f"share_{term}_{label}",
        sentence=f"Share of the drop of the trait loss that {term} adds up to ({label}).",
        outcome="share of summed gain (1)",
        contrast=f"sum({term}) / sum(gain)",
        assumptions=_IDENTITY,
    )
    return ratio_of_sums(
        estimand,
        whole[term].to_numpy(float),
        whole["gain"].to_numpy(float),
        level=level,
        n_dropped=len(rows) - len(whole),
        diagnostics={"sum_gain_mean": float(whole["gain"].mean())},
        rng=rng,
    )


def split_difference(
    steps: pd.DataFrame,
    arm: str,
    *,
    reference: str = "baseline",
    mid: bool = False,
    level: float = 0.95,
    interval: IntervalRule = "auto",
    rng: np.random.Generator | int = 0,
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
    level : float
        Confidence level in (0, 1).
    interval, rng
        As in `mean_interval`.

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
            level,
            estimand=Estimand(
                name=f"difference_{name}_{arm}",
                sentence=f"Mean change of summed {name} from {reference} to {arm}, same seed.",
                outcome=f"sum_{name} (nats)",
                contrast=f"{arm} - {reference}",
                assumptions=("seeds are independent",),
            ),
            interval=interval,
            n_dropped=panel.n_dropped,
            rng=rng,
        )

    return LedgerSplit(gain=entry("gain"), drive=entry(drive), remainder=entry(remainder))


def drive_factors(
    steps: pd.DataFrame,
    arm: str,
    *,
    reference: str = "baseline",
    level: float = 0.95,
    interval: IntervalRule = "auto",
    rng: np.random.Generator | int = 0,
) -> DriveFactors:
    r"""Split the arm difference in drive over cosine, gradient norm and update norm.

    ``drive_t = |g_t| |u_t| c_t``. The difference of the product at step t is divided by the
    Shapley value of each factor: for factor x with the others y, z, ``Dx ((y0 z0 + y1 z1) / 3 +
    (y0 z1 + y1 z0) / 6)``, so that the three parts add up exactly, whatever the order.

    Parameters
    ----------
    steps : DataFrame
        Table ``steps`` with cos_update (1), norm_trait (nats), norm_update (1).
    arm, reference : str
        The contrast is `arm` minus `reference`, paired by seed and step.
    level : float
        Confidence level in (0, 1).
    interval, rng
        As in `mean_interval`.

    Notes
    -----
    Arithmetic, not mediation: after the first step the arms are at different points, so a
    gradient norm can differ because the cosine did earlier.

    References
    ----------
    Shapley (1953), A value for n-person games; Shorrocks (2013), J. Econ. Inequal. 11, 99-126.
    """
    validate_columns(steps, ["seed", "arm", "step", *_FACTORS])
    validate_arms(steps, [arm, reference])
    sides = [
        steps.loc[steps["arm"] == name, ["seed", "step", *_FACTORS]] for name in (reference, arm)
    ]
    pairs = sides[0].merge(sides[1], on=["seed", "step"], suffixes=("_0", "_1"))
    start, end = ([pairs[f"{name}_{side}"].to_numpy(float) for name in _FACTORS] for side in (0, 1))
    parts = {name: _shapley(start, end, i) for i, name in enumerate(_FACTORS)}
    parts["drive"] = np.prod(end, axis=0) - np.prod(start, axis=0)
    # A missing step would make the sum of a run look small: the whole seed is left out.
    broken = pairs.loc[~np.isfinite(parts["drive"]), "seed"]
    sums = pd.DataFrame(parts).groupby(pairs["seed"]).sum()
    whole = sums.loc[~sums.index.isin(broken)]
    n_seeds = steps.loc[steps["arm"].isin([arm, reference]), "seed"].nunique()

    def part(column: str, phrase: str) -> Result:
        return mean_interval(
            whole[column].to_numpy(float),
            level,
            estimand=Estimand(
                name=f"difference_drive_{column}_{arm}" if column != "drive" else f"{column}_{arm}",
                sentence=f"Change of summed drive from {reference} to {arm} {phrase}.",
                outcome="sum_drive (nats)",
                contrast=f"{arm} - {reference}",
                assumptions=("arithmetic: the factors influence each other along the run",),
            ),
            interval=interval,
            n_dropped=n_seeds - len(whole),
            rng=rng,
        )

    return DriveFactors(
        drive=part("drive", "through all factors"),
        cosine=part("cos_update", "through the cosine of update and trait gradient"),
        norm_trait=part("norm_trait", "through the length of the trait gradient"),
        norm_update=part("norm_update", "through the length of the update"),
    )


def _shapley(start: Sequence[Vector], end: Sequence[Vector], which: int) -> Vector:
    """Shapley value of factor `which` in the change of a product of three."""
    y, z = (i for i in range(3) if i != which)
    same = (start[y] * start[z] + end[y] * end[z]) / 3
    mixed = (start[y] * end[z] + end[y] * start[z]) / 6
    return (end[which] - start[which]) * (same + mixed)
