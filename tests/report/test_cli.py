from __future__ import annotations

import html
import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sublim_causal.errors import RequestError, RunError
from sublim_causal.store.connection import ENVIRONMENT, default_tracking_uri
from sublim_causal.store.tracking import sync
from sublim_causal.study.cli import app
from tests.report.conftest import make_run

pytestmark = pytest.mark.end_to_end

SMALL = """
name = "small"
n_boot = 199

[[estimand]]
name = "final_accuracy"
sentence = "Mean difference in final trait accuracy against baseline."
method = "paired_contrast"
outcome = "final_accuracy"
contrast = "each - baseline"
"""


SLOPE = """
[[estimand]]
name = "slope"
sentence = "Gain per unit of gradient alignment."
method = "step_slope"
outcome = "gain"
predictor = "cos_gradient"
"""


@pytest.fixture
def plan(tmp_path: Path) -> str:
    path = tmp_path / "small.toml"
    path.write_text(SMALL)
    return str(path)


@pytest.fixture
def copy(demo: Path, tmp_path: Path) -> Path:
    """Return a copy of `demo` without its report."""
    target = tmp_path / "runs" / "demo"
    return Path(shutil.copytree(demo, target, ignore=shutil.ignore_patterns("report")))


def test_analyse_prints_the_table_and_writes_the_results(copy: Path, plan: str) -> None:
    shown = CliRunner().invoke(app, ["analyse", str(copy), "--plan", plan])
    assert shown.exit_code == 0, shown.output
    assert "final_accuracy_projection" in shown.output
    assert json.loads((copy / "report" / "results-small.json").read_text())["plan"] == "small"


def test_analyse_refits_with_another_library_where_asked(copy: Path, tmp_path: Path) -> None:
    path = tmp_path / "slope.toml"
    path.write_text(SLOPE)
    shown = CliRunner().invoke(app, ["analyse", str(copy), "--plan", str(path), "--cross-check"])
    assert shown.exit_code == 0, shown.output
    assert "1 of 1 fits agree" in shown.output


def test_analyse_prints_exploratory_results_where_asked(copy: Path, tmp_path: Path) -> None:
    path = tmp_path / "slope.toml"
    path.write_text(
        f"{SLOPE}\n[[estimand]]{SLOPE.split('[[estimand]]')[1]}".replace(
            'name = "slope"', 'name = "aside"\nrole = "exploratory"', 1
        )
    )
    for options, printed in (([], False), (["--all"], True)):
        shown = CliRunner().invoke(app, ["analyse", str(copy), "--plan", str(path), *options])
        assert shown.exit_code == 0, shown.output
        assert any(line.startswith("aside ") for line in shown.output.splitlines()) is printed


def test_report_of_two_runs_compares_them(small_run: Path, plan: str, tmp_path: Path) -> None:
    other = make_run(tmp_path / "other", n_seeds=2, n_steps=10)
    shown = CliRunner().invoke(app, ["report", str(small_run), str(other), "--plan", plan])
    assert shown.exit_code == 0, shown.output
    assert (small_run / "report-against-other" / "index.html").exists()


def test_report_writes_a_page_by_the_plan_and_the_mirror_gets_it(
    small_run: Path, plan: str, quick_stores: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    uri = default_tracking_uri(small_run)
    mirrored = sync(small_run, uri, replicates=False)
    shown = CliRunner().invoke(app, ["report", str(small_run), "--plan", plan])
    assert shown.exit_code == 0, shown.output
    page = small_run / "report" / "index.html"
    assert f"Report: {page}" in shown.output
    text = page.read_text()
    assert "The plan declares no per-step slope" in text
    assert "The plan declares no summary of alignment by seed" in text
    client = MlflowClient(uri)
    found = {one.path for one in client.list_artifacts(mirrored.study_run_id, "report")}
    assert {"report/index.html", "report/results.json", "report/figures"} <= found


def test_the_command_that_a_report_prints_makes_it_again(small_run: Path, tmp_path: Path) -> None:
    run, plan = small_run.rename(tmp_path / "my run"), tmp_path / "my plan.toml"
    plan.write_text(SMALL)
    CliRunner().invoke(app, ["report", str(run), "--plan", str(plan)])
    page = run / "report" / "index.html"
    printed = [line for line in page.read_text().splitlines() if "sublim-causal report" in line]
    command = html.unescape(re.sub("<.*?>", "", printed[-1]))
    page.unlink()
    again = CliRunner().invoke(app, shlex.split(command)[1:])
    assert again.exit_code == 0, again.output
    assert page.exists()


def test_wrong_requests_are_errors(copy: Path, tmp_path: Path) -> None:
    assert isinstance(
        CliRunner().invoke(app, ["report", str(copy), "--plan", "primry"]).exception, RequestError
    )
    assert isinstance(CliRunner().invoke(app, ["report", str(tmp_path)]).exception, RunError)
    assert isinstance(CliRunner().invoke(app, ["analyse", str(tmp_path)]).exception, RunError)
