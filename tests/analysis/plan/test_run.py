"""A plan on a run gives every declared estimand a result, the same one each time."""

import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from sublim_causal.analysis.estimates.types import Estimate, NotEstimable
from sublim_causal.analysis.mixed.fit import fit_mixed
from sublim_causal.analysis.plan.claims.rules import Claim
from sublim_causal.analysis.plan.file import load_plan, parse_plan
from sublim_causal.analysis.plan.methods.summaries import per_seed_summary
from sublim_causal.analysis.plan.record import read_record
from sublim_causal.analysis.plan.results.stored import read_results
from sublim_causal.analysis.plan.run import _estimate, analyse
from sublim_causal.analysis.simulation.tables import ArmTruth, Truth, simulate, write_run
from sublim_causal.errors import RequestError, RunError
from tests.analysis.small import make_record

TRUTH = Truth(n_seeds=10, n_steps=40, steps_per_epoch=10, reliability=0.6, diverged_runs=0.05)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("runs") / "small", simulate(TRUTH, rng=8))


@pytest.fixture(scope="module")
def plan():
    sentence = "Some quantity, in one sentence."
    effect = {"method": "paired_contrast", "outcome": "final_accuracy"}
    entries = [
        {"name": "effect", "contrast": "each - baseline", "family": "arms", **effect},
        {"name": "absent", "contrast": "yoked - baseline", **effect},
        {
            **effect,
            "name": "same",
            "method": "equivalence",
            "contrast": "shuffled - baseline",
            "margin": 0.5,
        },
        {
            "name": "aligned",
            "method": "seed_summary",
            "outcome": "cos_gradient",
            "summary": "share_positive",
            "window": "early - late",
            "arm": "baseline",
        },
        {"name": "reliability", "method": "reliability"},
        {"name": "slope", "method": "corrected_slope", "outcome": "gain"},
    ]
    return parse_plan(
        {
            "name": "small",
            "families": {"arms": "sign_flip"},
            "estimand": [{"sentence": sentence, **entry} for entry in entries],
        }
    )


@pytest.fixture(scope="module")
def results(run, plan):
    return analyse(run, plan)


def test_every_declared_estimand_has_its_results(results):
    assert [one.estimand.name for one in results.results] == [
        "effect_projection",
        "effect_liminal",
        "effect_shuffled",
        "absent",
        "same",
        "aligned",
        *(f"reliability_{arm}" for arm in TRUTH.arms),
        "slope_plain",
        "slope_corrected",
    ]
    assert results["effect_projection"].low < -0.35 < results["effect_projection"].high
    assert results["same"].diagnostics["equivalent"]
    assert results["same"].level == pytest.approx(0.9)
    assert results["slope_corrected"].value > results["slope_plain"].value


def test_a_share_is_held_against_one_half(run, plan):
    share = plan.estimands[3].model_copy(update={"window": "all"})
    found = analyse(run, plan.model_copy(update={"estimands": (share,)}))["aligned"]
    values = per_seed_summary(
        read_record(run, ["cos_gradient", "epoch"]).steps.query("arm == 'baseline'"),
        "cos_gradient",
        "share_positive",
        "all",
    )
    assert found.diagnostics["null"] == 0.5
    mean = values.mean()
    t = np.log(mean / (1 - mean)) / (stats.sem(values) / (mean * (1 - mean)))
    assert found.p_value == pytest.approx(2 * stats.t.sf(abs(t), len(values) - 1), rel=1e-9)


def test_a_formula_of_ones_own_is_fitted(run):
    entry = {"method": "mixed_model", "sentence": "A contrast of a model's coefficients."}
    entries = [
        {
            **entry,
            "name": "slope",
            "formula": "gain ~ arm + cos_update + (1 + cos_update | seed) + (1 | seed:arm)",
            "contrast": "cos_update",
        },
        {
            **entry,
            "name": "pooled_contrast",
            "table": "replicates",
            "formula": "final_accuracy ~ arm + (1 | seed)",
            "contrast": "arm[T.projection]",
        },
    ]
    found = analyse(run, parse_plan({"name": "own", "estimand": entries}))
    assert found["slope"].value == pytest.approx(0.08 / 6, rel=0.6)
    assert found["pooled_contrast"].low < -0.35 < found["pooled_contrast"].high
    assert found["pooled_contrast"].n_seeds == 10


