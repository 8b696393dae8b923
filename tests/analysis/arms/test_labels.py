"""Seeds and arms of any type, in columns of any name, and differences that are rounding."""

from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from sublim_causal.analysis.arms.contrasts import arm_contrasts, paired_contrast
from sublim_causal.analysis.arms.equivalence import tost
from sublim_causal.analysis.arms.power import pilot
from sublim_causal.analysis.causal.mediation import mediate
from sublim_causal.analysis.causal.two_stage import iv_2sls
from sublim_causal.analysis.estimates.settings import Settings
from sublim_causal.analysis.steps.measurement import corrected_slopes, reliability
from sublim_causal.analysis.steps.slopes import Split, fit_slopes, slope_model
from sublim_causal.errors import DataError, RequestError

SETTINGS = Settings(n_boot=99)
ARMS = ("0", "1", "2")


@pytest.fixture(scope="module")
def runs() -> pd.DataFrame:
    """Ten seeds under arms called 0, 1 and 2, alignment and outcome."""
    rng = np.random.default_rng(0)
    rows = [(seed, arm) for seed in range(10) for arm in ARMS]
    frame = pd.DataFrame(rows, columns=["seed", "arm"])
    m = 0.1 * frame["arm"].astype(int) + 0.01 * rng.normal(size=30)
    return frame.assign(m=m, y=2 * m + 0.05 * rng.normal(size=30))


LABELS = {
    "text seeds": lambda f: f.assign(seed=[f"s{s:02d}" for s in f["seed"]]),
    "string seeds": lambda f: f.assign(seed=[f"s{s:02d}" for s in f["seed"]]).astype(
        {"seed": "string"}
    ),
    "numeric arms": lambda f: f.assign(arm=f["arm"].astype(int)),
    "arms of a category": lambda f: f.assign(arm=f["arm"].astype(int).astype("category")),
    "both": lambda f: f.assign(seed=[f"s{s:02d}" for s in f["seed"]], arm=f["arm"].astype(int)),
}


@pytest.mark.parametrize("label", LABELS)
def test_numeric_arms_and_text_seeds_work_in_every_estimator(
    runs: pd.DataFrame, label: str
) -> None:
    other = LABELS[label](runs)
    for estimate in (
        lambda f: paired_contrast(f, "y", "1", "0", settings=SETTINGS),
        lambda f: tost(f, "y", "1", "0", margin=0.5, settings=SETTINGS),
        lambda f: arm_contrasts(f, "y", ["1", "2"], "0", settings=SETTINGS)[1],
        lambda f: mediate(f, mediator="m", outcome="y", baseline="0", arms=["1"])[0].tnie,
        lambda f: iv_2sls(f, treatment="m", outcome="y", instruments="arms").effect,
    ):
        assert estimate(other).tidy() == estimate(runs).tidy()
    assert pilot(other, "y", "1", "0") == pilot(runs, "y", "1", "0")


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("split", ["pooled", "by_arm", "levels"])
def test_numeric_arms_and_text_seeds_work_in_slopes(
    runs: pd.DataFrame, label: str, split: Split
) -> None:
    rng = np.random.default_rng(0)
    steps = pd.concat([runs.assign(m=runs["m"] + rng.normal(size=30)) for _ in range(6)])
    steps["y"] = steps["m"] + rng.normal(size=len(steps))
    named = steps.assign(arm="a" + steps["arm"])
    found = fit_slopes(slope_model(LABELS[label](steps), "y", "m", split))
    expected = fit_slopes(slope_model(named, "y", "m", split))
    np.testing.assert_allclose(found.params, expected.params, rtol=1e-9)
    np.testing.assert_allclose(found.se, expected.se, rtol=1e-6)


def test_an_arm_may_be_asked_for_by_its_number(runs: pd.DataFrame) -> None:
    numbered = runs.assign(arm=runs["arm"].astype(int))
    expected = paired_contrast(runs, "y", "1", "0", settings=SETTINGS).tidy()
    assert paired_contrast(numbered, "y", 1, 0, settings=SETTINGS).tidy() == expected
    with pytest.raises(RequestError, match="arm: '3'"):
        paired_contrast(numbered, "y", 3, 0)


