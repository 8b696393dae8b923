"""How often the default interval of a mean over seeds covers, in worlds where few seeds mislead.

``python -m tests.analysis.simulation.small_samples`` draws the studies and writes
``docs/coverage.csv``, and from it ``docs/small-samples.md``; ``--page`` writes the page alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from sublim_causal.analysis.estimates.intervals import mean_interval
from sublim_causal.analysis.estimates.ratios import ratio_of_sums
from sublim_causal.analysis.estimates.settings import Settings
from sublim_causal.analysis.estimates.shares import share_interval
from sublim_causal.analysis.estimates.types import Estimand, Estimate, Floats, Result

DOCS = Path(__file__).parents[3] / "docs"
FILE, PAGE = DOCS / "coverage.csv", DOCS / "small-samples.md"
SEEDS = (6, 8, 12, 16, 30)
STUDIES = 1000
N_BOOT = 999
STEPS = 245
Draw = Callable[[np.random.Generator, int], Floats]


def _collapsing(rng: np.random.Generator, n: int) -> Floats:
    return rng.standard_normal(n) - 10 * (rng.random(n) < 0.1) + 1


def _mixture(rng: np.random.Generator, n: int) -> Floats:
    return rng.standard_normal(n) + 3 * (rng.random(n) < 0.3) - 0.9


def _share(mean: float) -> Draw:
    def draw(rng: np.random.Generator, n: int) -> Floats:
        return rng.binomial(STEPS, rng.beta(60 * mean, 60 * (1 - mean), n)) / STEPS - mean

    return draw


WORLDS: Mapping[str, Draw] = {
    "normal": lambda rng, n: rng.standard_normal(n),
    "t, 3 degrees of freedom": lambda rng, n: rng.standard_t(3, n),
    "exponential": lambda rng, n: rng.exponential(size=n) - 1,
    "log-normal": lambda rng, n: rng.lognormal(size=n) - np.exp(0.5),
    "near chance, beta": lambda rng, n: rng.beta(0.5, 4.5, n) - 0.1,
    "a tenth of seeds collapses": _collapsing,
    "mixture, 30 % shifted by 3 sd": _mixture,
}
"""Per-seed values around a true mean of 0."""
SHARES: Mapping[str, Draw] = {f"share with mean {m}": _share(m) for m in (0.972, 0.993)}
"""Shares of steps minus their mean."""
KEPT, ACQUIRED, ACQUIRED_SD, NOISE = 0.8, 0.4, 0.1, 0.04
"""Ratios are of what an arm acquires to what the reference acquires, sizes as on MNIST."""
RATIOS: Mapping[str, Draw] = {
    "ratio, normal": lambda rng, n: rng.standard_normal(n),
    "ratio, exponential": lambda rng, n: rng.exponential(size=n) - 1,
    "ratio, a tenth of seeds collapses": lambda rng, n: rng.standard_normal(n),
}
"""Noise of the numerator around its share of the denominator."""
TRIMMED = 0.2


def trimmed_bounds(x: Floats, level: float) -> tuple[float, float]:
    """Return Yuen's interval of the trimmed mean."""
    n, g = len(x), int(TRIMMED * len(x))
    ordered = np.sort(x)
    winsorised = np.clip(ordered, ordered[g], ordered[n - g - 1])
    half = stats.t.isf((1 - level) / 2, n - 2 * g - 1) * winsorised.std(ddof=1)
    mean = ordered[g : n - g].mean()
    half /= (1 - 2 * TRIMMED) * np.sqrt(n)
    return mean - half, mean + half


def sign_bounds(x: Floats, level: float) -> tuple[float, float]:
    """Return the interval of the median that inverts the sign test."""
    n, ordered = len(x), np.sort(x)
    k = int(stats.binom.ppf((1 - level) / 2, n, 0.5))
    k -= int(stats.binom.cdf(k, n, 0.5) > (1 - level) / 2)
    return (ordered[k], ordered[n - 1 - k]) if k >= 0 else (-np.inf, np.inf)