def test_kenward_roger_is_asked_for_by_a_field(run):
    entry = {
        "name": "slope",
        "sentence": "Slope of the gain on alignment.",
        "method": "mixed_model",
        "formula": "gain ~ arm + cos_update + (1 + cos_update | seed) + (1 | seed:arm)",
        "contrast": "cos_update",
        "interval": "t",
        "df": "kenward-roger",
    }
    found = analyse(run, parse_plan({"name": "own", "estimand": [entry]}))["slope"]
    fit = fit_mixed(
        read_record(run, ["gain", "cos_update"]).steps, entry["formula"], df=entry["df"]
    )
    row = fit.contrast("cos_update").iloc[0]
    assert found.method == "mixed model, Kenward-Roger"
    assert (found.value, found.se, found.df, found.low) == tuple(
        row[["estimate", "se", "df", "low"]]
    )
    with pytest.raises(RequestError, match="cr2"):
        parse_plan({"name": "own", "estimand": [{**entry, "residual": "ar1"}]})
    with pytest.raises(RequestError, match=r"estimand\[0\]\.df"):
        parse_plan({"name": "own", "estimand": [{**entry, "df": "satterthwaite"}]})


HOSTILE = (
    "[np.exp('touch HOSTILE') for np.exp in [np.lib._utils_impl.os.system]] and "
    "[0 for np.exp in [np._core.umath.exp]] and gain ~ cos_update + (1 | seed)"
)


@pytest.mark.parametrize(
    ("formula", "contrast", "wrong"),
    [
        (HOSTILE, "cos_update", "'['"),
        ("gain ~ nothing + (1 | seed)", "nothing", "'nothing'"),
        ("gain ~ cos_update + (1 | seed", "cos_update", "'('"),
        ("gain ~ cos_update + (1 | seed)", "__import__('os')", "\"__import__('os')\""),
    ],
)
def test_a_wrong_formula_costs_its_own_estimand(
    run, tmp_path, monkeypatch, formula, contrast, wrong
):
    monkeypatch.chdir(tmp_path)
    entry = {"sentence": "A slope of the gain.", "method": "mixed_model"}
    right = {"formula": "gain ~ cos_update + (1 | seed)", "contrast": "cos_update"}
    entries = [
        {**entry, "name": "wrong", "formula": formula, "contrast": contrast},
        {**entry, "name": "right", **right},
    ]
    found = analyse(run, parse_plan({"name": "own", "estimand": entries}))
    assert f"estimand wrong: {'contrast' if formula == right['formula'] else 'formula'}" in (
        found["wrong"].reason
    )
    assert f"{wrong} is not allowed" in found["wrong"].reason
    assert "^" in found["wrong"].reason
    assert isinstance(found["right"], Estimate)
    assert not list(tmp_path.iterdir())


def test_an_arm_that_was_not_run_costs_one_estimand(run):
    """A coefficient or a reference level of that arm is right in another run of the study."""
    entry = {"method": "mixed_model", "sentence": "A contrast of a model's coefficients."}
    formula = "gain ~ arm + cos_update + (1 | seed)"
    relative = "gain ~ C(arm, 'yoked') + cos_update + (1 | seed)"
    entries = [
        {**entry, "name": "absent", "formula": formula, "contrast": "arm[T.yoked]"},
        {**entry, "name": "relative", "formula": relative, "contrast": "cos_update"},
        {**entry, "name": "present", "formula": formula, "contrast": "arm[T.liminal]"},
    ]
    found = analyse(run, parse_plan({"name": "own", "estimand": entries}))
    assert "'arm[T.yoked]' is not allowed" in found["absent"].reason
    assert "'yoked' is not allowed" in found["relative"].reason
    assert isinstance(found["present"], Estimate)


