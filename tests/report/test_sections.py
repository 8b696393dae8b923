from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sublim_causal.analysis.estimates.types import Estimate, NotEstimable
from sublim_causal.analysis.plan.file import parse_plan
from sublim_causal.analysis.plan.generated.design import Doses
from sublim_causal.analysis.plan.registry import METHODS
from sublim_causal.analysis.plan.results.curves import Curve
from sublim_causal.analysis.simulation.tables import ArmTruth
from sublim_causal.report.figures.curves import shares
from sublim_causal.report.figures.style import settings
from sublim_causal.report.formulas import FORMULAS, SHARED
from sublim_causal.report.material import Material, read_material
from sublim_causal.report.sections import BODY
from sublim_causal.store.tables import read_table
from sublim_causal.study.spec.reading import load_study
from tests.report.conftest import (
    ARMS,
    Tables,
    answer_of,
    change_manifest,
    declare,
    make_run,
    material_of,
    section_of,
)


def runs_told(material: Material, anchor: str) -> list[str]:
    """Return the commands with which a section says to run a study."""
    return re.findall("<code>(sublim-causal run .*?)</code>", section_of(material, anchor))


def test_answer_follows_the_truth(demo_material: Material) -> None:
    text = answer_of(demo_material)
    assert "the optimizer's update stays aligned" in text
    assert "shuffled is equivalent to baseline" in text
    assert "does more than remove" in text
    assert re.search(r"projection (stops|lowers)", text)


def test_answer_leaves_open_what_data_leave_open(tmp_path: Path) -> None:
    arms = {"baseline": ArmTruth(), "projection": ArmTruth(), "shuffled": ArmTruth()}
    text = answer_of(material_of(make_run(tmp_path / "run", n_seeds=4, arms=arms, accuracy_sd=0.2)))
    assert "projection is not shown to change the transfer" in text
    assert "shuffled is not shown to be equivalent to baseline" in text
    assert "Only 4 seeds are complete" in text


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
    assert "needs that arm, another one" in section_of(material, "mediation")
    assert "needs that arm" not in answer_of(material)


def test_lost_runs_and_steps_are_counted(tmp_path: Path) -> None:
    material = material_of(
        make_run(tmp_path / "run", n_seeds=12, diverged_runs=0.2, missing_steps=0.1)
    )
    assert "the loss became infinite" in section_of(material, "study")
    assert "replicates are not complete and left out" in answer_of(material)


def test_many_arms_are_drawn(tmp_path: Path) -> None:
    arms = {f"arm {i}": ArmTruth() for i in range(9)} | {"baseline": ArmTruth()}
    material = material_of(make_run(tmp_path / "run", n_seeds=3, arms=arms))
    assert "arm 8" in section_of(material, "study")
    assert "figure-final_accuracy" in section_of(material, "acquisition")


def test_doses_get_their_curves(tmp_path: Path) -> None:
    strengths = {"none": 0.0, "half": 0.5, "whole": 1.0, "double": 2.0}
    arms = {
        name: ArmTruth(alignment=-0.05 * dose, accuracy=-0.15 * dose)
        for name, dose in strengths.items()
    }
    run = make_run(tmp_path / "run", n_seeds=10, arms=arms)
    study = {
        name: {"intervention": "projection", "strength": dose, "space": "update"}
        for name, dose in strengths.items()
    }
    change_manifest(run, study={"name": "doses", "arms": study})
    material = material_of(run)
    names = {getattr(block, "name", "") for block in BODY["mediation"](material).blocks}
    assert {"dose_update", "wald_update"} <= names
    slope = material.analysis.added["dose_slope_update"]
    # The truth: accuracy falls by 0.15 a unit of strength; four standard errors.
    assert abs(slope.value + 0.15) < 4 * slope.se  # type: ignore[union-attr]


def test_yoked_runs_are_split(tmp_path: Path) -> None:
    arms = {**ARMS, "clamped": ArmTruth(accuracy=-0.05)}
    run = make_run(tmp_path / "run", n_seeds=10, arms=arms)
    yoked = {
        "intervention": "yoked",
        "target": "baseline",
        "procedure": {"intervention": "projection"},
    }
    study = {name: {"intervention": name} for name in ARMS} | {"clamped": yoked}
    strength = {"0.strength": 1.0}
    resolved = {"projection": strength, "clamped": {**strength, "1.target": "baseline"}}
    change_manifest(run, study={"name": "yoked", "arms": study}, arms=resolved)
    assert "By experiment: of the effect of projection" in answer_of(material_of(run))
    (world,) = material_of(run).cross_worlds
    # The truth: the procedure at the baseline's alignment lowers accuracy by 0.05.
    assert abs(world["pnde"].value + 0.05) < 4 * world["pnde"].se  # type: ignore[operator, union-attr]


