from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from sublim_causal.analysis.estimates.types import Estimate, TestResult
from sublim_causal.analysis.plan.file import load_plan, parse_plan
from sublim_causal.analysis.plan.generated.design import DoseArms
from sublim_causal.analysis.simulation.tables import ArmTruth
from sublim_causal.report.answer.brief import brief
from sublim_causal.report.answer.rules import RULES
from sublim_causal.report.answer.sentences import answer
from sublim_causal.report.material import Material, read_material
from sublim_causal.report.wording import plain
from tests.report.conftest import (
    ARMS,
    Tables,
    answer_of,
    change_manifest,
    make_run,
    material_of,
    section_of,
)

pytestmark = pytest.mark.end_to_end

REVERSED = "This shows that reversed alignment"


@pytest.mark.parametrize(
    ("accuracy", "spread", "said"),
    [
        (-0.35, 0.01, f"{REVERSED} stops the transfer, not that absent"),
        (-0.2, 0.01, f"{REVERSED} lowers the transfer, not that absent"),
        (0.2, 0.01, f"{REVERSED} raises the transfer, not that absent"),
        (0.0, 0.01, f"{REVERSED} leaves the transfer unchanged, not that absent"),
        (0.0, 0.2, "It does not show what absent alignment would do"),
    ],
)
def test_reversed_alignment_does_what_the_arm_is_shown_to_do(
    accuracy: float, spread: float, said: str, tmp_path: Path
) -> None:
    arms = {"baseline": ArmTruth(), "projection": ArmTruth(alignment=-0.15, accuracy=accuracy)}
    run = make_run(
        tmp_path / "run", n_seeds=4, arms=arms, accuracy_seed_sd=0.01, accuracy_sd=spread
    )
    text = answer_of(material_of(run))
    assert said in text
    assert text.count(REVERSED) == said.count(REVERSED)
    assert "a projection in update space would test that." in text


def test_absent_alignment_is_looked_for_in_the_arm_that_has_it(tmp_path: Path) -> None:
    arms = {
        "baseline": {},
        "projection": {},
        "removed": {"intervention": "projection", "space": "update"},
    }
    truth = {name: ArmTruth(alignment=-0.15) for name in arms} | {"baseline": ArmTruth()}
    run = make_run(tmp_path / "run", n_seeds=4, arms=truth)
    change_manifest(run, study={"arms": arms})
    said = [plain(one.text) for one in answer(material_of(run)) if "than remove" in one.text]
    assert "‘removed’, a projection in update space, tests that" in said[0]
    assert "projection in update space" not in said[1]


@pytest.mark.parametrize(
    ("alignment", "said"),
    [
        (-2e-7, "holds the update orthogonal to the trait gradient: its mean cosine is"),
        (-0.2, "so the updates move the student away from the trait"),
    ],
)
def test_an_alignment_too_small_to_matter_is_none(
    alignment: float, said: str, tmp_path: Path
) -> None:
    def hold(tables: Tables) -> None:
        rows = tables["replicates"]
        held = rows["arm"] == "projection"
        rows.loc[held, "mean_cos_update"] = alignment * (1 + 0.01 * rows.loc[held, "seed"])

    material = material_of(make_run(tmp_path / "run", n_seeds=4, spoil=hold))
    text = answer_of(material)
    assert said in text
    assert ("away from the trait" in text) == (alignment == -0.2)
    if alignment == -2e-7:
        assert "−2.0e−7 [" in text
        assert "which removes that alignment," in plain(brief(material))


def test_a_difference_within_the_margin_of_the_plan_is_none(tmp_path: Path) -> None:
    arms = {**ARMS, "projection": ArmTruth(alignment=-0.12, accuracy=-0.02)}
    run = make_run(tmp_path / "run", arms=arms, accuracy_seed_sd=0.001, accuracy_sd=0.001)
    text = answer_of(material_of(run))
    assert "projection leaves the transfer unchanged: the difference from" in text


def test_the_answer_begins_with_one_sentence(demo_material: Material) -> None:
    text = plain(brief(demo_material))
    assert text.startswith("In brief, over 8 seeds: the distillation gradient stays aligned")
    assert "‘projection’, which turns the update against the trait gradient, " in text
    assert text.count(".") == text.count("0.") + len(re.findall(r"[1-9]\.\d", text)) + 1


@pytest.mark.parametrize(
    ("p", "said"),
    [
        (0.003, "differ between levels (p = 0.003), so not all"),
        (0.084, "does not reject (p = 0.084), so it"),
    ],
)
def test_slopes_differ_by_their_test_and_not_by_their_intervals(
    p: float, said: str, demo_material: Material
) -> None:
    between = demo_material.find(
        "step_slope", part="between_arms", outcome="gain", predictor="cos_update", split="levels"
    )
    assert isinstance(between, Estimate)
    shown = demo_material.results
    moved = [replace(one, low=14.0, high=16.0) if one is between else one for one in shown.results]  # type: ignore[arg-type]
    results = replace(shown, results=tuple(moved))
    material = replace(demo_material, analysis=replace(demo_material.analysis, results=results))
    test = TestResult("equal", 3.0, p, (2.0, 7.0), "F")
    vars(material)["equal_slopes"] = {("gain", f"cos_{on}"): test for on in ("update", "gradient")}
    (found,) = [one.text for one in answer(material) if "slope of gain on cos_update" in one.text]
    assert said in found
    assert ("not all can be the causal slope" in found) == (p < 0.05)


