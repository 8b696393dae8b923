"""Two runs side by side: what was run, what each arm reached, and what each estimate became."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sublim_causal.analysis.estimates.headline import seed_warnings
from sublim_causal.analysis.estimates.intervals import mean_interval, t_bounds, t_p_value
from sublim_causal.analysis.estimates.settings import Settings
from sublim_causal.analysis.estimates.types import (
    MIN_SEEDS,
    Estimand,
    Estimate,
    NotEstimable,
    Result,
    difference_unit,
)
from sublim_causal.analysis.plan.curves import Curve
from sublim_causal.analysis.plan.declaration import column_unit, with_unit
from sublim_causal.analysis.plan.file import Plan, load_plan
from sublim_causal.analysis.plan.run import Progress
from sublim_causal.errors import RequestError
from sublim_causal.location import locate
from sublim_causal.report.agreement import MARGINS, agreement, equal
from sublim_causal.report.blocks import (
    Block,
    Missing,
    Picture,
    Section,
    Sentence,
    Table,
    Text,
    Verdict,
)
from sublim_causal.report.build import write_files
from sublim_causal.report.figures.curves import measured, pairs
from sublim_causal.report.figures.runs import Bar, forest
from sublim_causal.report.figures.style import looks, settings
from sublim_causal.report.files import check_folder
from sublim_causal.report.material import Material, read_material
from sublim_causal.report.sections.glance import study_facts
from sublim_causal.report.tables import estimates_table
from sublim_causal.report.wording import counted, estimate, listed, scale_of

COMPARED = tuple(MARGINS)
"""Columns of ``replicates`` whose difference between the runs is estimated."""
FREE = "precision"
"""Runs whose definitions differ in this alone share every random draw, seed by seed."""
AGREEMENT = "Do the figures agree?"


def compare_reports(
    first: str | Path,
    second: str | Path,
    plan: Plan | str | Path = "primary",
    *,
    out: Path | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write a page that puts two runs side by side.

    Parameters
    ----------
    first, second : str or Path
        Run directories.
    plan : Plan, str or Path
        A plan, its path, or the name of a built-in one, applied to both.
    out : Path, optional
        Where to write; default: ``report-against-SECOND`` in the first run's directory.
    progress : callable, optional
        As for `write_report`.

    Returns
    -------
    Path
        ``index.html``, with ``tables`` and ``figures`` beside it.

    Raises
    ------
    RequestError
        If the plan is wrong, both runs are one, or `out` is a file.
    RunError
        If one is no run directory, is damaged, or has nothing complete yet.
    """
    first, second = locate(first), locate(second)
    if first.resolve() == second.resolve():
        raise RequestError("OTHER", str(second), "another run than the first")
    plan = plan if isinstance(plan, Plan) else load_plan(plan)
    if out:
        check_folder(out)
    out = out or first / f"report-against-{second.resolve().name}"
    said = progress or (lambda done, total, name: None)
    sides: list[Material] = []
    for done, run in enumerate((first, second)):
        said(done, 4, run.name)
        sides.append(read_material(run, plan, in_full=False))
    said(2, 4, "comparison")
    with settings():
        agreed = _agreed(*sides) if shares_draws(*sides) else []
        sections = [
            Section("answer", "What differs", [*_sentences(agreed, *sides)]),
            _studies(*sides),
            *([_agreement(agreed, sides[0].reference)] if agreed else []),
            *(make(*sides) for make in (_arms, _curves, _estimates)),
        ]
        said(3, 4, "files")
        page = write_files(
            out,
            sections,
            title=f"{names(*sides)[0]} against {names(*sides)[1]}",
            subtitle=f"Plan {plan.name} ({plan.digest}), applied to both runs.",
            footer=f"Made by sublim-causal {sides[0].results.version}.",
        )
    said(4, 4, "")
    return page


def names(first: Material, second: Material) -> tuple[str, str]:
    """Return different names for the two runs."""
    one, other = first.run.resolve().name, second.run.resolve().name
    return (one, other) if one != other else (f"{one} (first)", f"{other} (second)")


def shares_draws(first: Material, second: Material) -> bool:
    """Return whether seeds mean the same draws in both: one definition but for `FREE`."""

    def definition(material: Material) -> Mapping[str, Any] | None:
        found = material.manifest.get("definition")
        return found and {key: value for key, value in found.items() if key != FREE}

    return definition(first) is not None and definition(first) == definition(second)


