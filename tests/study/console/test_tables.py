"""The tables that `run` ends with, and those of `power`."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from sublim_causal.analysis.arms.contrasts import paired_contrast
from sublim_causal.analysis.arms.power import pilots, power_curve, power_table
from sublim_causal.analysis.estimates.types import Estimate
from sublim_causal.analysis.plan.file import parse_plan
from sublim_causal.analysis.plan.run import analyse
from sublim_causal.analysis.simulation.tables import ArmTruth, Truth, simulate, write_run
from sublim_causal.store.manifest import read_manifest, write_manifest
from sublim_causal.store.tables import read_table
from sublim_causal.study.console.tables import arm_tables, curve_table, limits, means, seeds_tables

ARMS = ("control", "a projection of a long name", "removed")


def shown(run: Path, width: int, arms: tuple[str, ...] = ARMS) -> list[str]:
    """Return the tables as they are printed, each as one text."""
    texts = []
    for table in arm_tables(run, arms, Console(width=width)):
        console = Console(width=width, file=io.StringIO())
        console.print(table)
        assert isinstance(console.file, io.StringIO)
        texts.append(console.file.getvalue())
    return texts


def declare(run: Path, **fields: Any) -> None:
    manifest = read_manifest(run)
    write_manifest(run, {**manifest, "study": {**manifest["study"], **fields}})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of six seeds, of which no arm is called baseline."""
    truth = Truth(n_seeds=6, n_steps=5, arms=dict.fromkeys(ARMS, ArmTruth()))
    made = write_run(tmp_path_factory.mktemp("made") / "run", simulate(truth, rng=0))
    declare(made, reference=None)
    return made


@pytest.mark.parametrize(("width", "tables"), [(120, 1), (80, 2), (66, 2)])
def test_every_number_is_shown_whole_in_any_width(run: Path, width: int, tables: int) -> None:
    wide, narrow = "".join(shown(run, 200)), shown(run, width)
    assert len(narrow) == tables
    numbers = re.findall(r"[+\N{MINUS SIGN}]?\d+\.?\d*", wide.partition("─ \n")[2])
    assert len(numbers) >= 3 * 7
    joined = "".join(narrow)
    assert "…" not in joined
    for number in numbers:
        assert number in joined
    assert all(len(line) <= width for line in joined.splitlines())


def test_the_tables_and_every_plan_give_one_interval_for_skewed_seeds(tmp_path: Path) -> None:
    truth = Truth(n_seeds=12, n_steps=5, arms={name: ArmTruth() for name in ("baseline", "b")})
    drawn = simulate(truth, rng=3)
    rows = drawn.tables["replicates"]
    rows["final_accuracy"] = 0.2 + np.random.default_rng(1).exponential(0.1, len(rows))
    run = write_run(tmp_path / "run", drawn)
    asked: list[dict[str, Any]] = [
        {"name": "of_each", "method": "arm_mean"},
        {"name": "of_b", "method": "arm_mean", "arm": "b"},
        {"name": "all_pairs", "method": "paired_contrast", "contrast": "each - baseline"},
        {"name": "a_pair", "method": "paired_contrast", "contrast": "b - baseline"},
    ]
    estimands = [{**one, "sentence": "A quantity.", "outcome": "final_accuracy"} for one in asked]
    results = analyse(run, parse_plan({"name": "own", "estimand": estimands}))
    found = [results[name] for name in ("of_each_b", "of_b", "all_pairs_b", "a_pair")]
    texts = [limits(one, 100, sign=i > 1) for i, one in enumerate(found)]  # type: ignore[arg-type]
    assert all("hull" in one.method for one in found)  # type: ignore[union-attr]
    assert (texts[0], texts[2]) == (texts[1], texts[3])
    table = shown(run, 200, ("baseline", "b"))[0]
    assert texts[0] in table
    assert texts[2] in table


@pytest.mark.parametrize("width", [110, 80, 66])
def test_seeds_and_power_are_shown_whole_in_any_width(run: Path, width: int) -> None:
    found = pilots(read_table(run, "replicates"), "final_accuracy", "control")
    needed = power_table(found, difference=0.05, wanted=0.01, margin=0.01, power=0.8)

    def texts(width: int) -> list[str]:
        console = Console(width=width, file=io.StringIO())
        for table in seeds_tables(needed, 0.8, 0.01, console):
            console.print(table)
        for one in found:
            console.print(curve_table(one.contrast, power_curve(one, difference=0.05), 0.05))
        assert isinstance(console.file, io.StringIO)
        return console.file.getvalue().splitlines()

    lines = texts(width)
    assert all(len(line) <= width for line in lines)
    assert not any("…" in line for line in lines)
    numbers = re.findall(r"\d+\.\d+", " ".join(texts(200)))
    assert len(numbers) > 20
    for number in numbers:
        assert number in " ".join(lines)


def test_differences_are_to_the_reference_arm(run: Path) -> None:
    declare(run, reference="control")
    text = "".join(shown(run, 120))
    assert "minus control (points)" in text
    contrast = paired_contrast(
        read_table(run, "replicates"), "final_accuracy", "removed", "control"
    )
    assert isinstance(contrast, Estimate)
    value = re.search(r"removed +6 +\S+ \[.*?\] +([+\N{MINUS SIGN}]?[\d.]+) \[", text)
    assert value
    assert float(value[1].replace("\N{MINUS SIGN}", "-")) == pytest.approx(
        100 * contrast.value, abs=0.5 * 10 ** -len(value[1].partition(".")[2])
    )


def test_without_a_reference_there_is_no_column_of_differences(run: Path) -> None:
    declare(run, reference=None)
    assert "minus" not in "".join(shown(run, 120))


def test_the_reference_is_the_first_baseline_unless_it_is_declared(run: Path) -> None:
    arms = {arm: {"intervention": "projection"} for arm in ARMS[:2]}
    declare(run, arms={**arms, "removed": {"intervention": "baseline"}}, reference=None)
    assert "minus removed (points)" in "".join(shown(run, 120))
    # The reference was run before; only other arms are run now.
    assert "minus removed (points)" in "".join(shown(run, 120, ARMS[:1]))
    declare(run, arms={arm: {} for arm in ARMS}, reference=None)


def test_an_accuracy_has_no_interval_beyond_what_can_be() -> None:
    rows = pd.DataFrame(
        {"arm": "wild", "status": "complete", "final_accuracy": [0.0, 1.0, 0.0, 1.0]}
    )
    assert means(rows, "final_accuracy", "wild", None) == ("50 [0, 100]",)


def test_too_few_seeds_are_reported() -> None:
    rows = pd.DataFrame(
        {"seed": [0, 0], "arm": ["a", "b"], "status": "complete", "final_accuracy": [0.5, 0.25]}
    )
    assert means(rows, "final_accuracy", "a", "b") == ("50.0 (too few seeds)", "too few seeds")
    assert means(rows.assign(status="failed"), "final_accuracy", "a", "b") == ("none complete", "")
