"""A report that compares two runs, or two files of results."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sublim_causal.analysis.plan.file import Plan, parse_plan
from sublim_causal.errors import RequestError, RunError
from sublim_causal.report import compare_reports
from tests.report.conftest import change_manifest, make_run, text_of

pytestmark = pytest.mark.end_to_end


@pytest.fixture(scope="module")
def quick() -> Plan:
    """Return a plan of one contrast: a comparison of runs draws its figures whatever it is."""
    contrast = {
        "name": "final_accuracy",
        "sentence": "Mean difference in final accuracy against baseline.",
        "method": "paired_contrast",
        "outcome": "final_accuracy",
        "contrast": "each - baseline",
    }
    return parse_plan({"name": "quick", "n_boot": 199, "estimand": [contrast]})


def test_a_run_against_itself_is_refused(demo: Path) -> None:
    with pytest.raises(RequestError, match="another run"):
        compare_reports(demo, demo)


def test_runs_of_one_definition_are_paired(tmp_path: Path, quick: Plan) -> None:
    runs = [make_run(tmp_path / name, n_seeds=8) for name in ("fp32", "bf16")]
    for run in runs:
        change_manifest(run, definition={"name": "x", "precision": run.name}, precision=run.name)
    page = compare_reports(*runs, quick)
    assert "differences are taken seed by seed" in text_of(page, "study")
    table = pd.read_csv(page.parent / "tables" / "differences.csv").set_index("name")
    assert table.loc["difference_final_accuracy_baseline", "estimate"] == 0
    assert "results of the two runs are equivalent" in text_of(page, "answer")
    assert "not shown" not in text_of(page, "agreement")
    assert "margin 2 percentage points" in text_of(page, "agreement")
    margins = "2 percentage points for final_accuracy, 0.001 for mean_cos_gradient"
    assert margins in text_of(page, "agreement")
    said = text_of(page, "answer")
    assert said.count("final test accuracy is the same in all 8 seeds") == 3
    assert not any(word in said for word in ("unsettled", "is not shown"))
    assert table["p_value"].isna().all()


def shift(amount: float, spread: float) -> Callable[[Mapping[str, pd.DataFrame]], None]:
    """Return what moves final accuracy as another precision does: a little, by seed."""

    def spoil(tables: Mapping[str, pd.DataFrame]) -> None:
        rows = tables["replicates"]
        noise = np.random.default_rng(0).normal(amount, spread, len(rows))
        rows["final_accuracy"] += noise * (rows["arm"] == "projection")

    return spoil


def lose_two_seeds(tables: Mapping[str, pd.DataFrame]) -> None:
    """Let two of eight seeds diverge."""
    rows = tables["replicates"]
    rows.loc[rows["seed"] >= 6, ["status", "reason"]] = ["diverged", "the loss became infinite"]


@pytest.mark.parametrize(
    ("amount", "spread", "said", "verdict"),
    [
        (0.003, 0.002, "is equivalent within 2 percentage points: bf16 minus fp32 is", "yes"),
        (0.05, 0.002, "differs: bf16 minus fp32 is", "no"),
        (0.0, 0.2, "is not shown to differ, nor to be equivalent: bf16 minus", "unsettled"),
    ],
)
def test_an_arm_of_paired_runs_gets_one_verdict(
    amount: float, spread: float, said: str, verdict: str, tmp_path: Path, quick: Plan
) -> None:
    runs = [
        make_run(tmp_path / "bf16", n_seeds=8, spoil=shift(amount, spread)),
        make_run(tmp_path / "fp32", n_seeds=8, spoil=lose_two_seeds),
    ]
    for run in runs:
        change_manifest(run, definition={"name": "x", "precision": run.name})
    page = compare_reports(*runs, quick)
    found = re.search(
        rf'<div class="finding (\w+)">(?:(?!</div>).)*projection</code>: final test accuracy {said}'
        r"(?:(?!</div>).)*6 seeds",
        page.read_text(),
        re.DOTALL,
    )
    assert found
    assert found[1] == verdict
    assert "over the 6 seeds that both have" in text_of(page, "study")
    assert "means over seeds (8 in bf16 and 6 in fp32)" in text_of(page, "curves")


def test_declared_estimates_of_both_runs_stand_with_unit_method_and_seeds(
    demo: Path, tmp_path: Path
) -> None:
    control = {
        "name": "same",
        "sentence": "The control leaves accuracy as it is.",
        "method": "equivalence",
        "outcome": "final_accuracy",
        "contrast": "shuffled - baseline",
        "margin": 0.05,
    }
    plan = parse_plan({"name": "quick", "n_boot": 199, "estimand": [control]})
    other = make_run(tmp_path / "other", n_seeds=5)
    page = compare_reports(demo, other, plan, out=tmp_path / "page")
    text = text_of(page, "estimates")
    assert text.count(" points [") == 2
    assert text.count("] (90 %)") == 2
    assert "intervals of 95 % unless another level is given" in text
    assert re.search("paired TOST, [a-z-]+, 8 ", text)
    assert re.search("paired TOST, [a-z-]+, 5 ", text)


def test_an_arm_that_is_another_intervention_is_no_rounding(tmp_path: Path, quick: Plan) -> None:
    runs = [make_run(tmp_path / name, n_seeds=4) for name in ("one", "half")]
    for run, strength in zip(runs, (1.0, 0.5), strict=True):
        arms = {"baseline": {"0": {}}, "projection": {"0.strength": strength}}
        change_manifest(run, definition={"name": "x"}, arms=arms)
    page = compare_reports(*runs, quick)
    assert "different definitions in the two runs: projection." in text_of(page, "study")
    names = set(pd.read_csv(page.parent / "tables" / "agreement.csv")["name"])
    assert "agreement_effect_shuffled - baseline" in names
    assert not any("projection" in name for name in names)


def test_other_studies_are_compared_by_welch(demo: Path, tmp_path: Path, quick: Plan) -> None:
    other = make_run(tmp_path / "other", n_seeds=5, accuracy=0.6)
    page = compare_reports(demo, other, quick, out=tmp_path / "page")
    assert "seeds are treated as independent" in text_of(page, "study")
    table = pd.read_csv(page.parent / "tables" / "differences.csv").set_index("name")
    row = table.loc["difference_final_accuracy_baseline"]
    assert row["method"] == "Welch t"
    assert "8 seeds of demo and 5 seeds of other" in row["note"]
    assert "only 5 seeds of other" in row["note"]
    assert np.sign(row["estimate"]) == -1
    assert 'id="agreement"' not in page.read_text()


def test_results_files_are_put_side_by_side(page: Path, tmp_path: Path) -> None:
    written = page.parent / "results.json"
    copy = tmp_path / "other.json"
    copy.write_text(written.read_text())
    text = text_of(compare_reports(written, copy, out=tmp_path / "page"), "estimates")
    assert "final_accuracy_projection" in text
    assert "(first)" in text
    assert "(second)" in text


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (json.dumps({"schema": "sublim_causal.results/1", "results": []}), "results/1'; this"),
        ("{}", "holds no results"),
        ("<html>", "not a results file"),
        (json.dumps({"schema": "sublim_causal.results/3"}), "damaged"),
    ],
)
def test_another_results_file_is_refused_with_the_remedy(
    content: str, said: str, page: Path, tmp_path: Path
) -> None:
    path = tmp_path / "results.json"
    path.write_text(content)
    with pytest.raises(
        RunError, match=r"remedy: make it again with `sublim-causal report"
    ) as error:
        compare_reports(page.parent / "results.json", path)
    assert said in str(error.value)


def test_a_results_file_is_not_compared_with_a_run(demo: Path, page: Path) -> None:
    with pytest.raises(RequestError, match="a results file, as"):
        compare_reports(demo, page.parent / "results.json")