def _sentences(agreed: list[Result], first: Material, second: Material) -> Iterator[Sentence]:
    one, other = names(first, second)
    arms = _common_arms(first, second)
    if agreed:
        yield _agrees(agreed)
    tests = {one.estimand.arm: one for one in agreed if one.estimand.part == "final_accuracy"}
    for i, arm in enumerate(arms):
        question = "Do the arms reach the same accuracy?" if i == 0 else ""
        found = difference(first, second, arm, "final_accuracy")
        said = _says(arm, found, tests.get(arm), f"{one} minus {other}")
        yield replace(said, question=question)
    if not arms:
        yield Sentence("The runs have no arm in common.", "unsettled", "study")


def _says(arm: str, found: Result, test: Result | None, minus: str) -> Sentence:
    """Return the verdict on one arm's accuracy: by its margin where it has one, else by 0."""
    if not isinstance(found, Estimate):
        return Sentence(f"{arm}: not settled ({found.reason}).", "unsettled", "arms")
    seeds = counted(found.n_seeds, "seed", "seeds")
    if found.low == found.high == 0:
        return Sentence(f"{arm}: final test accuracy is the same in all {seeds}.", "yes", "arms")
    if isinstance(test, Estimate) and equal(test):
        return Sentence(
            f"{arm}: final test accuracy is equivalent within {_margin(test)}: {minus} is "
            f"{estimate(test)} ({100 * test.level:g} % interval, {test.method}, {seeds}).",
            "yes",
            "agreement",
        )
    apart = found.low > 0 or found.high < 0
    says = "differs" if apart else "is not shown to differ"
    return Sentence(
        f"{arm}: final test accuracy {says}"
        + ", nor to be equivalent" * (isinstance(test, Estimate) and not apart)
        + f": {minus} is {estimate(found)} ({found.method}, {seeds}).",
        "no" if apart else "unsettled",
        "arms",
    )


def _margin(test: Result) -> str:
    """Write the margin of an equivalence test in the unit of its estimate."""
    scale = scale_of(test)
    return f"{scale * MARGINS[test.estimand.column]:g}{' points' * (scale == 100)}"


def _agreed(first: Material, second: Material) -> list[Result]:
    arms = tuple(arm for arm in _common_arms(first, second) if _is_one(arm, first, second))
    return agreement(first.complete, second.complete, names(first, second), arms, first.reference)


def _agrees(found: list[Result]) -> Sentence:
    count = sum(map(equal, found))
    if count == len(found):
        text = f"All {count} figures of the two runs are equivalent within the margins set for them"
        return Sentence(f"{text} (paired TOST).", "yes", "agreement", AGREEMENT)
    text = f"{count} of {len(found)} figures are shown to be equivalent within their margins"
    verdict: Verdict = "partly" if count else "unsettled"
    return Sentence(f"{text} (paired TOST); the others are not.", verdict, "agreement", AGREEMENT)


def _agreement(found: list[Result], reference: str) -> Section:
    labels = [
        f"{_figure(one.estimand)}: "
        + ("equivalent" if equal(one) else "not shown")
        + f" (margin {_margin(one)})"
        for one in found
    ]
    by_column = {one.estimand.column: _margin(one) for one in found}
    margins = ", ".join(f"{margin} for {column}" for column, margin in by_column.items())
    text = (
        "Both runs made every random draw alike and define these arms alike, so each difference is "
        f"rounding, amplified by training. The margins stand in the program: {margins}. An effect "
        f"is an arm's final accuracy minus that of {reference}."
    )
    caption = "First minus second; p is that of a difference of the margin or more."
    return Section(
        "agreement",
        AGREEMENT,
        [Text(text), estimates_table("agreement", caption, found, labels=labels)],
    )


def _figure(one: Estimand) -> str:
    arms = " - ".join(filter(None, (one.arm, one.reference)))
    return f"{one.part.replace('_', ' ')} {arms}"


