"""statsmodels' MixedLM agrees with us, and its failures are seen."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from sublim_causal.analysis.mixed import crosscheck
from sublim_causal.analysis.mixed.crosscheck import check_mixed
from sublim_causal.analysis.mixed.fit import fit_mixed


@pytest.fixture(scope="module")
def data() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    seed, arm, step = (i.ravel() for i in np.indices((10, 3, 15)))
    x = rng.standard_normal(len(seed))
    own = rng.standard_normal((10, 2))
    run = rng.standard_normal((10, 3))
    y = 2 + (1 + 0.5 * own[seed, 0]) * x + own[seed, 1] + 0.7 * run[seed, arm]
    names = np.array(["baseline", "liminal", "shuffled"], dtype=object)[arm]
    noise = rng.standard_normal(len(seed))
    return pd.DataFrame({"seed": seed, "arm": names, "step": step, "x": 3e-3 * x, "y": y + noise})


@pytest.mark.parametrize(
    "formula",
    [
        "y ~ x + (1 | seed)",
        "y ~ arm + x + (1 | seed:arm)",
        "y ~ arm * x + (1 + x | seed) + (1 | seed:arm)",
        "y ~ C(arm, 'liminal') + I(x**2) + (1 + x || seed)",
        "exp(y / 10) ~ 0 + arm + arm:x + (0 + x | seed)",
    ],
)
def test_another_library_agrees(formula: str, data: pd.DataFrame) -> None:
    found = check_mixed(data, formula)
    assert found.agrees, found
    assert found.likelihood == pytest.approx(0, abs=1e-3)


def test_a_wrong_fit_of_ours_is_seen(data: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours is given the fit of other data; it has another maximum."""
    other = data.assign(y=data["y"] + 300 * data["x"])
    monkeypatch.setattr(crosscheck, "fit_mixed", lambda _, formula: fit_mixed(other, formula))
    found = check_mixed(data, "y ~ x + (1 | seed)")
    assert not found.agrees
    assert found.coefficients is not None
    assert found.coefficients > 1


def test_a_search_that_stops_early_is_told_by_its_likelihood(
    data: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    from statsmodels.regression.mixed_linear_model import MixedLM

    fit = MixedLM.fit

    def stopped(self: MixedLM, **options: object) -> object:
        short = {} if "start_params" in options else {"method": ["cg"], "maxiter": 1}
        return fit(self, **(options | short))

    monkeypatch.setattr(MixedLM, "fit", stopped)
    found = check_mixed(data, "y ~ arm * x + (1 + x | seed) + (1 | seed:arm)")
    assert found.verdict == "agrees from our start, not from its own"
    assert "its log-likelihood is lower by" in found.note


@pytest.mark.parametrize(
    ("formula", "options", "reason"),
    [
        ("y ~ x + (1 | seed:arm)", {"residual": "ar1"}, "independent residuals"),
        ("y ~ x + (1 | seed:arm)", {"arm_variances": True}, "independent residuals"),
        ("y ~ x + (1 + x | seed) + (0 + step + I(step**2) | seed)", {}, "one block"),
    ],
)
def test_what_the_other_library_has_not(
    formula: str, options: dict[str, object], reason: str, data: pd.DataFrame
) -> None:
    found = check_mixed(data, formula, **options)  # type: ignore[arg-type]
    assert not found.agrees
    assert reason in found.verdict
