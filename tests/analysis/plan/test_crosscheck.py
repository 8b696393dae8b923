"""Every mixed model and slope of a plan is refitted."""

from __future__ import annotations

from pathlib import Path

import pytest

from sublim_causal.analysis.plan.crosscheck import cross_check, cross_check_table
from sublim_causal.analysis.plan.file import parse_plan
from sublim_causal.analysis.simulation.tables import Truth, simulate, write_run
from tests.analysis.plan.test_file import CONTRAST

SENTENCE = "A quantity, in one sentence."
GAIN = {"outcome": "gain", "predictor": "cos_gradient"}
FITTED = {
    "pooled": {"method": "step_slope", **GAIN},
    "arms": {"method": "step_slope", "split": "by_arm", **GAIN},
    "mixed": {"method": "step_slope", "adjust": "none", **GAIN},
    "level": {"method": "step_slope", "split": "levels", **GAIN},
    "full": {"method": "slope_model", **GAIN},
    "mundlak": {"method": "mundlak"},
    "runs": {
        "method": "mixed_model",
        "table": "replicates",
        "formula": "final_accuracy ~ arm + (1 | seed)",
        "contrast": "arm[T.projection]",
    },
    "serial": {
        "method": "mixed_model",
        "formula": "gain ~ cos_gradient + (1 | seed:arm)",
        "contrast": "cos_gradient",
        "residual": "ar1",
    },
    "wrong": {"method": "mixed_model", "formula": "gain ~", "contrast": "x"},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("run") / "r", simulate(Truth(n_seeds=8, n_steps=20)))


def test_every_fit_of_a_plan_is_checked(run: Path) -> None:
    entries = [{"name": name, "sentence": SENTENCE, **one} for name, one in FITTED.items()]
    found = cross_check(run, parse_plan({"name": "mine", "estimand": [CONTRAST, *entries]}))
    arms = ("baseline", "projection", "liminal", "shuffled")
    names = ["pooled", *(f"arms_{arm}" for arm in arms), *list(FITTED)[2:]]
    assert [one.name for one in found] == names
    by_name = {one.name: one.check for one in found}
    assert all(by_name[name].agrees for name in names if name not in ("serial", "wrong"))
    assert by_name["serial"].verdict.startswith("not refitted")
    assert by_name["wrong"].verdict.startswith("not fitted")
    text = cross_check_table(found)
    assert f"{len(names) - 2} of {len(names)} fits agree" in text


def test_a_plan_without_models_has_nothing_to_check(run: Path) -> None:
    found = cross_check(run, parse_plan({"name": "mine", "estimand": [CONTRAST]}))
    assert found == ()
    assert "declares no mixed model" in cross_check_table(found)
