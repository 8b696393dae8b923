"""Tables that the command line prints."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.table import Table

from sublim_causal.analysis.arms.contrasts import mean_interval, paired_contrast
from sublim_causal.analysis.estimates.settings import Settings
from sublim_causal.analysis.estimates.types import Estimate, Result
from sublim_causal.store.tables import read_table

COLUMNS = ["seed", "arm", "status", "final_accuracy", "mean_cos_gradient", "share_positive"]
REFERENCE = "baseline"


def arm_table(run: Path, arms: list[str]) -> Table:
    """Return final accuracy, difference to baseline, and alignment of every arm.

    Intervals are 95 % t intervals over seeds; the difference is paired by seed.
    """
    replicates = read_table(run, "replicates", columns=[*COLUMNS, "mean_cos_update"], arms=arms)
    arms = [arm for arm in arms if (replicates["arm"] == arm).any()]
    table = Table(title="Means over seeds, with 95 % t intervals", box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("arm", "seeds", "final test accuracy", f"minus {REFERENCE} (paired)"):
        table.add_column(heading, no_wrap=True)
    for heading in ("cos gradient", "> 0", "cos update"):
        table.add_column(heading, justify="right")
    for arm in arms:
        rows = replicates[(replicates["arm"] == arm) & (replicates["status"] == "complete")]
        if rows.empty:
            table.add_row(arm, "0", "none complete", "", "", "", "")
            continue
        means = rows[["mean_cos_gradient", "share_positive", "mean_cos_update"]].mean()
        texts = (
            f"{means['mean_cos_gradient']:.4f}",
            f"{100 * means['share_positive']:.1f} %",
            f"{means['mean_cos_update']:.4f}",
        )
        not_measured = ("not measured", "", "")
        table.add_row(
            arm,
            str(len(rows)),
            *accuracy_texts(replicates, "final_accuracy", arm, arms),
            *(not_measured if means.isna().all() else texts),
        )
    return table


def attack_table(run: Path, arms: list[str]) -> Table | None:
    """Return accuracy under attack of every arm; None for a study without an attack.

    Intervals are as in `arm_table`.
    """
    columns = ["initial_robust_accuracy", "teacher_robust_accuracy", "robust_accuracy"]
    replicates = read_table(
        run, "replicates", columns=["seed", "arm", "status", *columns], arms=arms
    )
    replicates = replicates[replicates["status"] == "complete"].dropna(subset=columns)
    arms = [arm for arm in arms if (replicates["arm"] == arm).any()]
    if not arms:
        return None
    reference, teacher = replicates.drop_duplicates("seed")[columns[:2]].mean()
    title = f"Under attack: teachers {teacher:.3f}, initialisations {reference:.3f}"
    table = Table(title=title, box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("arm", "robust accuracy", f"minus {REFERENCE} (paired)"):
        table.add_column(heading, no_wrap=True)
    for arm in arms:
        table.add_row(arm, *accuracy_texts(replicates, "robust_accuracy", arm, arms))
    return table


def accuracy_texts(
    replicates: pd.DataFrame, column: str, arm: str, arms: list[str]
) -> tuple[str, str]:
    """Write the mean of `column` over the complete seeds of `arm`, and its difference to baseline.

    The difference is empty for the baseline itself, and where there is none among `arms`.
    """
    rows = replicates[(replicates["arm"] == arm) & (replicates["status"] == "complete")]
    values = rows[column].to_numpy()
    mean = interval(
        mean_interval(values, settings=Settings(interval="t")), fallback=float(values.mean())
    )
    if arm == REFERENCE or REFERENCE not in arms:
        return mean, ""
    contrast = paired_contrast(replicates, column, arm, REFERENCE, settings=Settings(interval="t"))
    return mean, interval(contrast, sign=True)


def interval(result: Result, *, sign: bool = False, fallback: float | None = None) -> str:
    """Write value and limits, or the value alone where there are too few seeds for limits."""
    form = "+.3f" if sign else ".3f"
    if isinstance(result, Estimate):
        return f"{result.value:{form}} [{result.low:{form}}, {result.high:{form}}]"
    return f"{fallback:{form}} (too few seeds)" if fallback is not None else "too few seeds"


def seeds_table(needed: pd.DataFrame, power: float, margin: float | None) -> Table:
    """Return how many seeds each contrast needs, by the pilot's spread and by a cautious one."""
    caption = (
        "seeds: for the wanted half-width; "
        f"power {power:g}: to find the pilot's difference; "
        "cautious: with the upper 80 % confidence limit of the standard deviation (sd)"
    )
    table = Table(title="Seeds needed", caption=caption, box=SIMPLE_HEAD, pad_edge=False)
    headings = ["difference", "spread", "sd", "± now", "± wanted", "seeds", f"power {power:g}"]
    if margin is not None:
        headings.append(f"equal ±{margin:g}")
    table.add_column("contrast", no_wrap=True)
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in needed.to_dict("records"):
        seeds = [row["seeds_half_width"], row["seeds_power"]]
        if margin is not None:
            seeds.append(row["seeds_equivalence"])
        table.add_row(
            row["contrast"],
            f"{row['difference']:+.4f}",
            row["sd"],
            *(f"{row[name]:.4f}" for name in ("sd_value", "half_width", "wanted")),
            *("over 100,000" if n is pd.NA else str(n) for n in seeds),
        )
    return table


def curve_table(contrast: str, curve: pd.DataFrame) -> Table:
    """Return half-width, also as a bar, and power against the number of seeds."""
    table = Table(title=f"{contrast}, by number of seeds", box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("seeds", "half-width", "", "power for the pilot's difference", "cautious"):
        table.add_column(heading, no_wrap=True)
    pilot, cautious = (curve[curve["sd"] == name] for name in ("pilot", "cautious"))
    widest = pilot["half_width"].max()
    for row, careful in zip(pilot.to_dict("records"), cautious["power"], strict=True):
        table.add_row(
            str(row["n_seeds"]),
            f"{row['half_width']:.4f}",
            "█" * max(1, round(30 * row["half_width"] / widest)),
            f"{row['power']:.3f}",
            f"{careful:.3f}",
        )
    return table