def test_seed_and_arm_columns_can_be_named(runs: pd.DataFrame) -> None:
    renamed = runs.rename(columns={"seed": "person", "arm": "treatment"})
    names = {"cluster": "person", "arm_column": "treatment"}
    for estimate in (
        lambda f, **n: paired_contrast(f, "y", "1", "0", settings=SETTINGS, **n),
        lambda f, **n: tost(f, "y", "1", "0", margin=0.5, settings=SETTINGS, **n),
        lambda f, **n: arm_contrasts(f, "y", ["1", "2"], "0", settings=SETTINGS, **n)[0],
    ):
        assert estimate(renamed, **names).tidy() == estimate(runs).tidy()
    assert pilot(renamed, "y", "1", "0", **names) == pilot(runs, "y", "1", "0")
    with pytest.raises(RequestError, match="cluster: 'persn'"):
        paired_contrast(renamed, "y", "1", "0", cluster="persn", arm_column="treatment")
    steps = pd.concat([renamed.assign(a=renamed["m"] + d, b=renamed["m"] * d) for d in (1, 2, 3)])
    plain = steps.rename(columns={"person": "seed", "treatment": "arm"})
    options = {"halves": ("a", "b"), "settings": SETTINGS}
    assert reliability(steps, **options, **names) == reliability(plain, **options)
    assert corrected_slopes(steps, "y", **options, **names) == corrected_slopes(
        plain, "y", **options
    )


def test_missing_and_mixed_labels_are_refused(runs: pd.DataFrame) -> None:
    with pytest.raises(DataError, match="3 rows have no seed"):
        paired_contrast(runs.assign(seed=runs["seed"].where(runs["seed"] > 0)), "y", "1", "0")
    mixed = runs.assign(seed=[str(s) if s else s for s in runs["seed"]])
    with pytest.raises(DataError, match="mix numbers and text"):
        paired_contrast(mixed, "y", "1", "0")


@pytest.mark.parametrize("kind", ["float64", "float32"])
@pytest.mark.parametrize("images", [297, 10_000, 3])
def test_every_seed_better_by_one_image_is_no_variation(images: int, kind: str) -> None:
    counts = np.random.default_rng(0).integers(0, images, 9)
    values = np.concatenate([counts, counts + 1]).astype(kind) / np.asarray(images, kind)
    frame = pd.DataFrame({"seed": [*range(9)] * 2, "arm": ["baseline"] * 9 + ["x"] * 9})
    frame["y"] = values.astype(float)
    found = paired_contrast(frame, "y", "x", settings=SETTINGS)
    assert found.p_value is None
    assert found.value == pytest.approx(1 / images, rel=1e-2)
    assert "cohen_dz" not in found.diagnostics
    with pytest.raises(DataError, match="1 distinct"):
        pilot(frame, "y", "x")
    (flipped,) = arm_contrasts(frame, "y", ["x"], settings=SETTINGS)
    assert "p_adjusted" not in flipped.diagnostics
    frame.loc[0, "y"] += 0.1 / images
    assert paired_contrast(frame, "y", "x", settings=SETTINGS).p_value is not None


NUMBERS = {
    "objects": lambda y: y.astype(object),
    "decimals": lambda y: y.map(lambda v: Decimal(repr(v))),
    "nullable": lambda y: y.astype("Float64"),
    "arrow": lambda y: y.astype(pd.ArrowDtype(pa.float64())),
}


@pytest.mark.parametrize("kind", NUMBERS)
@pytest.mark.parametrize("missing", [False, True])
def test_outcomes_of_every_type_are_numbers(runs: pd.DataFrame, kind: str, missing: bool) -> None:
    other = runs.assign(y=NUMBERS[kind](runs["y"]))
    plain = runs.copy()
    if missing:
        plain.loc[0, "y"], other.loc[0, "y"] = np.nan, None
    expected = paired_contrast(plain, "y", "1", "0", settings=SETTINGS)
    assert paired_contrast(other, "y", "1", "0", settings=SETTINGS).tidy() == expected.tidy()
    assert expected.n_dropped == missing


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (pd.date_range("2026-01-01", periods=30), "dates or times"),
        (["0.5"] * 30, "numbers written as text"),
        (["good"] * 30, "labels"),
    ],
)
def test_outcomes_that_are_no_numbers_are_refused(
    runs: pd.DataFrame, values: object, says: str
) -> None:
    other = runs.assign(y=values, a=values, b=runs["m"])
    with pytest.raises(DataError, match=f"column 'y' holds {says}"):
        paired_contrast(other, "y", "1", "0")
    with pytest.raises(DataError, match=f"column 'a' holds {says}"):
        reliability(other, halves=("a", "b"))
