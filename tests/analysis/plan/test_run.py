"""A plan on a run gives every declared estimand a result, the same one each time."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from sublim_causal.analysis.estimates.types import Estimate, NotEstimable
from sublim_causal.analysis.mixed.fit import fit_mixed
from sublim_causal.analysis.plan.file import load_plan, parse_plan
from sublim_causal.analysis.plan.methods.summaries import per_seed_summary
from sublim_causal.analysis.plan.record import read_record
from sublim_causal.analysis.plan.run import _estimate, analyse
from sublim_causal.analysis.simulation.tables import ArmTruth, Truth, simulate, write_run
from sublim_causal.errors import RequestError, RunError
from tests.analysis.plan.conftest import TRUTH
from tests.analysis.small import make_record


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


def test_the_same_tables_and_plan_give_the_same_bytes(run, plan, results):
    assert analyse(run, plan).to_json() == results.to_json()


def test_progress_is_told_each_estimand_and_the_end(run, plan):
    said = []
    analyse(run, plan, lambda done, total, name: said.append((done, total, name)))
    assert said[0] == (0, 6, "effect")
    assert said[-1] == (6, 6, "")
    assert len(said) == 7


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