def coverage(draw: Draw, n: int, studies: int, estimate: Callable[[Floats], Result]) -> float:
    """Return the share of `studies`, in percent, whose interval holds 0."""
    rng, hits = np.random.default_rng([n, studies]), 0
    for _ in range(studies):
        found = estimate(draw(rng, n))
        assert isinstance(found, Estimate)
        hits += found.low <= 0 <= found.high
    return 100 * hits / studies


def sizes(draw: Draw, n: int, studies: int) -> dict[str, float]:
    """Return, in percent, how often arms that differ by the margin are called equivalent.

    On the worse of both sides, for tests with 90 % intervals of the mean (the default), of the
    trimmed mean, and of the median.
    """
    rng, counts = np.random.default_rng([n, studies, 1]), {}
    for _ in range(studies):
        x = draw(rng, n)
        found = mean_interval(x, settings=Settings(0.9, n_boot=N_BOOT))
        assert isinstance(found, Estimate)
        for name, (low, high) in {
            "mean": (found.low, found.high),
            "trimmed": trimmed_bounds(x, 0.9),
            "sign": sign_bounds(x, 0.9),
        }.items():
            sides = counts.setdefault(name, [0, 0])
            sides[0] += high < 0
            sides[1] += low > 0
    return {name: 100 * max(sides) / studies for name, sides in counts.items()}


def ratio_coverage(world: str, n: int, studies: int) -> float:
    """Return the share of `studies`, in percent, whose interval of a ratio of sums holds it."""
    rng, hits = np.random.default_rng([n, studies, 2]), 0
    collapse = 0.1 if "collapses" in world else 0.0
    for _ in range(studies):
        reference = ACQUIRED + ACQUIRED_SD * rng.standard_normal(n)
        arm = KEPT * reference + NOISE * RATIOS[world](rng, n)
        arm = np.where(rng.random(n) < collapse, 0.0, arm)
        found = ratio_of_sums(
            Estimand("share", "Share that is kept."),
            arm,
            reference,
            settings=Settings(n_boot=N_BOOT),
        )
        assert isinstance(found, Estimate)
        hits += found.low <= KEPT * (1 - collapse) <= found.high
    return 100 * hits / studies


def study(studies: int) -> pd.DataFrame:
    """Return one row per quantity, world and number of seeds: percent of `studies`."""
    plain = Settings(n_boot=N_BOOT)
    rows = []
    for n in SEEDS:
        for world, draw in WORLDS.items():
            found = {
                "coverage": coverage(draw, n, studies, lambda x: mean_interval(x, settings=plain))
            }
            found |= {f"size, {name}": size for name, size in sizes(draw, n, studies).items()}
            rows += [(quantity, world, n, studies, value) for quantity, value in found.items()]
        for world, draw in SHARES.items():
            mean = float(world.rsplit(" ", 1)[1])
            for quantity, estimate in {
                "coverage": lambda x: mean_interval(x, settings=plain),
                "coverage, logit": lambda x, mean=mean: _shifted(
                    share_interval(x + mean, settings=plain), mean
                ),
            }.items():
                rows.append((quantity, world, n, studies, coverage(draw, n, studies, estimate)))
        for world in RATIOS:
            rows.append(("coverage, ratio", world, n, studies, ratio_coverage(world, n, studies)))
    columns = ["quantity", "world", "seeds", "studies", "percent"]
    return pd.DataFrame(rows, columns=columns).round({"percent": 1})


def _shifted(found: Result, mean: float) -> Result:
    assert isinstance(found, Estimate)
    return replace(found, low=found.low - mean, high=found.high - mean)


TABLES = {
    "coverage": "Coverage of the default 95 % interval of a mean",
    "coverage, logit": "Coverage of the 95 % interval of a share on the logit scale",
    "coverage, ratio": "Coverage of the default 95 % interval of a ratio of sums",
    "size, mean": "Equivalence test (the default), error on the worse side",
    "size, trimmed": "Equivalence test of the 20 % trimmed mean, error on the worse side",
    "size, sign": "Equivalence test of the median by the sign test, error on the worse side",
}


