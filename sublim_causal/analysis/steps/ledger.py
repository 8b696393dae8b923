r"""The ledger: a first-order decomposition of the decrease in trait loss, step by step.

At every step ``gain = drive + remainder`` exactly, where ``gain = L(theta_t) - L(theta_{t+1})``,
``drive = -<g_t, u_t>`` is its first-order term and ``remainder`` holds curvature and all higher
orders; ``drive_mid``, the mean of ``drive`` and ``drive_end``, is exact for a quadratic loss.
Summed over a run, ``sum gain = L(theta_0) - L(theta_T)``. This is loss change allocation (Lan et
al., 2019) for the trait loss, by step and layer instead of by parameter: an identity, which needs
no causal assumption and is not a causal effect of alignment.

References
----------
Lan, Liu, Zhou and Yosinski (2019), LCA: loss change allocation for neural network training.
NeurIPS 32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd

from sublim_causal.analysis.estimates.panel import validate_columns
from sublim_causal.analysis.estimates.ratios import ratio_of_sums
from sublim_causal.analysis.estimates.settings import Settings
from sublim_causal.analysis.estimates.types import Estimand, Result
from sublim_causal.errors import DataError

Term = Literal["drive", "drive_mid", "remainder", "remainder_mid"]
ENTRIES = ("drive", "drive_mid", "remainder", "remainder_mid", "gain")
"""Columns of every ledger, in nats."""

_IDENTITY = ("identity: gain = drive + remainder at every step; no causal assumption",)


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
        of a run, ``("arm",)`` all runs of an arm.

    Returns
    -------
    DataFrame
        `by`, then `ENTRIES` in nats. A run with a missing value anywhere sums to NaN.
    """
    entries = step_entries(steps)
    validate_columns(entries, by)
    groups = entries.groupby(list(by), observed=True, sort=True)[list(ENTRIES)]
    # groupby.sum skips NaN and would understate a diverged run.
    sums = groups.sum().where(groups.count().eq(groups.size(), axis=0))
    return sums.reset_index()


def explained_shares(
    steps: pd.DataFrame,
    *,
    term: Term = "drive",
    epochs: bool = False,
    settings: Settings = Settings(),
) -> tuple[Result, ...]:
    r"""Share of the decrease in trait loss that `term` explains, ``sum_s term / sum_s gain``.

    Parameters
    ----------
    steps : DataFrame
        Table ``steps``.
    term : {"drive", "drive_mid", "remainder", "remainder_mid"}
        Numerator; ``drive_mid`` is the trapezoid rule.
    epochs : bool
        One estimate per epoch and arm instead of one per arm. An arm whose loss does not
        decrease (the sum of gains is near 0) gets an unbounded set, with a warning.
    settings : Settings
        How the intervals are computed; see `ratio_of_sums`.

    Returns
    -------
    tuple of (Estimate or NotEstimable)
        Ratio of sums over seeds with Fieller's set, or its hull with bootstrap-t if skewed.
    """
    by = ("seed", "arm", "epoch") if epochs else ("seed", "arm")
    sums = ledger(steps, by)
    return tuple(
        _share(key, rows, term, settings=settings)
        for key, rows in sums.groupby(list(by[1:]), observed=True, sort=True)
    )


def layer_shares(
    layers: pd.DataFrame, steps: pd.DataFrame, *, settings: Settings = Settings()
) -> tuple[Result, ...]:
    """Share of the decrease in trait loss that each layer's drive explains, by arm.

    The drive splits exactly over layers, so the shares of an arm add up to the share that its
    ``drive`` explains.

    Parameters
    ----------
    layers : DataFrame
        Table ``layers``: seed, arm, step, layer, drive (nats).
    steps : DataFrame
        Table ``steps`` of the same runs and steps.
    settings : Settings
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
            f"the layers' drives miss the steps' by up to {gap:.3g} nats per run; "
            "record the layers at every step"
        )
    joined = sums.merge(runs[["seed", "arm", "gain"]], on=["seed", "arm"])
    return tuple(
        _share(key, rows, "drive", settings=settings)
        for key, rows in joined.groupby(["arm", "layer"], observed=True, sort=True)
    )


def _share(key: tuple[object, ...], rows: pd.DataFrame, term: str, *, settings: Settings) -> Result:
    arm, part = (*map(str, key), "")[:2]
    label = "_".join(map(str, key))
    whole = rows.loc[np.isfinite(rows[[term, "gain"]].to_numpy(float)).all(axis=1)]
    estimand = Estimand(
        name=f"share_{term}_{label}",
        sentence=f"Share of the decrease in trait loss that {term} adds up to ({label}).",
        outcome="share of summed gain (1)",
        contrast=f"sum({term}) / sum(gain)",
        assumptions=_IDENTITY,
        arm=arm,
        part=part,
        unit="1",
    )
    return ratio_of_sums(
        estimand,
        whole[term].to_numpy(float),
        whole["gain"].to_numpy(float),
        n_dropped=len(rows) - len(whole),
        diagnostics={"sum_gain_mean": float(whole["gain"].mean())},
        settings=settings,
    )
