from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sublim_causal.analysis.plan.file import Plan, parse_plan
from sublim_causal.analysis.plan.run import analyse
from sublim_causal.analysis.simulation.tables import ArmTruth
from sublim_causal.errors import HIDDEN, RequestError, RunError
from sublim_causal.report import compare_reports, write_report
from sublim_causal.report.answer.brief import brief
from sublim_causal.report.sections import BODY
from tests.report.conftest import (
    QUICK,
    answer_of,
    change_manifest,
    make_run,
    material_of,
    section_of,
)

Again = tuple[Path, list[tuple[int, int]]]
ANCHORS = (
    "answer",
    "study",
    "alignment",
    "acquisition",
    "mixed",
    "ledger",
    "mediation",
    "control",
    "methods",
)


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


def section(page: Path, anchor: str) -> str:
    """Return the text of a section, without pictures and tags."""
    found = re.search(rf'<section id="{anchor}".*?</section>', page.read_text(), re.DOTALL)
    assert found
    text = re.sub('<code class="name">(.*?)</code>', r"\1", found.group())
    return re.sub(r"<svg.*?</svg>|<[^>]*>", " ", text, flags=re.DOTALL)


def test_sections_stand_in_order(page: Path) -> None:
    assert tuple(re.findall(r'<section id="(\w+)"', page.read_text())) == ANCHORS


def test_every_link_has_its_target(page: Path) -> None:
    text = page.read_text()
    links = set(re.findall(r'(?:xlink:)?href="#([^"]+)"', text))
    assert links
    assert links <= set(re.findall(r'\bid="([^"]+)"', text))


def test_no_id_occurs_twice(page: Path) -> None:
    found = re.findall(r'\bid="([^"]+)"', page.read_text())
    assert len(found) == len(set(found))


def test_nothing_is_nan_or_empty(page: Path) -> None:
    text = re.sub(r"<(svg|head).*?</\1>", "", page.read_text(), flags=re.DOTALL)
    assert not re.search(r"\b(nan|NaN|None|NaT|inf)\b", text)
    assert not re.search(r"<tbody>\s*</tbody>|<p>\s*</p>|<figcaption>\s*</", text)


def test_nothing_is_fetched(page: Path) -> None:
    text = re.sub(r'xmlns(:\w+)?="[^"]*"|<!DOCTYPE[^>]*>', "", page.read_text())
    assert not re.search(r'(?:src|href|url\()\s*=?\s*["\'(]?\s*(?:https?:)?//', text)


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


def test_csv_has_full_precision(demo: Path, page: Path) -> None:
    contrasts = pd.read_csv(page.parent / "tables" / "contrasts.csv").set_index("name")
    expected = analyse(demo, QUICK)["final_accuracy_projection"]
    assert contrasts.loc["final_accuracy_projection", "estimate"] == pytest.approx(
        expected.value,  # type: ignore[union-attr]
        rel=1e-15,  # what a decimal text of a double keeps
    )


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


def test_two_seeds_are_too_few_and_say_so(tmp_path: Path) -> None:
    page = write_report(make_run(tmp_path / "run", n_seeds=2), QUICK)
    test_nothing_is_nan_or_empty(page)
    assert "a mixed model needs at least 3" in section(page, "mixed")
    assert "too few seeds" in section(page, "study")


def test_names_are_shown_and_not_run(evil_page: Path) -> None:
    text = evil_page.read_text()
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert r"\_" in (evil_page.parent / "tables" / "contrasts.tex").read_text()


CLUMSY = (
    r"\b1 (percentage )?points\b|\b1 (seeds|arms|steps|replicates|conditions|estimates)\b"
    r"|\ban arm a panel\b|\ba seed a row\b|\[[−-]?(inf|∞)|(inf|∞)\]|\bof of\b|\bthe the\b"
    r"|\(\)| ,|\.\."
)


@pytest.mark.parametrize("n_seeds", [1, 2, 3, 5])
@pytest.mark.parametrize("odd", ["one arm", "no effect", "nothing acquired", "one diverged"])
def test_no_wording_is_clumsy(n_seeds: int, odd: str, tmp_path: Path) -> None:
    def spoil(tables: Mapping[str, pd.DataFrame]) -> None:
        rows = tables["replicates"]
        if odd == "nothing acquired":
            rows["final_accuracy"] = rows["initial_accuracy"] + 0.001 * (rows["seed"] - 1)
        elif odd == "one diverged" and n_seeds > 1:
            last = rows["seed"] == rows["seed"].max()
            rows.loc[last, ["status", "reason"]] = ["diverged", "the loss became infinite"]

    arms = {"baseline": ArmTruth()}
    if odd != "one arm":
        arms |= {"projection": ArmTruth(accuracy=-0.01), "shuffled": ArmTruth()}
    run = make_run(tmp_path / "run", n_seeds=n_seeds, n_steps=20, arms=arms, spoil=spoil)
    material = material_of(run)
    sections = [section_of(material, anchor) for anchor in BODY]
    text = re.sub(r"<style.*?</style>|<pre>.*?</pre>", "", " ".join(sections), flags=re.DOTALL)
    text = f"{brief(material)} {answer_of(material)} {re.sub('<[^>]*>', ' ', text)}"
    assert not [text[m.start() - 40 : m.end() + 20] for m in re.finditer(CLUMSY, text)]


