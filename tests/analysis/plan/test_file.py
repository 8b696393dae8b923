"""Plans are validated, and every mistake is named with the way out."""

import copy
import re
import tomllib
from pathlib import Path

import pytest

from sublim_causal.analysis.plan.file import load_plan, parse_plan, stopping_rule
from sublim_causal.analysis.plan.registry import METHODS
from sublim_causal.declared import list_declared
from sublim_causal.errors import RequestError
from sublim_causal.renames import RENAMED_METHODS

CONTRAST = {
    "name": "effect",
    "sentence": "Mean difference in final accuracy.",
    "method": "paired_contrast",
    "outcome": "final_accuracy",
    "contrast": "projection - baseline",
}


def plan_with(*changes, **top):
    entries = [{**CONTRAST, **change} for change in changes or ({},)]
    return {"name": "mine", "estimand": [copy.deepcopy(e) for e in entries], **top}


def refused(table):
    with pytest.raises(RequestError) as error:
        parse_plan(table)
    return error.value


@pytest.mark.parametrize("name", list_declared("analysis"))
def test_built_in_plans_are_valid(name):
    plan = load_plan(name)
    assert plan.name == name
    assert len({one.name for one in plan.estimands}) == len(plan.estimands)


def test_the_digest_follows_what_is_declared_and_nothing_else():
    digest = parse_plan(plan_with()).digest
    assert len(digest) == 16
    reordered = {"estimand": [dict(reversed(CONTRAST.items()))], "name": "mine"}
    assert parse_plan(reordered).digest == digest
    assert parse_plan(plan_with(level=0.9)).digest != digest
    assert parse_plan(plan_with({"outcome": "final_trait_loss"})).digest != digest


def test_a_plan_is_found_by_path(tmp_path):
    path = tmp_path / "my-plan.toml"
    path.write_text("\n".join(["[[estimand]]", *(f'{k} = "{v}"' for k, v in CONTRAST.items())]))
    assert load_plan(path).name == "my_plan"


def test_an_unknown_method_names_the_nearest():
    error = refused(plan_with({"method": "paired_contrasts"}))
    assert error.field == "estimand[0].method"
    assert "did you mean 'paired_contrast'?" in str(error)
    assert all(method in error.allowed for method in METHODS)


@pytest.mark.parametrize(("old", "new"), RENAMED_METHODS.items())
def test_a_method_of_an_old_name_is_refused_with_the_new_one(old, new):
    error = refused(plan_with({"method": old}))
    assert (error.field, error.allowed) == ("estimand[0].method", new)
    assert new in METHODS


def test_an_unknown_field_names_the_nearest_of_this_method():
    error = refused(plan_with({}, {"name": "b", "outcom": "gain"}))
    assert error.field == "estimand[1].outcom"
    assert "did you mean 'outcome'?" in str(error)
    assert "margin" not in error.allowed


def test_an_unknown_column_names_the_nearest():
    error = refused(plan_with({"outcome": "final_acuracy"}))
    assert error.field == "estimand[0].outcome"
    assert "did you mean 'final_accuracy'?" in str(error)


def test_a_column_of_an_earlier_version_names_the_new_one():
    error = refused(plan_with({"outcome": "reference_accuracy"}))
    assert error.field == "estimand[0].outcome"
    assert "'reference_accuracy' is called 'initial_accuracy' since version 0.2" in str(error)


def test_a_missing_margin_is_named():
    error = refused(plan_with({"method": "equivalence"}))
    assert error.field == "estimand[0].margin"
    assert "required" in str(error)


@pytest.mark.parametrize(
    "change",
    [
        {"contrast": "projection"},
        {"contrast": "a - a"},
        {"contrast": "projection - each"},
        {"name": "Final Accuracy"},
        {"sentence": "short"},
        {"interval": "wald"},
    ],
)
def test_wrong_values_are_refused_where_they_stand(change):
    assert refused(plan_with(change)).field == f"estimand[0].{next(iter(change))}"


def test_an_interval_that_does_not_exist_names_the_nearest():
    assert "did you mean 'bootstrap-t'" in str(refused(plan_with({"interval": "bootstrap"})))


def test_names_are_used_once():
    error = refused(plan_with({}, {}))
    assert (error.field, error.value) == ("estimand.name", "effect")


def test_a_family_must_be_declared():
    error = refused(plan_with({"family": "arm"}, families={"arms": "holm"}))
    assert error.field == "estimand[0].family"
    assert "did you mean 'arms'?" in str(error)


def test_sign_flips_are_for_paired_contrasts():
    change = {"method": "equivalence", "margin": 0.1, "family": "arms"}
    error = refused(plan_with(change, families={"arms": "sign_flip"}))
    assert error.field == "families.arms"


