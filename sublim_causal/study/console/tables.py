"""Tables that the command line prints."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from sublim_causal.analysis.arms.contrasts import paired_contrast
from sublim_causal.analysis.estimates.intervals import mean_interval
from sublim_causal.analysis.estimates.types import Estimate
from sublim_causal.analysis.plan.ranges import within
from sublim_causal.analysis.plan.results.text_tables import TableColumns, stacked
from sublim_causal.report.wording import MINUS, decimals, interval, number
from sublim_causal.store.manifest import read_manifest, reference_of
from sublim_causal.store.outcome import outcome_of
from sublim_causal.store.schema import REPLICATES
from sublim_causal.store.tables import read_table

COSINES = ["mean_cos_gradient", "share_positive", "mean_cos_update"]
ROBUST = ["initial_robust_accuracy", "teacher_robust_accuracy", "robust_accuracy"]
BAR_WIDTH = 18
"""Columns of the longest bar of a table."""


def arm_tables(run: Path, arms: Sequence[str], console: Console) -> Iterator[Table]:
    """Yield outcome, difference to the study's reference arm, and alignment of every arm.

    Intervals are 95 % intervals over seeds; the difference is paired by seed. Where `console` is
    too narrow for one table, the alignment follows in a second.
    """
    outcome = outcome_of(read_manifest(run))
    replicates, reference = read_replicates(run, arms, [outcome.name, *COSINES])
    arms = [arm for arm in arms if (replicates["arm"] == arm).any()]
    seeds = {arm: str(len(complete(replicates, arm))) for arm in arms}
    scale = scale_of(outcome.name)
    reached = TableColumns(
        outcome.label[0].upper() + outcome.label[1:],
        ("seeds", f"{outcome.label} ({scale.unit})", *difference_heading(reference, scale)),
        "left",
        [(seeds[arm], *means(replicates, outcome.name, arm, reference)) for arm in arms],
    )
    alignment = TableColumns(
        "Alignment",
        ("cos gradient", "> 0", "cos update"),
        "right",
        [alignment_texts(complete(replicates, arm)) for arm in arms],
    )
    title = "Means over seeds, with 95 % intervals"
    yield from stacked(title, "arm", arms, [reached, alignment], console)


def attack_tables(run: Path, arms: Sequence[str], console: Console) -> Iterator[Table]:
    """Yield accuracy under attack of every arm; nothing for a study without an attack.

    Intervals are as in `arm_tables`.
    """
    replicates, reference = read_replicates(run, arms, ROBUST)
    replicates = replicates.dropna(subset=ROBUST)
    arms = [arm for arm in arms if len(complete(replicates, arm))]
    if not arms:
        return
    before, teacher = replicates.drop_duplicates("seed")[ROBUST[:2]].mean()
    robust = TableColumns(
        "",
        ("robust accuracy (%)", *difference_heading(reference, PERCENT)),
        "left",
        [means(replicates, "robust_accuracy", arm, reference) for arm in arms],
    )
    title = (
        f"Under attack: teachers {number(100 * teacher, 1)} %, "
        f"initialisations {number(100 * before, 1)} %"
    )
    yield from stacked(title, "arm", arms, [robust], console)


def read_replicates(
    run: Path, arms: Sequence[str], columns: list[str]
) -> tuple[pd.DataFrame, str | None]:
    """Return `columns` of the replicates of `arms` and of the reference arm, and its name.

    The name is None where no arm can be compared with it.
    """
    replicates = read_table(run, "replicates", columns=["seed", "arm", "status", *columns])
    reference = reference_of(read_manifest(run)["study"])
    comparable = reference in set(replicates["arm"]) and set(arms) != {reference}
    kept = replicates[replicates["arm"].isin([*arms, reference])]
    # In the order of a plan, whose bootstrap draws these seeds alike.
    return kept.sort_values("seed", ignore_index=True), reference if comparable else None


def complete(replicates: pd.DataFrame, arm: str) -> pd.DataFrame:
    """Return the rows of the complete replicates of `arm`."""
    return replicates[(replicates["arm"] == arm) & (replicates["status"] == "complete")]


@dataclass(frozen=True)
class Scale:
    """How a column is written: times `factor`, in `unit`; differences in `points`."""

    factor: float
    unit: str
    points: str


PERCENT = Scale(100.0, "%", "points")


def scale_of(column: str) -> Scale:
    """Return how a column of ``replicates`` is written: fractions in percent."""
    unit = next(one.unit for one in REPLICATES if one.name == column)
    return PERCENT if unit == "fraction" else Scale(1.0, unit, unit)


def difference_heading(reference: str | None, scale: Scale) -> tuple[str, ...]:
    """Return the heading of the differences; none where there is nothing to compare."""
    return () if reference is None else (f"minus {reference} ({scale.points})",)


def means(
    replicates: pd.DataFrame, column: str, arm: str, reference: str | None
) -> tuple[str, ...]:
    """Write the mean of `column` over the complete seeds of `arm`, and its paired difference.

    In the units of `scale_of`; the difference to `reference` is empty for that arm itself.
    """
    scale = scale_of(column).factor
    values = complete(replicates, arm)[column].to_numpy()
    if not len(values):
        return "none complete", *([""] if reference is not None else [])
    found = within(mean_interval(values), column)
    few = f"{number(scale * values.mean(), 1 if scale == 100 else 2)} (too few seeds)"
    mean = limits(found, scale) if isinstance(found, Estimate) else few
    if reference is None:
        return (mean,)
    if arm == reference:
        return mean, ""
    contrast = paired_contrast(replicates, column, arm, reference)
    return mean, limits(contrast, scale, sign=True) if isinstance(
        contrast, Estimate
    ) else "too few seeds"


def limits(found: Estimate, scale: float, *, sign: bool = False) -> str:
    """Write value and limits times `scale`, to the digits that the interval supports."""
    low, high = scale * found.low, scale * found.high
    places = decimals(low, high) if high > low else 1
    value = number(scale * found.value, places)
    plus = "+" if sign and not value.startswith(MINUS) else ""
    return f"{plus}{value} {interval(low, high, places)}"


def alignment_texts(rows: pd.DataFrame) -> tuple[str, str, str]:
    """Write the mean cosines of the complete replicates of an arm."""
    means = rows[COSINES].mean()
    if means.isna().all():
        return ("not measured" if len(rows) else "", "", "")
    gradient, positive, update = means
    return number(gradient, 4), f"{number(100 * positive, 1)} %", number(update, 4)


def seeds_tables(
    needed: pd.DataFrame, power: float, margin: float | None, console: Console
) -> Iterator[Table]:
    """Yield how many seeds each contrast needs, by the pilot's spread and by a cautious one.

    Where `console` is too narrow for one table, the needed seeds follow in a second.
    """
    rows = needed.to_dict("records")
    spread = TableColumns(
        "Pilot",
        ("pilot's mean", "spread", "sd", "± now"),
        "right",
        [
            (
                f"{row['pilot_mean']:+.4f}",
                row["sd"],
                f"{row['sd_value']:.4f}",
                f"{row['half_width']:.4f}",
            )
            for row in rows
        ],
    )
    wanted = ["seeds_half_width", "seeds_power", *(["seeds_equivalence"] if margin else [])]
    equal = () if margin is None else (f"equal ±{margin:g}",)
    seeds = TableColumns(
        "Seeds",
        ("spread", "± wanted", "seeds", f"power {power:g}", *equal),
        "right",
        [(row["sd"], f"{row['wanted']:.4f}", *(_count(row[n]) for n in wanted)) for row in rows],
    )
    caption = (
        "seeds: for the wanted half-width; "
        f"power {power:g}: to detect {needed['difference'].iloc[0]:g}; "
        "cautious: with the upper 80 % confidence limit of the standard deviation (sd)"
    )
    names = [row["contrast"] for row in rows]
    *others, last = stacked("Seeds needed", "contrast", names, [spread, seeds], console)
    last.caption = caption
    yield from (*others, last)


def _count(seeds: Any) -> str:
    return "over 100,000" if seeds is pd.NA else str(seeds)


def looks_table(title: str, by_look: pd.DataFrame, wanted: float) -> Table:
    """Return the power by number of seeds, and from which number on it is the `wanted` one."""
    reached = {
        name: next((str(n) for n in rows.loc[rows["power"] >= wanted, "n_seeds"]), "more")
        for name, rows in by_look.groupby("sd")
    }
    caption = f"power {wanted:g}: {reached['pilot']} seeds, cautious {reached['cautious']}"
    table = Table(title=title, caption=caption, box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("seeds", "power", "cautious"):
        table.add_column(heading, no_wrap=True)
    for n, power in by_look.pivot(index="n_seeds", columns="sd", values="power").iterrows():
        table.add_row(str(n), f"{power['pilot']:.3f}", f"{power['cautious']:.3f}")
    return table


def curve_table(contrast: str, curve: pd.DataFrame, difference: float) -> Table:
    """Return half-width, also as a bar, and power against the number of seeds."""
    table = Table(title=f"{contrast}, by number of seeds", box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("seeds", "half-width", ""):
        table.add_column(heading, no_wrap=True)
    table.add_column(f"power to detect {difference:g}", max_width=16)
    table.add_column("cautious", no_wrap=True)
    pilot, cautious = (curve[curve["sd"] == name] for name in ("pilot", "cautious"))
    widest = pilot["half_width"].max()
    for row, careful in zip(pilot.to_dict("records"), cautious["power"], strict=True):
        table.add_row(
            str(row["n_seeds"]),
            f"{row['half_width']:.4f}",
            "█" * max(1, round(BAR_WIDTH * row["half_width"] / widest)),
            f"{row['power']:.3f}",
            f"{careful:.3f}",
        )
    return table
