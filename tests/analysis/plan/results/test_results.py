"""Results as JSON, frame and table, written and read back."""

from __future__ import annotations

import json
import re

import pytest

from sublim_causal.analysis.estimates.types import Estimate
from sublim_causal.analysis.plan.claims.rules import Claim
from sublim_causal.analysis.plan.results.stored import read_results
from sublim_causal.analysis.plan.run import analyse
from sublim_causal.analysis.simulation.tables import Truth, simulate, write_run


def test_json_is_strict_and_carries_what_a_reader_needs(results, plan):
    document = json.loads(results.to_json(), parse_constant=pytest.fail)
    assert document["schema"] == "sublim_causal.results/3"
    assert document["plan_digest"] == plan.digest
    assert document["n_seeds"] == 10
    first = document["results"][0]
    assert first["plan_digest"] == plan.digest
    about = ("declared", "arm", "reference", "column", "unit")
    assert [first[name] for name in about] == [
        "effect",
        "projection",
        "baseline",
        "final_accuracy",
        "difference of fractions",
    ]
    assert {"method", "n_seeds", "conf_low", "conf_high", "level", "sentence"} <= set(first)
    assert "diagnostics" in first
    assert document["results"][3]["status"] == "not estimable"


def test_the_frame_has_a_row_a_result(results, plan):
    frame = results.frame
    assert len(frame) == len(results.results)
    assert set(frame["plan_digest"]) == {plan.digest}
    assert frame["name"].is_unique


def test_the_table_shows_results_notes_and_digest(results, plan):
    text = results.table()
    assert plan.digest in text
    assert "effect_projection" in text
    assert "(90 %)" in text
    assert "- the run has no arm 'yoked'" in text
    assert max(len(line) for line in text.split("\nnotes")[0].splitlines()) < 140


@pytest.mark.parametrize("width", [80, 100])
def test_a_narrow_table_holds_the_numbers_of_a_wide_one(results, width):
    def lines_of(text):
        return text.partition("\nnotes")[0].splitlines()[2:]

    narrow, wide = lines_of(results.table(width=width)), lines_of(results.table())
    assert max(map(len, narrow)) <= width
    numbers = re.findall(r"-?\d+\.\d+", "\n".join(wide))
    assert len(numbers) > 3 * len(results.results)
    assert all(number in "\n".join(narrow) for number in numbers)
    for heading in ("estimand", "estimate", "95 % interval", "p adj.", "method", "seeds"):
        assert heading in "\n".join(narrow)


def test_results_are_written_whole(results, tmp_path):
    path = results.write(tmp_path / "report" / "results.json")
    assert json.loads(path.read_text())["run"] == "small"


def test_results_are_read_back_as_written(results, tmp_path):
    again = read_results(results.write(tmp_path / "results.json"))
    assert again.plan_digest == results.plan_digest
    for one, other in zip(again.results, results.results, strict=True):
        assert one.estimand == other.estimand
        if isinstance(other, Estimate):
            assert (one.low, one.high, one.warnings) == (other.low, other.high, other.warnings)
        else:
            assert one.reason == other.reason


def test_verdicts_are_read_back_as_written(run, plan, tmp_path):
    claim = {
        "name": "lowers",
        "sentence": "Projection lowers the accuracy, and yoking does.",
        "condition": [
            {"estimand": "effect_projection", "holds": "high < 0", "fails": "low > 0"},
            {"estimand": "effect_yoked", "holds": "high < 0", "fails": "low > 0"},
        ],
    }
    claims = (Claim.model_validate(claim),)
    results = analyse(run, plan.model_copy(update={"claims": claims}))
    again = read_results(results.write(tmp_path / "results.json"))
    assert len(results.verdicts) == 1
    assert again.to_json() == results.to_json()
    assert again.table() == results.table()


def test_results_show_themselves_in_short(results):
    assert len(repr(results)) < 200
    assert "estimated" in repr(results)
    assert len(repr(results["effect_projection"])) < 300
    html = results._repr_html_()
    assert "<td>effect_projection</td>" in html
    assert len(html) < 600 * len(results.results)


def test_infinite_limits_stay_readable(plan, tmp_path):
    few = write_run(tmp_path / "few", simulate(Truth(n_seeds=3, n_steps=10)))
    wide = plan.estimands[0].model_copy(update={"interval": "bootstrap-t"})
    found = analyse(few, plan.model_copy(update={"estimands": (wide,)}))
    first = json.loads(found.to_json())["results"][0]
    assert (first["conf_low"], first["conf_high"]) == ("-inf", "inf")
