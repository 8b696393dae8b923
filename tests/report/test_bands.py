"""Bands and intervals that a report shows: within what can be, and only with enough seeds."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from sublim_causal.analysis.plan.ranges import COSINE, FRACTION
from sublim_causal.analysis.plan.results.curves import Curve
from sublim_causal.analysis.simulation.tables import ArmTruth
from sublim_causal.report.figures.curves import overlay, shares
from sublim_causal.report.material import Material
from sublim_causal.report.sections import BODY
from sublim_causal.report.sections.glance import study_facts
from sublim_causal.report.wording import named
from tests.report.conftest import Tables, answer_of, make_run, material_of, section_of

PAIR = r"\[(\S+), (\S+)\]"


def limits(text: str) -> list[tuple[float, float]]:
    """Return all intervals in a text."""
    found = re.findall(PAIR, text.replace("\N{MINUS SIGN}", "-"))
    return [(float(low), float(high)) for low, high in found]


def explode(tables: Tables) -> None:
    """Let one arm's seeds end anywhere between nothing and all."""
    rows = tables["replicates"]
    wild = rows["arm"] == "projection"
    n = int(wild.sum())
    rows.loc[wild, "final_accuracy"] = np.resize([0.0, 1.0], n)
    rows.loc[wild, "share_positive"] = np.resize([0.0, 1.0], n)
    rows.loc[wild, "mean_cos_update"] = np.resize([-1.0, 1.0], n)


def test_no_interval_at_a_glance_reaches_beyond_what_can_be(tmp_path: Path) -> None:
    material = material_of(make_run(tmp_path / "run", n_seeds=4, spoil=explode))
    with_arms = next(one for one in BODY["study"](material).blocks if one.name == "arms")  # type: ignore[union-attr]
    shown = with_arms.shown.set_index("arm").loc[named("projection")]  # type: ignore[union-attr]
    assert limits(shown["final test accuracy (%)"]) == [(0.0, 100.0)]
    assert limits(shown["cos gradient > 0 (% of steps)"]) == [(0.0, 100.0)]
    assert limits(shown["cos update"]) == [(-1.0, 1.0)]
    mean = material.headlines["projection"].alignment
    assert (mean.low, mean.high) == (-1.0, 1.0)  # type: ignore[union-attr]


def test_bands_end_where_the_quantity_does() -> None:
    steps, seeds = np.arange(2), np.array([[0.0, 0.9], [1.0, 1.0], [0.0, 1.0]])
    known = Curve(steps, seeds, 0.95, FRACTION).scaled(100)
    assert known.low.min() == 0
    assert known.high.max() == 100
    figure = overlay({"wild": known}, "accuracy (%)", points={"wild": known})
    low, high = figure.axes[0].get_ylim()
    assert low > -10
    assert high < 110


def test_bands_of_shares_end_at_nothing_and_all() -> None:
    seeds = np.array([[1.0] * 4, [1.0] * 4, [-1.0] * 4])
    figure = shares({"baseline": Curve(np.arange(4), seeds, 0.95)}, "share", bins=2)
    drawn = figure.axes[0].collections[0].get_paths()[0].vertices
    assert np.asarray(drawn)[:, 1].max() == 100
    assert np.asarray(drawn)[:, 1].min() == 0


def test_a_curve_knows_the_range_of_its_column(demo_material: Material) -> None:
    assert demo_material.curves["cos_update"]["baseline"].bounds == COSINE
    assert demo_material.evaluations["baseline"].bounds == FRACTION


@pytest.mark.parametrize("n_seeds", [1, 2])
def test_below_three_seeds_no_band_is_drawn_or_promised(n_seeds: int, tmp_path: Path) -> None:
    material = material_of(make_run(tmp_path / "run", n_seeds=n_seeds))
    assert np.isnan(material.curves["cos_update"]["baseline"].half_width).all()
    for anchor in ("alignment", "acquisition", "ledger"):
        text = section_of(material, anchor)
        assert "No bands: " in text
        assert "t intervals" not in text
        assert "95 %" not in re.sub("<table.*?</table>", "", text, flags=re.DOTALL)
    text = answer_of(material) + section_of(material, "mixed")
    assert n_seeds != 1 or "a mixed model needs" in text


def test_with_three_seeds_captions_say_which_bands(tmp_path: Path) -> None:
    material = material_of(make_run(tmp_path / "run", n_seeds=3))
    said = "Bands: pointwise 95 % t intervals over seeds"
    assert f"{said}." in section_of(material, "ledger")
    assert f"{said}, clipped at 0 and 100 %." in section_of(material, "alignment")
    assert f"{said}, clipped at 0 and 100 %." in section_of(material, "acquisition")


@pytest.mark.parametrize(
    ("n_seeds", "said"),
    [(1, "%, one seed"), (2, "%, mean over 2 seeds"), (4, "mean over 4 seeds with 95 % interval")],
)
def test_accuracies_before_training_come_with_interval_and_number(
    n_seeds: int, said: str, tmp_path: Path
) -> None:
    def spread(tables: Tables) -> None:
        rows = tables["replicates"]
        rows["initial_accuracy"] = 0.1 + 0.01 * rows["seed"]
        rows["teacher_accuracy"] = 0.9 + 0.01 * rows["seed"]

    arms = {"baseline": ArmTruth(), "projection": ArmTruth()}
    run = make_run(tmp_path / "run", n_seeds=n_seeds, arms=arms, spoil=spread)
    facts = dict(study_facts(material_of(run)))
    for label in ("teacher's test accuracy", "test accuracy before training"):
        assert said in facts[label]
        assert bool(limits(facts[label])) == (n_seeds > 2)


def test_a_caption_says_that_an_arm_of_two_seeds_has_no_band(tmp_path: Path) -> None:
    def diverge(tables: Tables) -> None:
        rows = tables["replicates"]
        lost = (rows["arm"] == "projection") & (rows["seed"] > 1)
        rows.loc[lost, ["status", "reason"]] = ["diverged", "the loss became infinite"]

    material = material_of(make_run(tmp_path / "run", n_seeds=4, spoil=diverge))
    assert "over seeds; none for fewer than 3 seeds." in section_of(material, "ledger")
    assert np.isnan(material.curves["gain"]["projection"].low).all()
    assert np.isfinite(material.curves["gain"]["baseline"].low).all()