def test_figures_and_tables_are_numbered_with_links_to_their_files(page: Path) -> None:
    text = page.read_text()
    for kind, folder in (("Figure", "figures"), ("Table", "tables")):
        numbers = [int(n) for n in re.findall(rf"(?:<b>|<summary>){kind} (\d+)\.", text)]
        assert numbers == [*range(1, len(numbers) + 1)]
        links = re.findall(rf'<a href="({folder}/[^"]+)">', text)
        assert len(links) == 2 * len(numbers) > 4
        assert all((page.parent / link).is_file() for link in links)


def test_fonts_are_embedded_as_truetype_and_have_fallbacks(page: Path) -> None:
    pdf = (page.parent / "figures" / "final_accuracy.pdf").read_bytes()
    assert b"/CIDFontType2" in pdf
    assert b"/Type3" not in pdf
    svg = (page.parent / "figures" / "final_accuracy.svg").read_text()
    assert "'DejaVu Sans', Verdana, Arial, sans-serif" in svg


def test_axes_give_units_in_words(page: Path) -> None:
    assert not re.search(r">[^<>]* \(1\)</text>", page.read_text())


def test_tables_of_means_hold_intervals_and_methods(page: Path) -> None:
    arms = pd.read_csv(page.parent / "tables" / "arms.csv")
    assert {"arm", "complete", "estimate", "conf_low", "conf_high", "method"} <= {*arms}
    assert arms["conf_low"].notna().all()


def test_latex_tables_are_as_wide_as_the_text(page: Path) -> None:
    for path in (page.parent / "tables").glob("*.tex"):
        shares = [float(x) for x in re.findall(r"\\dimexpr ([\d.]+)\\linewidth", path.read_text())]
        assert sum(shares) == pytest.approx(1, abs=1e-3), path.name
        assert path.read_text().count(r"\begin{longtable}") == 1
    noted = (page.parent / "tables" / "results.tex").read_text()
    assert r"\noindent a: " in noted


def test_names_of_arms_are_set_apart(page: Path) -> None:
    text = page.read_text()
    assert '<code class="name">projection</code> ' in text
    assert "\ue000" not in text
    assert r"\texttt{projection}" in (page.parent / "tables" / "contrasts.tex").read_text()
    assert "\ue000" not in (page.parent / "tables" / "study.csv").read_text()


def test_hidden_characters_of_names_are_spelt_out(tmp_path: Path) -> None:
    arms = {"baseline": ArmTruth(), "projection": ArmTruth(), "wiped\u202egpj": ArmTruth()}
    page = write_report(make_run(tmp_path / "run", n_seeds=3, arms=arms), QUICK)
    for path in (page, page.parent / "figures" / "final_accuracy.svg"):
        assert not HIDDEN.search(path.read_text())
        assert r"wiped\u202egpj" in path.read_text()


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


def test_a_run_against_itself_is_refused(demo: Path) -> None:
    with pytest.raises(RequestError, match="another run"):
        compare_reports(demo, demo)


def test_runs_of_one_definition_are_paired(tmp_path: Path, quick: Plan) -> None:
    runs = [make_run(tmp_path / name, n_seeds=8) for name in ("fp32", "bf16")]
    for run in runs:
        change_manifest(run, definition={"name": "x", "precision": run.name}, precision=run.name)
    page = compare_reports(*runs, quick)
    assert "differences are taken seed by seed" in section(page, "study")
    table = pd.read_csv(page.parent / "tables" / "differences.csv").set_index("name")
    assert table.loc["difference_final_accuracy_baseline", "estimate"] == 0
    assert "figures of the two runs are equivalent" in section(page, "answer")
    assert "not shown" not in section(page, "agreement")
    assert "margin 2 percentage points" in section(page, "agreement")
    margins = "2 percentage points for final_accuracy, 0.001 for mean_cos_gradient"
    assert margins in section(page, "agreement")
    said = section(page, "answer")
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
    assert "over the 6 seeds that both have" in section(page, "study")
    assert "means over seeds (8 in bf16 and 6 in fp32)" in section(page, "curves")


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
    text = section(page, "estimates")
    assert text.count(" points [") == 2
    assert text.count("] (90 %)") == 2
    assert "intervals of 95 % where no other level stands" in text
    assert re.search("paired TOST, [a-z-]+, 8 ", text)
    assert re.search("paired TOST, [a-z-]+, 5 ", text)


def test_an_arm_that_is_another_intervention_is_no_rounding(tmp_path: Path, quick: Plan) -> None:
    runs = [make_run(tmp_path / name, n_seeds=4) for name in ("one", "half")]
    for run, strength in zip(runs, (1.0, 0.5), strict=True):
        arms = {"baseline": {"0": {}}, "projection": {"0.strength": strength}}
        change_manifest(run, definition={"name": "x"}, arms=arms)
    page = compare_reports(*runs, quick)
    assert "defined differently: projection." in section(page, "study")
    names = set(pd.read_csv(page.parent / "tables" / "agreement.csv")["name"])
    assert "agreement_effect_shuffled - baseline" in names
    assert not any("projection" in name for name in names)


def test_other_studies_are_compared_by_welch(demo: Path, tmp_path: Path, quick: Plan) -> None:
    other = make_run(tmp_path / "other", n_seeds=5, accuracy=0.6)
    page = compare_reports(demo, other, quick, out=tmp_path / "page")
    assert "seeds are treated as independent" in section(page, "study")
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
    text = section(compare_reports(written, copy, out=tmp_path / "page"), "estimates")
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
