r"""How many seeds a target half-width, power or equivalence test needs, from a pilot run.

A pilot's standard deviation is itself uncertain, so every answer is also given for its upper
80 % confidence limit, :math:`s \sqrt{(n - 1) / \chi^2_{0.2, n-1}}` (Browne, 1995).

The difference to detect is the smallest one that matters, never the pilot's own mean: a pilot whose
own test is significant overestimates it, so that the planned study has too little power.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from sublim_causal.analysis.arms.contrasts import paired_arms
from sublim_causal.analysis.arms.independent import samples
from sublim_causal.analysis.estimates.distributions import norm_sf, t_critical, t_isf
from sublim_causal.analysis.estimates.panel import seeds_and_arms
from sublim_causal.analysis.estimates.types import MIN_SEEDS, Floats
from sublim_causal.errors import DataError, RequestError

MAX_SEEDS = 100_000
_CAUTION = 0.8


@dataclass(frozen=True)
class Pilot:
    """Mean and spread of a paired difference in a pilot run.

    Attributes
    ----------
    outcome, contrast : str
        Column and arms that were compared.
    mean, sd : float
        Of the per-seed differences, in the outcome's unit.
    n_seeds : int
        Seeds of the pilot.
    """

    outcome: str
    contrast: str
    mean: float
    sd: float
    n_seeds: int

    @property
    def sd_upper(self) -> float:
        """Upper 80 % confidence limit of the standard deviation."""
        from scipy import stats

        df = self.n_seeds - 1
        return float(self.sd * np.sqrt(df / stats.chi2.ppf(1 - _CAUTION, df)))


def pilot(
    replicates: pd.DataFrame,
    outcome: str,
    arm: object,
    reference: object = "baseline",
    *,
    cluster: str = "seed",
    arm_column: str = "arm",
    paired: bool = True,
) -> Pilot:
    """Return mean and spread of the paired differences arm - reference.

    Parameters
    ----------
    replicates, outcome, arm, reference, cluster, arm_column
        As in `paired_contrast`.
    paired : bool
        Whether arms share their seeds. If not, `n_seeds` are those of the smaller arm, and the
        spread is the root of the sum of both variances: what is computed from it holds for this
        number of seeds in each arm, and is conservative, because the degrees of freedom of one arm
        are counted.

    Raises
    ------
    DataError
        If fewer than 3 seeds are complete, or all their differences are equal.
    RequestError
        If a column or an arm is unknown.
    """
    columns = {"cluster": cluster, "arm_column": arm_column}
    contrast = f"{arm} - {reference}"
    if not paired:
        return _independent(
            samples(replicates, outcome, arm, reference, **columns), outcome, contrast
        )
    panel = paired_arms(replicates, outcome, arm, reference, **columns)
    d = panel.difference(outcome, *panel.arms)
    if len(d) < MIN_SEEDS or np.ptp(d) == 0:
        raise DataError(
            f"{outcome}, {arm} - {reference}: {len(d)} complete seeds, "
            f"{len(np.unique(d))} distinct differences; a pilot needs at least {MIN_SEEDS} of both"
        )
    return Pilot(outcome, contrast, float(d.mean()), float(d.std(ddof=1)), len(d))


def _independent(arms: Sequence[Floats], outcome: str, contrast: str) -> Pilot:
    fewest = min(map(len, arms))
    sd = float(np.sqrt(sum(values.var(ddof=1) for values in arms))) if fewest > 1 else 0.0
    if fewest < MIN_SEEDS or sd == 0:
        raise DataError(
            f"{outcome}, {contrast}: {fewest} complete seeds in the smaller arm; a pilot needs at "
            f"least {MIN_SEEDS} in each, and values that vary"
        )
    return Pilot(outcome, contrast, float(arms[0].mean() - arms[1].mean()), sd, fewest)


def pilots(
    replicates: pd.DataFrame,
    outcome: str = "final_accuracy",
    reference: object = "baseline",
    *,
    cluster: str = "seed",
    arm_column: str = "arm",
    paired: bool = True,
) -> list[Pilot]:
    """Return a `pilot` of every arm against `reference`; arms with too few data are left out.

    Parameters
    ----------
    replicates, outcome, reference, cluster, arm_column, paired
        As in `pilot`.

    Raises
    ------
    RequestError
        If the column or the reference is unknown, or the column holds no measured numbers.
    """
    measured = [name for name, kind in replicates.dtypes.items() if kind == np.float64]
    if outcome in replicates and outcome not in measured:
        raise RequestError(
            "--outcome", outcome, f"a measured column: {', '.join(map(str, measured))}"
        )
    found = []
    frame = seeds_and_arms(replicates, cluster, arm_column)
    for arm in sorted({*frame["arm"]} - {str(reference)}):
        with contextlib.suppress(DataError):
            found.append(pilot(frame, outcome, arm, reference, paired=paired))
    return found


def half_width(sd: float, n_seeds: int, level: float = 0.95) -> float:
    """Expected half-width t_{n-1} sd / sqrt(n) of the paired t interval."""
    return float(t_critical(level, n_seeds - 1) * sd / np.sqrt(n_seeds))


def power_of_contrast(sd: float, difference: float, n_seeds: int, level: float = 0.95) -> float:
    """Power of the two-sided paired t test: noncentral t with sqrt(n) difference / sd."""
    from scipy import stats

    critical = t_critical(level, n_seeds - 1)
    df, shift = n_seeds - 1, np.sqrt(n_seeds) * difference / sd
    # P(T < -c) as P(-T > c): the lower tail of scipy (and statsmodels) is NaN where it is tiny.
    return float(stats.nct.sf(critical, df, shift) + stats.nct.sf(critical, df, -shift))


def power_of_equivalence(
    sd: float, margin: float, n_seeds: int, *, difference: float = 0.0, alpha: float = 0.05
) -> float:
    r"""Power of the paired TOST, exact: averaged over the distribution of the sample sd.

    .. math:: \int_0^{u_0} [\Phi(b - tu) - \Phi(-a + tu)] f(u)\,du,\quad
              a, b = \sqrt n (\Delta \pm \delta) / \sigma

    with u = s / sigma, t the one-sided critical value and the bracket 0 beyond u_0.
    """
    from scipy import integrate, stats

    df = n_seeds - 1
    critical = t_isf(alpha, df)
    above = np.sqrt(n_seeds) * (margin + difference) / sd
    below = np.sqrt(n_seeds) * (margin - difference) / sd
    scaled = stats.chi(df, scale=1 / np.sqrt(df))
    end = min((above + below) / (2 * critical), float(scaled.isf(1e-12)))

    def accepted(u: float) -> float:
        inside = norm_sf(critical * u - below) - norm_sf(above - critical * u)
        return float(inside * scaled.pdf(u))

    return float(integrate.quad(accepted, 0.0, end, limit=200)[0]) if end > 0 else 0.0


def seeds_for_half_width(sd: float, wanted: float, level: float = 0.95) -> int:
    """Fewest seeds whose expected half-width is at most `wanted`.

    Raises
    ------
    RequestError
        If `wanted` is not positive, or needs more than 100,000 seeds.
    """
    _validate_positive("half-width", wanted)
    return _fewest(lambda n: half_width(sd, n, level) <= wanted, "half-width", wanted)


def seeds_for_power(sd: float, difference: float, power: float = 0.8, level: float = 0.95) -> int:
    """Fewest seeds with which the test detects `difference` with probability `power`.

    Raises
    ------
    RequestError
        If `difference` is 0, `power` not in (0, 1), or more than 100,000 seeds are needed.
    """
    _validate_positive("difference", abs(difference))
    _validate_share("power", power)
    return _fewest(
        lambda n: power_of_contrast(sd, difference, n, level) >= power, "difference", difference
    )


def seeds_for_equivalence(
    sd: float, margin: float, power: float = 0.8, *, difference: float = 0.0, alpha: float = 0.05
) -> int:
    """Fewest seeds with which arms that differ by `difference` are shown to be equivalent.

    Raises
    ------
    RequestError
        If `margin` does not exceed the difference, `power` is not in (0, 1), or more than
        100,000 seeds are needed.
    """
    _validate_positive("margin", margin - abs(difference))
    _validate_share("power", power)
    return _fewest(
        lambda n: power_of_equivalence(sd, margin, n, difference=difference, alpha=alpha) >= power,
        "margin",
        margin,
    )


def power_table(
    pilots: Iterable[Pilot],
    *,
    difference: float,
    wanted: float | None = None,
    margin: float | None = None,
    power: float = 0.8,
    level: float = 0.95,
) -> pd.DataFrame:
    """Seeds needed per contrast, for a wanted half-width and to detect a difference that matters.

    Parameters
    ----------
    pilots : iterable of Pilot
        The contrasts.
    difference : float
        Smallest difference that matters, in the outcome's unit; not the pilot's own.
    wanted : float, optional
        Half-width in the outcome's unit; default: half of what each pilot has.
    margin : float, optional
        Where given, also the seeds with which arms that do not differ are shown to be equivalent.
    power, level : float
        Wanted power and confidence level.

    Returns
    -------
    DataFrame
        One row per pilot and sd ("pilot", "cautious": its upper 80 % limit): outcome, contrast,
        n_pilot, pilot_mean, difference, sd, sd_value, half_width (at n_pilot seeds), wanted,
        seeds_half_width, seeds_power, seeds_equivalence; seeds are <NA> beyond 100,000, and for
        equivalence without a margin.
    """
    _validate_positive("difference", abs(difference))
    rows = []
    for one in pilots:
        aim = half_width(one.sd, one.n_seeds, level) / 2 if wanted is None else wanted
        for name, sd in (("pilot", one.sd), ("cautious", one.sd_upper)):
            rows.append(
                {
                    "outcome": one.outcome,
                    "contrast": one.contrast,
                    "n_pilot": one.n_seeds,
                    "pilot_mean": one.mean,
                    "difference": difference,
                    "sd": name,
                    "sd_value": sd,
                    "half_width": half_width(sd, one.n_seeds, level),
                    "wanted": aim,
                    "seeds_half_width": _or_na(seeds_for_half_width, sd, aim, level),
                    "seeds_power": _or_na(seeds_for_power, sd, difference, power, level),
                    "seeds_equivalence": pd.NA
                    if margin is None
                    else _or_na(seeds_for_equivalence, sd, margin, power),
                }
            )
    counts = ("seeds_half_width", "seeds_power", "seeds_equivalence")
    return pd.DataFrame(rows).astype(dict.fromkeys(counts, "Int64"))


def _or_na(seeds_for: Callable[..., int], *arguments: float) -> Any:
    try:
        return seeds_for(*arguments)
    except RequestError:
        return pd.NA


def power_curve(
    pilot_: Pilot,
    seeds: Iterable[int] = (8, 12, 16, 20, 24, 30, 40, 50, 75, 100),
    *,
    difference: float,
    margin: float | None = None,
    level: float = 0.95,
) -> pd.DataFrame:
    """Half-width and power against the number of seeds, also with the cautious sd.

    Parameters
    ----------
    pilot_ : Pilot
        Source of the standard deviation.
    seeds : iterable of int
        Numbers of seeds, at least 3 each.
    difference : float
        Smallest difference that matters; not the pilot's own.
    margin : float, optional
        Where given, the column `power_equivalence` too (true difference 0).

    Returns
    -------
    DataFrame
        n_seeds, sd ("pilot" or "cautious"), half_width, power, power_equivalence.
    """
    rows = []
    for n in seeds:
        for name, sd in (("pilot", pilot_.sd), ("cautious", pilot_.sd_upper)):
            row = {"n_seeds": n, "sd": name, "half_width": half_width(sd, n, level)}
            row["power"] = power_of_contrast(sd, difference, n, level)
            if margin is not None:
                row["power_equivalence"] = power_of_equivalence(sd, margin, n, alpha=1 - level)
            rows.append(row)
    return pd.DataFrame(rows)


def _fewest(enough: Callable[[int], bool], field: str, value: float) -> int:
    """Smallest n >= 3 for which `enough`, which must stay true once it is."""
    low, high = MIN_SEEDS - 1, MIN_SEEDS
    while not enough(high):
        if high == MAX_SEEDS:
            raise RequestError(field, value, f"a value that {MAX_SEEDS:,} seeds can reach")
        low, high = high, min(2 * high, MAX_SEEDS)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _validate_positive(field: str, value: float) -> None:
    if not (np.isfinite(value) and value > 0):
        raise RequestError(field, value, "a positive number")


def _validate_share(field: str, value: float) -> None:
    if not 0 < value < 1:
        raise RequestError(field, value, "a number between 0 and 1")
