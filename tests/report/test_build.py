from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from sublim_causal.analysis.plan.run import analyse
from sublim_causal.errors import RequestError, RunError
from sublim_causal.report import compare_reports, write_report
from tests.report.conftest import QUICK, change_manifest, make_run

pytestmark = pytest.mark.end_to_end

Again = tuple[Path, list[tuple[int, int]]]


def test_results_are_those_of_analyse(demo: Path, page: Path) -> None:
    written = json.loads((page.parent / "results.json").read_text())
    assert written == json.loads(analyse(demo, QUICK).to_json())


def test_supplement_says_that_it_was_not_declared(page: Path) -> None:
    added = json.loads((page.parent / "supplement.json").read_text())["results"]
    names = {one["name"] for one in added}
    assert {"share_drive_baseline", "sum_gain_baseline", "mediation_te_projection"} <= names
    headlines = {"removed_share_projection", "acquired_projection", "mean_cos_update_projection"}
    assert headlines <= names
    assert all("added by the report" in one["assumptions"][0] for one in added)


def test_every_table_and_figure_is_a_file(page: Path) -> None:
    text = page.read_text()
    for name in re.findall(r'id="table-(\w+)"', text):
        for ending in ("csv", "tex"):
            assert (page.parent / "tables" / f"{name}.{ending}").stat().st_size
    for name in re.findall(r'<figure id="figure-(\w+)"', text):
        for ending in ("svg", "pdf"):
            assert (page.parent / "figures" / f"{name}.{ending}").stat().st_size


@pytest.fixture(scope="module")
def again(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Again:
    """Write the report again, elsewhere, and note its progress."""
    folder = tmp_path_factory.mktemp("again")
    seen: list[tuple[int, int]] = []
    write_report(
        demo, QUICK, out=folder, progress=lambda done, total, name: seen.append((done, total))
    )
    return folder, seen


def test_same_tables_give_the_same_bytes(page: Path, again: Again) -> None:
    for path in sorted(page.parent.rglob("*.*")):
        other = again[0] / path.relative_to(page.parent)
        assert other.read_bytes() == path.read_bytes(), path.name


def test_progress_counts_up_to_the_end(again: Again) -> None:
    seen = again[1]
    assert [done for done, _ in seen] == list(range(seen[-1][1] + 1))


def test_names_do_not_choose_where_files_go(evil_page: Path) -> None:
    report = evil_page.parent
    written = {path.relative_to(report).parts[0] for path in report.rglob("*")}
    assert written == {
        "index.html",
        "results.json",
        "supplement.json",
        "files.txt",
        "tables",
        "figures",
    }
    assert {path.name for path in report.parent.iterdir()} >= {"manifest.json", "report", "steps"}
    assert all(path.name.isascii() and " " not in path.name for path in report.rglob("*"))


def test_nothing_complete_is_an_error(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", n_seeds=3, diverged_runs=0.99)
    with pytest.raises(RunError, match="no replicate is complete"):
        write_report(run)


def test_no_run_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="not a run directory"):
        write_report(tmp_path)


def test_a_newer_schema_is_an_error(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", n_seeds=3)
    change_manifest(run, schema_version=99)
    with pytest.raises(RunError, match="upgrade"):
        write_report(run)


def test_a_file_is_no_folder_and_is_refused_before_anything_is_computed(
    demo: Path, tmp_path: Path
) -> None:
    seen: list[int] = []
    (tmp_path / "paper.tex").touch()
    for out in (tmp_path / "paper.tex", tmp_path / "paper.tex" / "page"):
        with pytest.raises(RequestError, match=r"paper\.tex is a file") as raised:
            write_report(demo, out=out, progress=lambda done, total, name: seen.append(done))
        assert raised.value.field == "--out"
        with pytest.raises(RequestError, match="is a file"):
            compare_reports(demo, demo.parent, out=out)
    assert not seen