def _studies(first: Material, second: Material) -> Section:
    sides = [dict(study_facts(side)) for side in (first, second)]
    for side, facts in zip((first, second), sides, strict=True):
        facts |= {name: str(side.manifest.get(name, "")) for name in ("precision", "device")}
        facts["arms"] = ", ".join(side.shown_arms)
        facts["complete"] = f"{len(side.complete)} of {len(side.replicates)} replicates"
    one, other = names(first, second)
    frame = pd.DataFrame(
        [
            {"": key, one: sides[0][key], other: sides[1][key], "differs": differs}
            for key in sides[0]
            if sides[0][key] or sides[1][key]
            for differs in ("yes" if sides[0][key] != sides[1][key] else "",)
        ]
    )
    paired = (
        "Seeds mean the same draws in both runs, so differences are taken seed by seed, over "
        f"the {counted(_n_common(first, second), 'seed', 'seeds')} that both have. What stands "
        "side by side (the curves, the declared estimates) is of all seeds of its run."
        if shares_draws(first, second)
        else "The studies differ in more than precision or device, so their seeds are treated as "
        "independent."
    )
    blocks: list[Block] = [Table("study", "What was run.", frame, frame), Text(paired)]
    arms = _common_arms(first, second)
    if others := [arm for arm in arms if not _is_one(arm, first, second)]:
        blocks.append(
            Text(
                f"Called the same in both runs but defined differently: {listed(others)}. A "
                "difference there is that of two interventions, not rounding."
            )
        )
    return Section("study", "The two runs", blocks)


def _n_common(first: Material, second: Material) -> int:
    return len({*first.complete["seed"]} & {*second.complete["seed"]})


def _common_arms(first: Material, second: Material) -> tuple[str, ...]:
    return tuple(arm for arm in first.shown_arms if arm in second.shown_arms)


def _is_one(arm: str, first: Material, second: Material) -> bool:
    """Return whether both runs define `arm`, and the arms that it follows, alike."""

    def definition(material: Material) -> list[Any]:
        arms = material.manifest.get("arms", {})
        followed = [one["target"] for one in material.design.record.stages(arm) if "target" in one]
        return [arms.get(name) for name in (arm, *followed)]

    return definition(first) == definition(second)


def difference(first: Material, second: Material, arm: str, column: str) -> Result:
    """Return the mean of `column` in the first run minus that in the second.

    Paired by seed where seeds mean the same draws in both, else Welch's t:
    ``se^2 = s1^2 / n1 + s2^2 / n2`` on ``se^4 / sum_i (s_i^2 / n_i)^2 / (n_i - 1)`` df.
    """
    one, other = names(first, second)
    estimand = Estimand(
        name=f"difference_{column}_{arm}",
        sentence=f"Mean difference of {column} under {arm} between the runs.",
        outcome=with_unit("replicates", column),
        contrast=f"{one} - {other}",
        arm=arm,
        column=column,
        unit=difference_unit(column_unit("replicates", column)),
    )
    x, y = (
        side.complete[side.complete["arm"] == arm].set_index("seed")[column].dropna()
        for side in (first, second)
    )
    if shares_draws(first, second):
        n_seeds, apart = len(x.index.union(y.index)), (x - y).dropna().to_numpy()
        found = mean_interval(
            apart, settings=Settings(first.level), estimand=estimand, n_dropped=n_seeds - len(apart)
        )
        if isinstance(found, NotEstimable):
            return found
        # Where no seed differs there is nothing to test.
        p = found.p_value if found.method != "identical" else None
        return replace(found, method=f"paired {found.method}", p_value=p)
    if min(len(x), len(y)) < MIN_SEEDS:
        return NotEstimable(estimand, f"fewer than {MIN_SEEDS} complete seeds in a run")
    parts = np.array([x.var() / len(x), y.var() / len(y)])
    se = float(np.sqrt(parts.sum()))
    if se == 0:
        return NotEstimable(estimand, "neither run varies over seeds")
    df = float(parts.sum() ** 2 / (parts**2 / [len(x) - 1, len(y) - 1]).sum())
    value = float(x.mean() - y.mean())
    low, high = t_bounds(value, se, df, first.level)
    counts = {one: len(x), other: len(y)}
    return Estimate(
        estimand, value, se, low, high, first.level, df, t_p_value(value, se, df),
        "Welch's t", len(x) + len(y), warnings=_welch_notes(counts),
    )  # fmt: skip