def test_the_exact_null_is_said_before_the_split_and_the_split_both_ways(tmp_path: Path) -> None:
    study = load_study("causal")
    arms = {
        arm: ArmTruth(accuracy=-0.3 if arm in ("null", "projection", "reverse") else 0.0)
        for arm in study.arms
    }
    run = make_run(tmp_path / "run", n_seeds=6, arms=arms)
    declare(run, study)
    material = material_of(run)
    assert material.design.exact_nulls() == ("null",)
    answer = answer_of(material)
    null = answer.index(
        "Exact null: with every update held orthogonal to the trait gradient (null)"
    )
    split = answer.index("By experiment: of the effect of projection")
    assert null < split
    assert "under the other procedure (yoked runs); they differ by" in answer[split:]
    assert "It assumes consistency" in answer[split:]


def test_a_yoked_run_splits_the_effect_of_its_own_procedure_alone(tmp_path: Path) -> None:
    other = "arms.slow={intervention='projection', student={learning_rate=1e-5}}"
    study = load_study("causal", settings=[other])
    run = make_run(tmp_path / "run", n_seeds=3, arms=dict.fromkeys(study.arms, ArmTruth()))
    declare(run, study)
    (world,) = material_of(run).cross_worlds
    assert world["pnde"].estimand.contrast == "yoked - baseline"
    assert world["tnie"].estimand.contrast == "projection - yoked"
    assert world["pnie"].estimand.contrast == "reverse - baseline"