def page(table: pd.DataFrame) -> str:
    """Return ``small-samples.md``."""
    studies = int(table["studies"].iloc[0])
    lines = [
        "# Few and awkward seeds",
        "",
        "Generated by `python -m tests.analysis.simulation.small_samples` from coverage.csv; "
        "do not edit.",
        "",
        f"{studies:,} simulated studies per cell; the Monte Carlo standard error of a rate near 95 "
        f"or 5 % is {100 * np.sqrt(0.05 * 0.95 / studies):.1f} points. Rates are in percent, by "
        "number of seeds. If the arms differ by exactly the margin, an equivalence test should err "
        "in 5 % of studies.",
    ]
    for quantity, title in TABLES.items():
        part = table[table["quantity"] == quantity].pivot(
            index="world", columns="seeds", values="percent"
        )
        worlds = [world for world in (*WORLDS, *SHARES, *RATIOS) if world in part.index]
        lines += ["", f"## {title}", "", f"| world | {' | '.join(map(str, part.columns))} |"]
        lines += ["| --- |" + " ---: |" * len(part.columns)]
        lines += [
            f"| {world} | {' | '.join(f'{value:.1f}' for value in part.loc[world])} |"
            for world in worlds
        ]
    lines += ["", "## What follows", "", *(f"- {text}" for text in _texts(table))]
    return "\n".join(lines) + "\n"


def _texts(table: pd.DataFrame) -> list[str]:
    """Return sentences whose numbers come from `table`."""

    def row(quantity: str, world: str) -> str:
        found = table[(table["quantity"] == quantity) & (table["world"] == world)]
        return " / ".join(f"{value:.0f}" for value in found.sort_values("seeds")["percent"])

    seeds = " / ".join(map(str, SEEDS))
    collapse, near = "a tenth of seeds collapses", "share with mean 0.993"
    worst = {
        name: table[table["quantity"] == f"size, {name}"]["percent"].max()
        for name in ("mean", "trimmed", "sign")
    }
    return [
        "If a tenth of the seeds collapses, the coverage is too low with few seeds: "
        f"{row('coverage', collapse)} % at {seeds} seeds. The method `collapsed_seeds` lists "
        "collapsed seeds and, if there are none, gives an upper limit of their share.",
        "An equivalence test keeps its size if the differences are normal or heavy-tailed. In the "
        f"other worlds its error is up to {worst['mean']:.0f} %. There, neither a trimmed mean (up "
        f"to {worst['trimmed']:.0f} %) nor the sign test (up to {worst['sign']:.0f} %) keeps its "
        "size, because they test the trimmed mean and the median, not the mean; neither is "
        "offered.",
        "A ratio of sums, such as the share of the transfer that an arm retains, has coverage "
        f"similar to a mean at {seeds} seeds: {row('coverage, ratio', 'ratio, normal')} % if the "
        f"arm's noise is normal, {row('coverage, ratio', 'ratio, exponential')} % if it is "
        f"exponential, and {row('coverage, ratio', 'ratio, a tenth of seeds collapses')} % if a "
        "tenth of the seeds collapses.",
        f"The coverage for a {near}, whose interval is computed on the logit scale, is "
        f"{row('coverage, logit', near)} % at {seeds} seeds, instead of {row('coverage', near)} % "
        "on the scale of shares.",
    ]


def main() -> None:
    """Draw the studies and write the file and the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=STUDIES)
    parser.add_argument("--page", action="store_true", help="write the page from the file alone")
    options = parser.parse_args()
    if not options.page:
        study(options.studies).to_csv(FILE, index=False)
    PAGE.write_text(page(pd.read_csv(FILE)))


if __name__ == "__main__":
    main()