def test_the_primary_plan_says_something_of_everything(run):
    plan = load_plan("primary")
    found = analyse(run, plan)
    names = [result.estimand.name for result in found.results]
    for one in plan.estimands:
        assert any(name == one.name or name.startswith(f"{one.name}_") for name in names)
    assert all(isinstance(result, Estimate) for result in found.results)
    assert found["gain_on_cos_gradient"].diagnostics["adjustment"] == "gate"
    assert found["accuracy_gain_on_cos_gradient"].diagnostics["adjustment"] == "holm"
    assert found["final_accuracy_projection"].diagnostics["adjustment"] == "sign_flip"


def test_a_run_of_one_arm_is_analysed_as_far_as_it_goes(tmp_path):
    alone = Truth(n_seeds=8, n_steps=20, arms={"baseline": ArmTruth()})
    found = analyse(write_run(tmp_path / "alone", simulate(alone)), "primary")
    assert isinstance(found["gain_on_cos_gradient"], Estimate)
    assert "no arm 'shuffled'" in found["shuffled_equals_baseline"].reason
    assert "does not vary" in found["gain_on_cos_gradient_level_between_arms"].reason


def test_the_interval_of_a_share_stays_inside_zero_and_one(plan, tmp_path):
    simulated = simulate(Truth(n_seeds=8, n_steps=6, alignment=0.12))
    run = write_run(tmp_path / "aligned", simulated)
    share = plan.estimands[3].model_copy(update={"window": "all"})
    found = analyse(run, plan.model_copy(update={"estimands": (share,)}))["aligned"]
    assert found.value > 0.95
    assert found.high == 1.0


def test_what_was_not_run_says_so(results):
    absent = results["absent"]
    assert isinstance(absent, NotEstimable)
    assert "no arm 'yoked'; it has 'baseline', 'projection'" in absent.reason
    with pytest.raises(KeyError, match="effect_projection"):
        results["nothing"]


def test_diverged_replicates_are_counted_and_left_out(results):
    assert results.statuses == {"complete": 37, "diverged: the loss became infinite": 3}
    effect = results["effect_projection"]
    dropped = effect.diagnostics["dropped"]
    assert effect.n_seeds + effect.n_dropped == 10
    assert sum(dropped.values()) == effect.n_dropped > 0
    assert all(reason.endswith("diverged") for reason in dropped)


def test_every_method_counts_diverged_seeds_as_dropped(run):
    record = read_record(run)
    status = record.replicates.pivot(index="seed", columns="arm", values="status")
    lost = status.ne("complete")
    found = analyse(run, "causal")
    estimates = [one for one in found.results if isinstance(one, Estimate)]
    assert {one.n_seeds + one.n_dropped for one in estimates} == {10}
    for arm in TRUTH.arms:
        assert found[f"explained_{arm}"].n_dropped == lost[arm].sum()
    pairs = (lost["baseline"] | lost["projection"]).sum()
    assert pairs > 0
    for name in ("final_accuracy", "ledger_gain", "factors_cosine"):
        assert found[f"{name}_projection"].n_dropped == pairs


@pytest.mark.parametrize(
    ("method", "kept", "lost"),
    [
        ("ledger_difference", "x_gain_half", "x_whole"),
        ("drive_factors", "x_drive_half", "x_whole"),
        ("mediation_sensitivity", "x_half", "x_whole"),
        ("explained_share", "x_half", "x_whole"),
    ],
)
def test_an_arm_that_always_diverged_leaves_the_others(method, kept, lost):
    record = make_record(["baseline", "half", "whole"])
    status = record.replicates["status"].mask(record.replicates["arm"] == "whole", "diverged")
    steps = record.steps[record.steps["arm"] != "whole"]
    record = replace(record, replicates=record.replicates.assign(status=status), steps=steps)
    entry = {"name": "x", "sentence": "Some quantity, in one sentence.", "method": method}
    contrast = {} if method == "explained_share" else {"contrast": "each - baseline"}
    plan = parse_plan({"name": "own", "estimand": [{**entry, **contrast}]})
    found = {one.estimand.name: one for one in _estimate(record, plan.estimands[0], plan)}
    assert isinstance(found[kept], Estimate)
    assert isinstance(found[lost], NotEstimable)


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