@pytest.mark.parametrize(
    ("top", "field"),
    [
        ({"level": 95}, "level"),
        ({"n_boot": 10}, "n_boot"),
        ({"families": {"a": "bonferroni"}}, "families.a"),
        ({"estimand": []}, "estimands"),
        ({"estimand": {"name": "x"}}, "estimand"),
        ({"estimand": ["x"]}, "estimand[0]"),
        ({"levl": 0.9}, "levl"),
    ],
)
def test_wrong_plans_are_refused_where_they_are_wrong(top, field):
    assert refused({**plan_with(), **top}).field == field


def test_the_documentation_lists_every_method_and_its_fields():
    text = (Path(__file__).parents[3] / "docs" / "plans.md").read_text()
    rows = [line.split("|") for line in text.splitlines() if line.startswith("| `")]
    methods = [row[1].strip(" `") for row in rows]
    assert sorted(methods) == sorted(METHODS)
    for method, row in zip(methods, rows, strict=True):
        named = set(re.findall(r"`(\w+)`", row[3])) - set(METHODS)
        assert named <= set(METHODS[method].declaration.model_fields), method


@pytest.mark.parametrize("block", range(3))
def test_the_examples_of_the_documentation_are_valid(block):
    text = (Path(__file__).parents[3] / "docs" / "plans.md").read_text()
    blocks = [tomllib.loads(one) for one in re.findall(r"```toml\n(.*?)```", text, re.DOTALL)]
    causal = tomllib.loads((Path(__file__).parents[3] / "analysis" / "causal.toml").read_text())
    assert parse_plan(blocks[block] if "estimand" in blocks[block] else {**causal, **blocks[block]})


def test_an_interval_is_refused_where_no_method_would_obey_it():
    share = {"method": "retained_share", "contrast": "projection - baseline", "interval": "t"}
    entry = {"name": "x", "sentence": CONTRAST["sentence"]}
    error = refused({"name": "mine", "estimand": [{**entry, **share}]})
    assert (error.field, error.value) == ("estimand[0].interval", "t")
    assert "no such field; known: name" in error.allowed
    curve = {"method": "dose_trend", "shape": "linear", "interval": "t"}
    error = refused({"name": "mine", "estimand": [{**entry, **curve}]})
    assert error.field == "estimand[0].shape"
    assert "a curve has a band" in error.allowed


@pytest.mark.parametrize("method", METHODS)
def test_the_documentation_says_where_an_interval_can_be_chosen(method):
    text = (Path(__file__).parents[3] / "docs" / "plans.md").read_text()
    (row,) = [line for line in text.splitlines() if line.startswith(f"| `{method}` |")]
    assert ("`interval`" in row) == ("interval" in METHODS[method].declaration.model_fields)


def test_primary_estimands_share_a_family():
    second = {"name": "other", "contrast": "shuffled - baseline", "role": "primary"}
    families = {"gate": "gate", "arms": "holm"}
    first = {"role": "primary", "family": "gate"}
    for family in ("arms", ""):
        error = refused(plan_with(first, second | {"family": family}, families=families))
        assert error.field == "estimand.family"
        assert "one family for all primary estimands" in error.allowed
    assert parse_plan(plan_with(first, second | {"family": "gate"}, families=families))


def test_one_primary_estimand_needs_no_family():
    assert parse_plan(plan_with({"role": "primary"}))


def test_a_gate_is_a_sequence_of_single_results():
    change = {"contrast": "each - baseline", "family": "gate"}
    error = refused(plan_with(change, families={"gate": "gate"}))
    assert error.field == "estimand[0].family"
    assert "'effect' has several" in error.remedy


def test_an_exploratory_estimand_has_no_p_value_to_adjust():
    change = {"role": "exploratory", "family": "arms"}
    error = refused(plan_with(change, families={"arms": "holm"}))
    assert error.field == "estimand[0].family"


STOPPING = {"until": "projection - baseline excludes 0", "at": [4, 8]}


def test_a_rule_of_a_plan_is_part_of_its_digest_and_carries_it():
    plain, plan = (parse_plan({**plan_with(), **more}) for more in ({}, {"stopping": STOPPING}))
    assert plan.digest != plain.digest
    rule = stopping_rule(plan, ["baseline", "projection"], "baseline")
    assert (rule.contrast, rule.looks, rule.plan) == ("projection - baseline", (4, 8), plan.digest)
    changed = parse_plan({**plan_with(), "stopping": {**STOPPING, "at": [4, 9]}})
    other = stopping_rule(changed, ["baseline", "projection"], "baseline")
    assert other.digest != rule.digest


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"until": "liminal - baseline excludes 0"}, "stopping.until"),
        ({"until": "projection - baseline equivalent 0.05"}, "stopping.until"),
        ({"until": "p < 0.05"}, "stopping.until"),
        ({"outcome": "final_trait_loss"}, "stopping.until"),
        ({"at": [8, 4]}, "stopping.at"),
        ({"level": 0.9}, "stopping.level"),
        ({"max_seeds": 6}, "stopping.max_seeds"),
    ],
)
def test_a_rule_about_nothing_that_the_plan_estimates_is_refused(change, field):
    assert refused({**plan_with(), "stopping": {**STOPPING, **change}}).field == field
