"""What every section keeps: few seeds, one arm, many arms, and what was not measured."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from sublim_causal.analysis.simulation.tables import ArmTruth
from sublim_causal.report.material import Material
from sublim_causal.report.sections import BODY
from tests.report.conftest import ARMS, Tables, answer_of, make_run, material_of, section_of


def runs_told(material: Material, anchor: str) -> list[str]:
    """Return the commands with which a section says to run a study."""
    return re.findall("<code>(sublim-causal run .*?)</code>", section_of(material, anchor))


@pytest.fixture(scope="module", params=[1, 2])
def few(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Material:
    """Return what the sections of a run of one or two seeds read."""
    run = tmp_path_factory.mktemp("few") / "run"
    return material_of(make_run(run, n_seeds=request.param))


@pytest.mark.parametrize("anchor", BODY)
def test_few_seeds_give_sections_without_nan(few: Material, anchor: str) -> None:
    text = section_of(few, anchor)
    assert not re.search(r"\bnan\b|\bNaT\b|\binf\b|<tbody>\s*</tbody>", text)


def lose_alignment(tables: Tables, *, arms: Sequence[str] = tuple(ARMS)) -> None:
    """Leave out what ``measure.alignment = false`` does not record in `arms`."""
    measured = {
        "steps": "trait_|cos_|norm_|drive|gain|remainder|accuracy_gain",
        "replicates": "final_trait|sum_|mean_cos|share_positive",
    }
    for name, pattern in measured.items():
        lost = tables[name].columns[tables[name].columns.str.match(pattern)]
        tables[name].loc[tables[name]["arm"].isin(arms), lost] = np.nan


def lose_a_step(tables: Tables) -> None:
    """Leave out the cosines of one step."""
    tables["steps"].loc[7, ["cos_gradient", "cos_applied", "cos_update"]] = np.nan


Incomplete = tuple[Callable[[Tables], None], Material]


@pytest.fixture(
    scope="module",
    params=[lose_alignment, partial(lose_alignment, arms=["baseline"]), lose_a_step],
    ids=["alignment", "alignment of the baseline", "a step"],
)
def incomplete(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Incomplete:
    """Return what is left out of a run, and what its sections read."""
    run = tmp_path_factory.mktemp("incomplete") / "run"
    return request.param, material_of(make_run(run, n_seeds=4, spoil=request.param))


@pytest.mark.parametrize("anchor", BODY)
def test_what_was_not_measured_is_said_and_the_rest_is_shown(
    incomplete: Incomplete, anchor: str
) -> None:
    spoil, material = incomplete
    text = section_of(material, anchor)
    assert not re.search(r"\bnan\b|\bNaT\b", text + answer_of(material))
    if spoil is lose_alignment and anchor in ("alignment", "ledger"):
        assert "Alignment was not measured" in text
    if spoil is not lose_alignment and anchor == "alignment":
        assert "figure-share_positive_cos_update" in text


@pytest.mark.parametrize("anchor", ["alignment", "ledger", "mediation"])
def test_alignment_that_was_not_measured_takes_another_run(anchor: str, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", n_seeds=3, spoil=lose_alignment)
    command = f"sublim-causal run {run}/study.toml --set measure.alignment=true --out {run}-aligned"
    assert command in runs_told(material_of(run), anchor)


def test_seeds_are_added_in_place(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", n_seeds=2)
    told = runs_told(material_of(run), "mixed")
    assert told == [f"sublim-causal run {run}/study.toml --seeds 8 --out {run}"]


@pytest.mark.parametrize("anchor", ["acquisition", "control"])
def test_no_command_is_told_where_only_another_study_helps(anchor: str, tmp_path: Path) -> None:
    material = material_of(make_run(tmp_path / "run", arms={"baseline": ArmTruth()}))
    assert not runs_told(material, anchor)


def test_one_arm_is_enough(tmp_path: Path) -> None:
    material = material_of(make_run(tmp_path / "run", arms={"baseline": ArmTruth()}))
    assert "Only one arm has complete runs" in section_of(material, "acquisition")
    assert "needs that arm, another arm" in section_of(material, "mediation")
    assert "needs that arm" not in answer_of(material)


def test_many_arms_are_drawn(tmp_path: Path) -> None:
    arms = {f"arm {i}": ArmTruth() for i in range(9)} | {"baseline": ArmTruth()}
    material = material_of(make_run(tmp_path / "run", n_seeds=3, arms=arms))
    assert "arm 8" in section_of(material, "study")
    assert "figure-final_accuracy" in section_of(material, "acquisition")