def test_the_paper_stands_beside_its_replication(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    assert "55.28" not in section_of(material_of(run), "study")
    change_manifest(run, name="paper")
    text = section_of(material_of(run), "study")
    assert all(figure in text for figure in ("55.28", "10.14", "0.0075", "78.10"))


def test_layers_say_how_to_get_them(demo_material: Material) -> None:
    assert "measure.layers=true" in section_of(demo_material, "ledger")


def test_shares_of_layers_are_among_what_the_report_adds(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", n_seeds=3)
    for arm in ARMS:
        steps = read_table(run, "steps", arms=[arm])
        layers = [
            steps[["seed", "arm", "step"]].assign(layer=name, drive=steps["drive"] / 2)
            for name in ("0", "2")
        ]
        folder = run / "layers" / f"arm={arm}"
        folder.mkdir(parents=True)
        pd.concat(layers).to_parquet(folder / "0000000-0000002.parquet", index=False)
    material = material_of(run)
    with settings():
        section = BODY["ledger"](material)
    (table,) = (one for one in section.blocks if getattr(one, "name", "") == "ledger_layers")
    expected = {f"share_drive_layer_{arm}_{layer}" for arm in ARMS for layer in ("0", "2")}
    assert set(table.frame["name"]) == expected  # type: ignore[union-attr]
    assert expected <= {one.estimand.name for one in material.analysis.added.results}


def test_a_study_without_baseline_is_held_against_what_the_plan_subtracts(tmp_path: Path) -> None:
    arms = {"removed": ArmTruth(alignment=-0.1, accuracy=-0.35), "plain": ArmTruth()}
    run = make_run(tmp_path / "run", arms=arms)
    contrast = {
        "name": "effect",
        "sentence": "Effect of removing alignment on final accuracy.",
        "method": "paired_contrast",
        "outcome": "final_accuracy",
        "contrast": "removed - plain",
    }
    plan = parse_plan({"name": "mine", "n_boot": 199, "estimand": [contrast]})
    material = read_material(run, plan)
    assert material.reference == "plain"
    assert [*material.mediations] == ["removed"]
    change_manifest(run, study={"arms": {"removed": {"intervention": "projection"}, "plain": {}}})
    material = read_material(run, plan)
    assert re.search(
        "removed (stops|lowers) .*final test accuracy differs from plain by", answer_of(material)
    )


def test_the_reference_of_the_study_is_that_of_plan_and_report(tmp_path: Path) -> None:
    arms = {"projection": ArmTruth(alignment=-0.1, accuracy=-0.35), "control": ArmTruth()}
    run = make_run(tmp_path / "run", n_seeds=4, arms=arms)
    study = {"projection": {}, "control": {"intervention": "shuffled"}}
    change_manifest(run, study={"arms": study, "reference": "control"})
    material = material_of(run)
    assert material.reference == "control"
    assert material.plan.digest == read_material(run, material.plan).results.plan_digest
    found = material.results["final_accuracy_projection"]
    assert isinstance(found, Estimate)
    assert (found.estimand.reference, found.value < -0.3) == ("control", True)
    assert material.find("removed_share", arm="projection") in material.analysis.added.results


def test_a_study_without_a_reference_says_how_to_name_one(tmp_path: Path) -> None:
    arms = {"projection": ArmTruth(), "control": ArmTruth()}
    found = material_of(make_run(tmp_path / "run", n_seeds=3, arms=arms)).results
    lacking = found["final_accuracy_projection"]
    assert isinstance(lacking, NotEstimable)
    assert 'reference = "ARM"' in lacking.reason


def test_a_contrast_is_that_of_the_arm_asked_for(tmp_path: Path) -> None:
    arms = {"baseline": ArmTruth(), "half_projection": ArmTruth(), "projection": ArmTruth()}
    found = material_of(make_run(tmp_path / "run", n_seeds=3, arms=arms)).find(
        "paired_contrast", arm="projection", outcome="final_accuracy"
    )
    assert found is not None
    assert found.estimand.contrast == "projection - baseline"


def test_the_reference_is_the_arm_without_intervention_then_the_first(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", n_seeds=3, arms={"first": ArmTruth(), "plain": ArmTruth()})
    assert material_of(run).reference == "first"
    arms = {"first": {"intervention": "liminal"}, "plain": {"intervention": "baseline"}}
    change_manifest(run, study={"arms": arms})
    assert material_of(run).reference == "plain"


def test_every_method_of_a_plan_has_its_formula() -> None:
    assert {SHARED.get(name, name) for name in METHODS} == FORMULAS.keys()


def test_formulas_are_those_of_what_is_shown(demo_material: Material, tmp_path: Path) -> None:
    assert "Sargan" not in section_of(demo_material, "methods")
    study = load_study("causal")
    run = make_run(tmp_path / "run", n_seeds=3, arms=dict.fromkeys(study.arms, ArmTruth()))
    declare(run, study)
    text = section_of(material_of(run), "methods")
    assert all(word in text for word in ("Sargan", "Page&#39;s L", "PNDE = mean_s"))


def test_the_rules_of_wording_are_told(demo_material: Material) -> None:
    assert "lies above 90 %" in section_of(demo_material, "methods")


def test_a_missing_cosine_is_neither_positive_nor_not() -> None:
    seeds = np.array([[1.0, 1.0, np.nan, np.nan], [1.0, np.nan, 1.0, np.nan]])
    figure = shares({"baseline": Curve(np.arange(4), seeds, 0.95)}, "share", bins=2)
    drawn = figure.axes[0].lines[-1].get_ydata()
    np.testing.assert_array_equal(np.asarray(drawn), [100.0, 100.0])


def test_one_seed_has_a_mean_and_no_band() -> None:
    steps = np.arange(3)
    seeds = np.array([[1.0, 2.0, np.nan], [3.0, np.nan, np.nan], [5.0, np.nan, 4.0]])
    curve = Curve(steps, seeds, 0.95)
    np.testing.assert_allclose(curve.mean, [3.0, 2.0, 4.0])
    np.testing.assert_allclose(curve.half_width, [2.0 / 3**0.5 * 4.302653, np.nan, np.nan], 1e-6)


def test_the_projection_of_the_answer_is_the_one_nearest_the_papers(tmp_path: Path) -> None:
    arms = {
        "baseline": {},
        "one layer": {"layers": ["0"]},
        "whole": {"strength": 1.0},
        "half": {"strength": 0.5},
        "other student": {"student": {"optimizer": "sgd"}},
    }
    run = make_run(tmp_path / "run", n_seeds=3, arms=dict.fromkeys(arms, ArmTruth()))
    study = {
        name: {"intervention": "baseline" if name == "baseline" else "projection", **options}
        for name, options in arms.items()
    }
    change_manifest(run, study={"arms": study})
    material = material_of(run)
    assert material.design.main_projections() == ("whole",)
    (doses,) = material.design.doses().items()
    assert doses == ("gradient", Doses("baseline", {"baseline": 0.0, "whole": 1.0, "half": 0.5}))
    text = section_of(material, "study")
    assert "projection, layers" in text
    assert "projection, student.optimizer sgd" in text


def summary(name: str, window: str) -> dict[str, str]:
    """Declare the mean alignment of the baseline over a window."""
    return {
        "name": name,
        "sentence": "Mean alignment of the update in the baseline arm.",
        "method": "seed_summary",
        "arm": "baseline",
        "outcome": "cos_update",
        "summary": "mean",
        "window": window,
    }


@pytest.mark.parametrize(
    ("windows", "said"),
    [
        (["late"], "cos_update, late, with 95 % intervals."),
        (["all"], "cos_update, whole run, with 95 % intervals."),
        (["early", "late"], "cos_update, early against late, with 95 % intervals."),
        (["early - late"], "cos_update, early against late, with 95 % intervals."),
    ],
)
def test_a_caption_names_the_windows_that_its_table_has(
    windows: Sequence[str], said: str, demo: Path
) -> None:
    estimands = [summary(f"mean_{i}", window) for i, window in enumerate(windows)]
    plan = parse_plan({"name": "mine", "n_boot": 199, "estimand": estimands})
    assert said in section_of(read_material(demo, plan), "alignment")


@pytest.mark.parametrize("family", ["", "arms"])
def test_a_caption_speaks_of_adjusted_p_where_there_are_some(family: str, demo: Path) -> None:
    contrast = {
        "name": "effect",
        "sentence": "Effect of each arm on final accuracy.",
        "method": "paired_contrast",
        "outcome": "final_accuracy",
        "contrast": "each - baseline",
        "family": family,
    }
    plan = parse_plan(
        {"name": "mine", "n_boot": 199, "families": {"arms": "holm"}, "estimand": [contrast]}
    )
    text = section_of(read_material(demo, plan), "acquisition")
    assert ("p adjusted for" in text) == bool(family)
    assert (">p adjusted<" in text) == bool(family)
