"""The simulated tables have the study's shape, its identities, and the truth they claim."""

import numpy as np
import pytest

from sublim_causal.analysis.simulation.tables import ArmTruth, Truth, simulate, write_run
from sublim_causal.errors import RequestError
from sublim_causal.store.manifest import read_manifest
from sublim_causal.store.schema import TABLES
from sublim_causal.store.tables import read_table

SEQUENCES_SINCE = 4
"""Version of the tables that first has the columns of sequences."""


@pytest.fixture(scope="module")
def plain():
    return simulate(Truth(n_seeds=200, n_steps=60, steps_per_epoch=12), rng=1)


@pytest.mark.parametrize("name", ["steps", "evaluations", "replicates"])
def test_tables_have_the_columns_of_the_schema(plain, name):
    table = plain.tables[name]
    assert list(table.columns) == [column.name for column in TABLES[name]]
    # Neither an attack nor another task is simulated.
    simulated = [
        column.name
        for column in TABLES[name]
        if not column.name.endswith("robust_accuracy") and column.since < SEQUENCES_SINCE
    ]
    assert table[simulated].notna().all(axis=None)


def test_steps_keep_the_identities_of_the_record(plain):
    steps = plain.tables["steps"]
    np.testing.assert_allclose(steps["gain"], steps["drive"] + steps["remainder"], atol=1e-15)
    loss = steps["trait_loss"].to_numpy().reshape(-1, 60)
    gain = steps["gain"].to_numpy().reshape(-1, 60)
    np.testing.assert_allclose(loss[:, 1:], loss[:, :-1] - gain[:, :-1], atol=1e-12)
    assert set(steps["epoch"]) == set(range(5))


def test_arm_effect_is_the_declared_one(plain):
    final = plain.tables["replicates"].pivot(index="seed", columns="arm", values="final_accuracy")
    d = final["projection"] - final["baseline"]
    assert d.mean() == pytest.approx(plain.effect("projection"), abs=4 * d.std() / np.sqrt(200))
    assert d.std() == pytest.approx(np.sqrt(2) * plain.truth.accuracy_sd, rel=0.25)


def within(steps, x, y):
    centred = steps[[x, y]] - steps.groupby(["seed", "arm"])[[x, y]].transform("mean")
    return (centred[x] * centred[y]).sum() / (centred[x] ** 2).sum()


def test_slope_is_the_declared_one(plain):
    se = plain.truth.slope_sd / np.sqrt(200)
    slope = within(plain.tables["steps"], "cos_gradient", "gain")
    assert slope == pytest.approx(plain.truth.slope, abs=5 * se)


def test_measurement_noise_has_the_declared_reliability():
    steps = simulate(Truth(reliability=0.5, n_steps=100)).tables["steps"]
    centred = steps - steps.groupby(["seed", "arm"]).transform("mean", numeric_only=True)
    found = centred["cos_half_a"].corr(centred["cos_half_b"])
    assert found == pytest.approx(0.5, abs=0.03)  # 12,000 pairs: se 0.007


def test_skewness_and_unequal_noise_are_there():
    arms = {"baseline": ArmTruth(), "noisy": ArmTruth(noise=4.0)}
    truth = Truth(n_seeds=4000, n_steps=1, arms=arms, skewed=True, accuracy_seed_sd=0.0)
    final = (
        simulate(truth)
        .tables["replicates"]
        .pivot(index="seed", columns="arm", values="final_accuracy")
    )
    assert final["noisy"].std() / final["baseline"].std() == pytest.approx(4, rel=0.1)
    assert final["noisy"].skew() == pytest.approx(2, abs=0.4)


def test_autocorrelation_is_the_declared_one():
    truth = Truth(n_seeds=20, n_steps=400, ar_alignment=0.6, alignment_cell_sd=0.0)
    x = simulate(truth).tables["steps"]["cos_gradient"].to_numpy().reshape(-1, 400)
    x = x - x.mean(axis=1, keepdims=True)
    assert (x[:, 1:] * x[:, :-1]).mean() / (x**2).mean() == pytest.approx(0.6, abs=0.03)


def test_feedback_makes_alignment_fall():
    steps = simulate(Truth(feedback=0.1, slope=0.5, n_steps=100)).tables["steps"]
    base = steps[steps["arm"] == "baseline"].groupby("step")["cos_gradient"].mean()
    assert base.tail(20).mean() < base.head(20).mean() - 0.02


def test_what_is_missing_is_missing():
    truth = Truth(missing_steps=0.1, missing_runs=0.1, diverged_runs=0.1, n_seeds=200, n_steps=30)
    tables = simulate(truth).tables
    replicates = tables["replicates"]
    assert 0.85 < len(replicates) / 800 < 0.95
    diverged = replicates[replicates["status"] == "diverged"]
    assert diverged["final_accuracy"].isna().all()
    assert (diverged["reason"] != "").all()
    rows = tables["steps"].groupby(["seed", "arm"]).size()
    assert rows.max() <= 30
    assert rows.loc[list(zip(diverged["seed"], diverged["arm"], strict=True))].max() <= 10


def test_the_same_rng_gives_the_same_tables():
    one, two = (simulate(Truth(n_seeds=3, n_steps=5), rng=4).tables for _ in range(2))
    for name in one:
        assert one[name].equals(two[name])


def test_a_written_run_reads_back(tmp_path):
    simulated = simulate(Truth(n_seeds=7, n_steps=10, steps_per_epoch=2))
    run = write_run(tmp_path / "simulated", simulated, block_seeds=3)
    assert read_manifest(run)["name"] == "simulated"
    for name, table in simulated.tables.items():
        keys = [key for key in ("seed", "arm", "step") if key in table]
        read = read_table(run, name).sort_values(keys).reset_index(drop=True)
        assert len(read) == len(table)
        numbers = [column for column in table if column not in ("arm", "status", "reason")]
        np.testing.assert_array_equal(read[numbers].to_numpy(), table[numbers].to_numpy())


@pytest.mark.parametrize(
    ("name", "value"),
    [("n_seeds", 0), ("ar_gain", 1.0), ("missing_steps", 1.0), ("gain_sd", -1), ("reliability", 0)],
)
def test_impossible_truths_are_refused(name, value):
    with pytest.raises(RequestError, match=name):
        Truth(**{name: value})
