"""Runs of one's own in analysis, report, power, status and mirror."""

from __future__ import annotations

import html
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from sublim_causal.analysis import Settings, analyse, pilot, pilots, tost, welch_contrast
from sublim_causal.analysis.estimates.types import Estimate, NotEstimable
from sublim_causal.analysis.plan.file import load_plan
from sublim_causal.errors import RunError
from sublim_causal.report import compare_reports, write_report
from sublim_causal.report.answer.brief import brief
from sublim_causal.report.answer.control import control
from sublim_causal.report.answer.transfer import transfer
from sublim_causal.report.material import read_material
from sublim_causal.report.wording import plain
from sublim_causal.store.tables import read_table
from sublim_causal.store.tracking import sync
from tests.own.conftest import opened, write
from tests.study.commands import sublim

pytestmark = pytest.mark.end_to_end


def text_of(page: Path) -> str:
    """Return what a reader of a page reads."""
    text = re.sub(r"<(svg|style|script).*?</\1>", "", page.read_text(), flags=re.S)
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", text)))


def independent() -> pd.DataFrame:
    """Return arms of other seeds and spreads, under names of the caller's own."""
    rng = np.random.default_rng(1)
    one, other = rng.normal(1, 1, 12), rng.normal(0, 3, 7)
    return pd.DataFrame({"subject": range(19), "group": [2] * 12 + [1] * 7, "y": [*one, *other]})


def test_welch_equals_scipy() -> None:
    frame = independent()
    found = welch_contrast(frame, "y", 2, 1, cluster="subject", arm_column="group")
    one, other = (frame.loc[frame["group"] == group, "y"] for group in (2, 1))
    expected = stats.ttest_ind(one, other, equal_var=False)
    assert isinstance(found, Estimate)
    assert found.p_value == pytest.approx(expected.pvalue)
    assert found.df == pytest.approx(expected.df)
    interval = expected.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    same = tost(frame, "y", 2, 1, margin=9.0, cluster="subject", arm_column="group", paired=False)
    above = stats.ttest_ind(one + 9, other, equal_var=False, alternative="greater").pvalue
    below = stats.ttest_ind(one - 9, other, equal_var=False, alternative="less").pvalue
    assert isinstance(same, Estimate)
    assert same.p_value == pytest.approx(max(above, below))
    assert same.diagnostics["equivalent"]


def test_welch_covers_at_its_level() -> None:
    rng, misses, n = np.random.default_rng(2), 0, 200
    arms = ["a"] * 5 + ["b"] * 15
    for _ in range(n):
        y = np.concatenate([rng.normal(0, 3, 5), rng.normal(0, 1, 15)])
        frame = pd.DataFrame({"seed": range(20), "arm": arms, "y": y})
        found = welch_contrast(frame, "y", "a", "b", settings=Settings(level=0.9))
        misses += not found.low <= 0 <= found.high
    assert stats.binomtest(misses, n, 0.1).pvalue > 0.001


def test_too_few_and_equal_values_have_no_welch_interval() -> None:
    frame = independent()
    few = welch_contrast(frame[9:], "y", 2, 1, cluster="subject", arm_column="group")
    assert isinstance(few, Estimate)
    assert isinstance(
        welch_contrast(frame[10:], "y", 2, 1, cluster="subject", arm_column="group"), NotEstimable
    )
    flat = frame.assign(y=frame["group"])
    assert isinstance(
        welch_contrast(flat, "y", 2, 1, cluster="subject", arm_column="group"), NotEstimable
    )


def test_a_pilot_of_independent_arms_has_the_spread_of_their_difference() -> None:
    frame = independent()
    one, other = (frame.loc[frame["group"] == group, "y"] for group in (2, 1))
    found = pilot(frame, "y", 2, 1, cluster="subject", arm_column="group", paired=False)
    assert found.sd == pytest.approx(np.sqrt(one.var() + other.var()))
    assert found.n_seeds == 7
    (again,) = pilots(frame, "y", 1, cluster="subject", arm_column="group", paired=False)
    assert again.sd == found.sd


def test_the_primary_plan_takes_the_runs_outcome(paired_run: Path) -> None:
    results = analyse(paired_run)
    effect = results["owl_rate_guarded"]
    assert isinstance(effect, Estimate)
    assert effect.value == pytest.approx(-0.2, abs=0.02)
    assert effect.method == "paired t"
    assert (effect.estimand.column, effect.estimand.unit) == ("owl_rate", "difference of fractions")
    assert "shuffled" in results["shuffled_equals_baseline"].reason
    assert isinstance(results["cos_update_late_baseline"], Estimate)
    assert "accuracy" not in effect.estimand.sentence


def test_unpaired_arms_are_seen_and_compared_by_welch(unpaired_run: Path) -> None:
    effect = analyse(unpaired_run)["owl_rate_guarded"]
    rows = read_table(unpaired_run, "replicates")
    one, other = (rows.loc[rows["arm"] == arm, "owl_rate"] for arm in ("guarded", "baseline"))
    assert isinstance(effect, Estimate)
    assert effect.method == "Welch t"
    assert effect.p_value == pytest.approx(stats.ttest_ind(one, other, equal_var=False).pvalue)
    assert any("independent samples" in warning for warning in effect.warnings)