def test_the_test_of_the_slopes_is_that_of_the_page(demo_material: Material) -> None:
    test = demo_material.equal_slopes["gain", "cos_update"]
    assert f"{test.statistic:.3g}" in section_of(demo_material, "mixed")


def test_one_arm_is_not_held_against_itself(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", arms={"projection": ArmTruth(alignment=-0.3, gain=-0.02)})
    text = answer_of(material_of(run))
    assert "projection is the only arm with a complete seed" in text
    assert "projection and projection" not in text
    assert "positive in no step of any seed" in text
    assert "of the rise of the trait loss" in text
    assert "where the loss rose" in text
    assert "drop" not in text


def test_it_is_the_gradient_that_weakens(tmp_path: Path) -> None:
    assert "The gradient's alignment " in answer_of(material_of(make_run(tmp_path / "run")))


def test_an_open_claim_gives_what_decides_and_a_level_of_its_own_is_marked(demo: Path) -> None:
    plan = parse_plan(
        {
            "name": "claims",
            "n_boot": 199,
            "families": {"arms": "sign_flip"},
            "estimand": [
                {
                    "name": "effect",
                    "sentence": "Effect on final accuracy against baseline.",
                    "method": "paired_contrast",
                    "outcome": "final_accuracy",
                    "contrast": "each - baseline",
                    "family": "arms",
                },
                {
                    "name": "same",
                    "sentence": "The control leaves accuracy as it is.",
                    "method": "equivalence",
                    "outcome": "final_accuracy",
                    "contrast": "shuffled - baseline",
                    "margin": 0.05,
                },
            ],
            "claim": [
                {
                    "name": "transfer",
                    "sentence": "Projection lowers the transfer, and nothing else does.",
                    "condition": [
                        {
                            "estimand": "effect_projection",
                            "holds": "p_adjusted < 1e-9",
                            "fails": "low > 0",
                            "essential": True,
                        },
                        {"estimand": "same", "holds": "low > -0.05", "fails": "low > 1"},
                    ],
                }
            ],
        }
    )
    material = read_material(demo, plan)
    text = answer_of(material)
    assert "; claims of the plan: 1 undetermined." in brief(material)
    assert "], adjusted p = 0.0078 is open" in text
    assert "] (90 % interval) holds" in text


@pytest.mark.parametrize(("n_seeds", "said"), [(4, "cannot give a p below 0.12"), (8, "")])
def test_the_least_p_of_sign_flips_is_told_where_it_is_not_small(
    n_seeds: int, said: str, tmp_path: Path
) -> None:
    plan = load_plan("primary")
    family = [one for one in plan.estimands if one.name == "final_accuracy"]
    alone = plan.model_copy(update={"n_boot": 199, "estimands": tuple(family)})
    text = answer_of(read_material(make_run(tmp_path / "run", n_seeds=n_seeds), alone))
    assert "adjusted p " in text
    assert ("sign flips" in text) == bool(said)
    assert said in text


def test_what_the_answer_says_beside_the_plan_stands_in_the_section_it_links_to(
    demo_material: Material,
) -> None:
    acquired = section_of(demo_material, "acquisition")
    assert "share of what baseline acquires that projection prevents" in acquired
    assert "acquired by projection" in acquired
    aligned = section_of(demo_material, "alignment")
    assert "Estimates behind the answer on the update&#39;s alignment" in aligned
    for text in (acquired, aligned):
        table = text[text.index("Estimates behind the answer") :]
        assert "Added by the report." in table
        assert 'scope="col">method<' in table
        assert 'scope="col">seeds<' in table


@pytest.mark.parametrize(
    "words",
    [
        "stops nearly all",
        "stops the transfer",
        "lowers",
        "raises",
        "attenuates",
        "does more than remove",
    ],
)
def test_every_wording_has_its_rule(words: str) -> None:
    assert words in RULES


@pytest.mark.parametrize(("n_seeds", "said"), [(1, "Only 1 seed is"), (2, "Only 2 seeds are")])
def test_few_seeds_have_no_intervals_rather_than_bad_ones(
    n_seeds: int, said: str, tmp_path: Path
) -> None:
    text = answer_of(material_of(make_run(tmp_path / "run", n_seeds=n_seeds, arms=ARMS)))
    assert f"{said} complete: with fewer than 3 there are no intervals" in text
    assert "nominal coverage" not in text


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
    assert doses == ("gradient", DoseArms("baseline", {"baseline": 0.0, "whole": 1.0, "half": 0.5}))
    text = section_of(material, "study")
    assert "projection, layers" in text
    assert "projection, student.optimizer sgd" in text