def test_the_same_tables_and_plan_give_the_same_bytes(run, plan, results):
    assert analyse(run, plan).to_json() == results.to_json()


def test_progress_is_told_each_estimand_and_the_end(run, plan):
    said = []
    analyse(run, plan, lambda done, total, name: said.append((done, total, name)))
    assert said[0] == (0, 6, "effect")
    assert said[-1] == (6, 6, "")
    assert len(said) == 7


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


def test_values_that_are_not_finite_make_one_estimand_not_estimable(plan, tmp_path):
    simulated = simulate(Truth(n_seeds=5, n_steps=10))
    simulated.tables["steps"].loc[3, "cos_half_a"] = np.nan
    found = analyse(write_run(tmp_path / "holes", simulated), plan)
    assert isinstance(found["effect_projection"], Estimate)
    assert "1 in cos_half_a" in found["slope"].reason


def test_a_directory_that_is_no_run_is_refused(tmp_path, plan):
    with pytest.raises(RunError, match="not a run directory"):
        analyse(tmp_path, plan)


def test_windows_are_the_first_epoch_and_the_rest():
    steps = pd.DataFrame(
        {"seed": [0, 0, 0, 0, 1], "epoch": [0, 0, 1, 2, 0], "x": [1.0, -1.0, 3.0, 5.0, 2.0]}
    )
    assert per_seed_summary(steps, "x", "mean", "early").to_dict() == {0: 0.0, 1: 2.0}
    assert per_seed_summary(steps, "x", "mean", "late").to_dict() == {0: 4.0}
    assert per_seed_summary(steps, "x", "mean", "early - late").to_dict() == {0: -4.0}
    assert per_seed_summary(steps, "x", "share_positive", "all").to_dict() == {0: 0.75, 1: 1.0}


PLANS, SPOILT = ("primary", "causal", "paper"), ("all runs", "a step", "two arms of one strength")


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        pytest.param(name, spoil, marks=[] if i == j else [pytest.mark.slow])
        for i, name in enumerate(PLANS)
        for j, spoil in enumerate(SPOILT)
    ],
)
def test_no_data_stop_the_other_estimands(name, spoil):
    plan, record = load_plan(name), make_record(layers=True)
    needed = {column for one in plan.estimands for column in one.step_columns()}
    steps = record.steps.assign(**dict.fromkeys(needed - set(record.steps), 0.1))
    if spoil == "a step":
        holes = {c: steps[c].mask(steps.index == 5) for c in needed - {"epoch"}}
        record = replace(record, steps=steps.assign(**holes))
    elif spoil == "all runs":
        lost = record.replicates.assign(status="diverged")
        record = replace(record, replicates=lost, steps=steps[:0], layers=record.layers[:0])
    else:
        again = {**record.interventions, "whole": record.interventions["half"]}
        record = replace(record, steps=steps, interventions=again)
    found = [(one, _estimate(record, one, plan)) for one in plan.estimands]
    assert all(results for _, results in found)
    reasons = [r.reason for _, results in found for r in results if isinstance(r, NotEstimable)]
    expected = {
        "a step": "missing or infinite",
        "all runs": "0 complete seeds",
        "two arms of one strength": "one arm for each strength; the run has 'baseline' 0, 'half'",
    }[spoil]
    if name == "causal":
        assert any(expected in reason for reason in reasons)


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