def test_seeds_may_be_declared_no_pairs(tmp_path: Path) -> None:
    seeds = {"baseline": range(4), "guarded": range(4)}
    run = write(tmp_path / "run", seeds, steps=0, paired=False)
    assert analyse(run)["owl_rate_guarded"].method == "Welch t"


def test_a_plan_may_name_own_columns(paired_run: Path, tmp_path: Path) -> None:
    plan = tmp_path / "own.toml"
    plan.write_text(
        """
        [[estimand]]
        name = "loss"
        sentence = "Mean of the loss over a run."
        method = "seed_summary"
        outcome = "loss"
        summary = "mean"
        window = "all"
        [[estimand]]
        name = "warmth"
        sentence = "Mean temperature of an arm."
        method = "arm_mean"
        outcome = "temperature"
        """
    )
    results = analyse(paired_run, plan)
    assert results["loss_baseline"].value == pytest.approx(np.mean(1 / np.arange(1, 7)))
    assert results["warmth_guarded"].estimand.unit == "K"


def test_steps_that_a_monitor_left_out_are_no_missing_values(tmp_path: Path) -> None:
    run = write(tmp_path / "run", {"baseline": range(3)}, steps=9, every=4)
    found = analyse(run)["cos_update_early_baseline"]
    assert isinstance(found, Estimate)


def test_without_a_margin_equivalence_says_so(tmp_path: Path) -> None:
    seeds = {"baseline": range(3), "shuffled": range(3)}
    run = write(tmp_path / "run", seeds, steps=0, unit="nats", chance=None)
    found = analyse(run)["shuffled_equals_baseline"]
    assert "declares no margin" in found.reason
    run = write(tmp_path / "other", seeds, steps=0, unit="nats", chance=None, margin=1.0)
    assert isinstance(analyse(run)["shuffled_equals_baseline"], Estimate)


@pytest.fixture(scope="module")
def pages(paired_run: Path, unpaired_run: Path) -> dict[str, str]:
    runs = {"paired": paired_run, "unpaired": unpaired_run}
    plan = load_plan("primary").model_copy(update={"n_boot": 199})
    return {name: text_of(write_report(run, plan)) for name, run in runs.items()}


def test_a_report_calls_the_outcome_by_its_name(pages: dict[str, str]) -> None:
    for page in pages.values():
        words = re.sub(r"accuracy_gain\w*|Probe accuracy gained|accuracy gain", "", page)
        assert "accuracy" not in words.lower()
        assert "chance level 10 %" in page
        assert "in owl rate is" in page
        assert "sublim-causal run" not in page


def test_a_report_says_what_is_not_there(pages: dict[str, str]) -> None:
    assert "arms share none" in pages["unpaired"]
    assert "Welch" in pages["unpaired"]
    assert "Alignment was not measured under" in pages["unpaired"]
    assert "log_to(replicate)" in pages["unpaired"]
    assert "Welch" not in pages["paired"]
    assert "cos_update" in pages["paired"]


def test_two_own_runs_are_not_compared(paired_run: Path, unpaired_run: Path) -> None:
    with pytest.raises(RunError, match="a run of your own"):
        compare_reports(paired_run, unpaired_run)


def test_the_commands_know_own_runs(tmp_path: Path) -> None:
    run = write(tmp_path / "run", {"baseline": range(4), "guarded": range(5, 9)}, steps=1)
    done = sublim("status", run, cwd=tmp_path)
    assert "A run of your own" in done.stdout
    assert "missing" not in done.stdout
    assert sublim("status", run, "--watch", cwd=tmp_path).returncode == 2
    done = sublim("power", run, cwd=tmp_path)
    assert "seeds per arm" in done.stdout
    assert sublim("power", run, "--at", "4,8", cwd=tmp_path).returncode == 2
    assert sublim("compact", run, cwd=tmp_path).returncode == 0
    done = sublim("run", "quickstart", "--out", run, "--tracking-uri", "none", cwd=tmp_path)
    assert done.returncode == 2
    assert "a run of your own, to which no study can add" in done.stderr


def test_the_mirror_shows_own_columns(tmp_path: Path, quick_stores: None) -> None:
    import mlflow

    run = write(tmp_path / "run", {"baseline": range(1)}, steps=2)
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    assert sync(run, uri).written == 1
    client = mlflow.MlflowClient(uri)
    experiment = client.get_experiment_by_name("run")
    (found,) = client.search_runs([experiment.experiment_id], "tags.seed = '0'")
    assert {"owl_rate", "loss", "temperature", "cos_update"} <= set(found.data.metrics)


def test_an_arm_is_described_by_its_name_unless_the_run_says_what_it_does(tmp_path: Path) -> None:
    arms = {arm: range(4) for arm in ("baseline", "projection", "shuffled")}
    unsaid = read_material(write(tmp_path / "unsaid", arms, steps=0), "primary")
    assert unsaid.design.record.options("projection") == {"intervention": ""}
    said = [brief(unsaid), *(one.text for one in (*transfer(unsaid), *control(unsaid)))]
    assert "which removes" not in " ".join(said)
    assert "the control" not in " ".join(said)
    assert "no arm is declared to remove alignment" in " ".join(said)
    declared = {"projection": {"intervention": "projection", "space": "update"}}
    opened(tmp_path / "known", arms=declared)
    known = read_material(write(tmp_path / "known", arms, steps=0), "primary")
    assert "projection\N{RIGHT SINGLE QUOTATION MARK}, which removes" in plain(brief(known))
