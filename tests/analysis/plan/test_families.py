"""Families of estimands, their adjustment, and the roles of estimands."""

from __future__ import annotations

import pytest

from sublim_causal.analysis.plan.file import parse_plan
from sublim_causal.analysis.plan.results.stored import read_results
from sublim_causal.analysis.plan.run import analyse


def test_a_family_is_adjusted_and_the_rest_is_not(results):
    for arm in ("projection", "liminal", "shuffled"):
        kept = results[f"effect_{arm}"].diagnostics
        assert kept["adjustment"] == "sign_flip"
        assert 0 < kept["p_adjusted"] <= 1
    assert "p_adjusted" not in results["same"].diagnostics


def test_holm_is_used_where_the_plan_says_so(run, plan):
    held = analyse(run, plan.model_copy(update={"families": {"arms": "holm"}}))
    p = sorted(held[f"effect_{a}"].p_value for a in ("projection", "liminal", "shuffled"))
    adjusted = [held[f"effect_{a}"].diagnostics["p_adjusted"] for a in ("projection",)]
    assert adjusted[0] == pytest.approx(3 * p[0])


@pytest.fixture(scope="module")
def roles(run):
    """Results of a plan with a gate that closes, a family, and an exploratory row."""
    sentence = "Some quantity, in one sentence."
    effect = {"sentence": sentence, "method": "paired_contrast", "outcome": "final_accuracy"}
    gate = {"role": "primary", "family": "gate", **effect}
    entries = [
        {"name": "first", "contrast": "projection - baseline", **gate},
        {"name": "second", "contrast": "shuffled - baseline", **gate},
        {"name": "third", "contrast": "liminal - baseline", **gate},
        {"name": "arms", "contrast": "each - baseline", "family": "arms", **effect},
        {"name": "aside", "contrast": "liminal - shuffled", "role": "exploratory", **effect},
    ]
    families = {"gate": "gate", "arms": "sign_flip"}
    return analyse(run, parse_plan({"name": "mine", "families": families, "estimand": entries}))


def test_a_gate_adjusts_by_the_largest_p_so_far(roles):
    p = [roles[name].p_value for name in ("first", "second", "third")]
    adjusted = [roles[n].diagnostics["p_adjusted"] for n in ("first", "second", "third")]
    assert adjusted == [p[0], max(p[:2]), max(p)]
    assert p[2] < p[1]


def test_members_on_a_par_have_simultaneous_intervals(roles):
    one = roles["arms_projection"]
    assert one.simultaneous["method"] == "max-t by sign flips"
    assert one.simultaneous["low"] < one.low < one.high < one.simultaneous["high"]
    assert one.beside_adjusted().high == one.simultaneous["high"]
    assert roles["first"].simultaneous is None
    assert roles["first"].beside_adjusted() is roles["first"]


def test_exploratory_rows_carry_an_interval_and_no_p(roles, tmp_path):
    assert roles["aside"].p_value is None
    assert roles["aside"].low < roles["aside"].high
    again = read_results(roles.write(tmp_path / "results.json"))
    assert again["aside"].estimand.role == "exploratory"


def test_the_table_leaves_exploratory_rows_to_all(roles):
    text, everything = roles.table(), roles.table(everything=True)
    assert "aside" not in text
    assert "1 exploratory results are not shown (--all)" in text
    assert "aside" in everything
    assert "not shown" not in everything
    lines = text.splitlines()
    assert lines.index("primary") < lines.index("secondary")
    assert "sim.: simultaneous over its family (max-t by sign flips)" in lines