def _welch_notes(counts: Mapping[str, int]) -> tuple[str, ...]:
    """Say how many seeds each run has, and what follows where they are few."""
    each = " and ".join(f"{n} seeds of {name}" for name, n in counts.items())
    fewest = min(counts, key=lambda name: counts[name])
    few = seed_warnings(counts[fewest])
    return (each, *(note.replace(" seeds:", f" seeds of {fewest}:") for note in few))


def _arms(first: Material, second: Material) -> Section:
    arms = _common_arms(first, second)
    if not arms:
        missing = Missing("The runs have no arm in common, so there is nothing to compare.")
        return Section("arms", "Arms", [missing])
    found = [difference(first, second, arm, column) for column in COMPARED for arm in arms]
    accuracy = [one for one in found[: len(arms)] if isinstance(one, Estimate)]
    styles = looks(arms)
    bars = [
        Bar(arm, 100 * one.value, 100 * one.low, 100 * one.high, look.color, look.marker)
        for one in accuracy
        for arm in (one.estimand.arm,)
        for look in (styles[arm],)
    ]
    blocks: list[Block] = []
    if bars:
        one, other = names(first, second)
        picture = forest(bars, "difference (percentage points)")
        caption = (
            f"Final test accuracy, {one} minus {other}, with {100 * first.level:g} % intervals."
        )
        blocks.append(Picture("accuracy_differences", caption, picture))
    blocks.append(
        estimates_table(
            "differences",
            "Differences between the runs: first minus second.",
            found,
            labels=[f"{column}, {arm}" for column in COMPARED for arm in arms],
        )
    )
    return Section("arms", "Arms", blocks)


def _curves(first: Material, second: Material) -> Section:
    arms = _common_arms(first, second)
    shown: dict[str, tuple[str, float]] = {
        "trait_accuracy": ("trait accuracy (%)", 100.0),
        "cos_update": ("cos_update (1)", 1.0),
    }
    fewest = min(first, second, key=lambda side: side.n_seeds)
    each = " and ".join(
        f"{side.n_seeds} in {name}"
        for name, side in zip(names(first, second), (first, second), strict=True)
    )
    blocks: list[Block] = [
        Picture(
            f"compared_{column}",
            f"{label} in both runs, an arm a panel: means over seeds ({each}). "
            + fewest.bands("0 and 100 %" if scale == 100 else ""),
            pairs(
                {
                    name: {arm: side.curves[column][arm].scaled(scale) for arm in arms}
                    for name, side in zip(names(first, second), (first, second), strict=True)
                },
                label,
            ),
        )
        for column, (label, scale) in shown.items()
        if any(measured(_of(side.curves[column], arms)) for side in (first, second))
    ]
    missing = Missing("The runs have no arm in common whose curves were measured.")
    return Section("curves", "Through training", blocks or [missing])


def _of(curves: Mapping[str, Curve], arms: Sequence[str]) -> dict[str, Curve]:
    return {arm: curves[arm] for arm in arms}


def _estimates(first: Material, second: Material) -> Section:
    one, other = names(first, second)
    sides = [
        {result.estimand.name: result for result in side.results.results}
        for side in (first, second)
    ]
    rows = [
        {
            "": name,
            **{
                heading: text
                for run, side in zip((one, other), sides, strict=True)
                for heading, text in _columns(run, side.get(name), first.level).items()
            },
        }
        for name in dict.fromkeys([*sides[0], *sides[1]])
    ]
    shown = pd.DataFrame(rows)
    frame = pd.concat(
        [
            side.results.frame.assign(run=name)
            for name, side in zip((one, other), (first, second), strict=True)
        ]
    )
    caption = (
        "Every declared estimate in both runs, each over all seeds of its run, with intervals of "
        f"{100 * first.level:g} % where no other level stands."
    )
    return Section("estimates", "Estimates", [Table("estimates", caption, shown, frame)])


def _columns(run: str, result: Result | None, level: float) -> dict[str, str]:
    """Return the cells of an estimate in one run: what came out, and by which method."""
    if not isinstance(result, Estimate):
        said = "not in this run" if result is None else f"not estimable: {result.reason}"
        return {run: said, f"{run}: method, seeds": ""}
    marked = f" ({100 * result.level:g} %)" * (result.level != level)
    return {
        run: estimate(result).replace("percentage ", "") + marked,
        f"{run}: method, seeds": f"{result.method}, {result.n_seeds}",
    }
