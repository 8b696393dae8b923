"""The mixed model against what theory says, and at the edges of what it accepts."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from scipy import stats

from sublim_causal.analysis.mixed import chunks
from sublim_causal.analysis.mixed.chunks import column_kinds
from sublim_causal.analysis.mixed.covariance import group_products
from sublim_causal.analysis.mixed.crossproducts import accumulate
from sublim_causal.analysis.mixed.design import build_design
from sublim_causal.analysis.mixed.fit import fit_mixed
from sublim_causal.analysis.mixed.formula import parse_formula
from sublim_causal.analysis.mixed.parameters import Problem
from sublim_causal.analysis.mixed.reml import evaluate
from sublim_causal.analysis.mixed.result import MixedFit, pooled_df
from sublim_causal.errors import DataError, RequestError

SLOPE = "gain ~ arm + alignment + (1 + alignment | seed) + (1 | seed:arm)"
ARMS = np.array(["baseline", "liminal", "projection"])


def simulate(n_seeds: int = 8, n_steps: int = 12, rng_seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(rng_seed)
    shape = (n_seeds, len(ARMS), n_steps)
    slope = 0.8 + 0.4 * rng.standard_normal((n_seeds, 1, 1))
    alignment = 0.1 + 0.05 * rng.standard_normal(shape)
    gain = slope * alignment + 0.03 * rng.standard_normal((n_seeds, 1, 1))
    gain += 0.02 * rng.standard_normal((*shape[:2], 1)) + 0.04 * rng.standard_normal(shape)
    seed, arm, step = np.indices(shape).reshape(3, -1)
    columns = {"seed": seed, "arm": ARMS[arm], "step": step}
    return pd.DataFrame(columns | {"alignment": alignment.ravel(), "gain": gain.ravel()})


@pytest.fixture(scope="module")
def data() -> pd.DataFrame:
    return simulate()


def gappy(data: pd.DataFrame) -> pd.DataFrame:
    keep = np.random.default_rng(3).random(len(data)) > 0.2
    return data[keep].reset_index(drop=True)


def dense(data: pd.DataFrame, fit: MixedFit) -> dict[str, np.ndarray | float]:
    """O(n^3) likelihood, coefficients and predictions at the fit's own variances."""
    value = fit.variance_components.set_index(["group", "term1", "term2"])["value"]
    psi = np.array(
        [
            [value["seed", "Intercept", ""], value["seed", "Intercept", "alignment"]],
            [value["seed", "Intercept", "alignment"], value["seed", "alignment", ""]],
        ]
    )
    n = len(data)
    x = np.column_stack(
        [np.ones(n), *(data["arm"] == a for a in ARMS[1:]), data["alignment"]]
    ).astype(float)
    z = x[:, [0, -1]]
    same_seed = data["seed"].to_numpy()[:, None] == data["seed"].to_numpy()
    same_arm = data["arm"].to_numpy()[:, None] == data["arm"].to_numpy()
    same_run = same_seed & same_arm
    rho = 0.0 if fit.correlation is None else fit.correlation
    gap = np.abs(data["step"].to_numpy()[:, None] - data["step"].to_numpy())
    residual = np.where(same_run, np.power(rho, gap), 0.0)
    if len(fit.sd_ratios):
        sd = data["arm"].map(fit.sd_ratios).to_numpy(dtype=float)
        residual = residual * np.outer(sd, sd)
    random = z @ psi @ z.T * same_seed
    v = random + value["seed:arm", "Intercept", ""] * same_run + fit.sigma2 * residual
    inverse = np.linalg.inv(v)
    xvx = x.T @ inverse @ x
    b = np.linalg.solve(xvx, x.T @ inverse @ data["gain"].to_numpy())
    e = data["gain"].to_numpy() - x @ b
    nu = n - x.shape[1] if fit.reml else n
    criterion = np.linalg.slogdet(v)[1] + e @ inverse @ e + nu * np.log(2 * np.pi)
    if fit.reml:
        criterion += np.linalg.slogdet(xvx)[1]
    scores = inverse @ e
    seeds = np.unique(data["seed"])
    effects = np.array([psi @ z[data["seed"] == s].T @ scores[data["seed"] == s] for s in seeds])
    return {"criterion": criterion, "params": b, "vcov": np.linalg.inv(xvx), "effects": effects}


@pytest.mark.parametrize("residual", ["iid", "ar1", "car1"])
@pytest.mark.parametrize("arm_variances", [False, True])
@pytest.mark.parametrize("reml", [False, True])
def test_agrees_with_the_dense_likelihood(
    data: pd.DataFrame, residual: str, arm_variances: bool, reml: bool
) -> None:
    rows = gappy(data)
    fit = fit_mixed(rows, SLOPE, reml=reml, residual=residual, arm_variances=arm_variances)
    expected = dense(rows, fit)
    assert fit.converged
    assert fit.criterion == pytest.approx(expected["criterion"], abs=1e-7)
    np.testing.assert_allclose(fit.params, expected["params"], atol=1e-8)
    np.testing.assert_allclose(fit.vcov, expected["vcov"], rtol=1e-6, atol=1e-10)


def test_random_effects_are_the_dense_predictions(data: pd.DataFrame) -> None:
    fit = fit_mixed(data, SLOPE)
    of_seeds = fit.random_effects.query("group == 'seed'")
    table = of_seeds.pivot(index="level", columns="term", values="value")
    np.testing.assert_allclose(
        table[["Intercept", "alignment"]], dense(data, fit)["effects"], atol=1e-9
    )
    cells = fit.random_effects.query("group == 'seed:arm'")
    assert len(cells) == 8 * 3
    assert "0:baseline" in set(cells["level"])


@pytest.mark.parametrize("residual", ["iid", "ar1"])
@pytest.mark.parametrize("arm_variances", [False, True])
def test_gradient_is_the_slope_of_the_criterion(
    data: pd.DataFrame, residual: str, arm_variances: bool
) -> None:
    rows = gappy(data)
    parsed = parse_formula(SLOPE, column_kinds(rows))
    products = accumulate(rows, parsed, "step" if residual == "ar1" else "")
    problem = Problem(build_design(products, parsed, arm_variances=arm_variances), True, residual)
    rng = np.random.default_rng(1)
    weights = rng.integers(0, 3, (1, 8)).astype(float)
    for theta in 0.3 * rng.standard_normal((4, problem.n_theta)):
        step = 1e-6 * np.eye(problem.n_theta)
        ahead = evaluate(problem, theta + step, weights).criterion
        behind = evaluate(problem, theta - step, weights).criterion
        slope = (ahead - behind) / 2e-6
        analytic = evaluate(problem, theta[None], weights).gradient[0]
        np.testing.assert_allclose(analytic, slope, rtol=1e-5, atol=1e-5)


def test_a_weight_of_two_is_the_data_twice(data: pd.DataFrame) -> None:
    twice = pd.concat([data, data.assign(seed=data["seed"] + 100)])
    parsed = parse_formula(SLOPE, column_kinds(data))
    once = Problem(build_design(accumulate(data, parsed), parsed), True, "iid")
    both = Problem(build_design(accumulate(twice, parsed), parsed), True, "iid")
    theta = once.start()[None]
    weighted = evaluate(once, theta, np.full((1, 8), 2.0))
    doubled = evaluate(both, theta, np.ones((1, 16)))
    np.testing.assert_allclose(weighted.criterion, doubled.criterion, rtol=1e-12)
    np.testing.assert_allclose(weighted.gradient, doubled.gradient, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(weighted.coefficients, doubled.coefficients, atol=1e-10)


def test_no_random_variance_is_least_squares(data: pd.DataFrame) -> None:
    parsed = parse_formula(SLOPE, column_kinds(data))
    problem = Problem(build_design(accumulate(data, parsed), parsed), True, "iid")
    found = evaluate(problem, np.zeros((1, problem.n_theta)), np.ones((1, 8)))
    x = np.column_stack(
        [np.ones(len(data)), *(data["arm"] == a for a in ARMS[1:]), data["alignment"]]
    ).astype(float)
    b, squares, *_ = np.linalg.lstsq(x, data["gain"], rcond=None)
    np.testing.assert_allclose(problem.design.offset, b, atol=1e-11)
    np.testing.assert_allclose(found.coefficients, 0, atol=1e-9)
    sigma2 = found.sigma2[0] * problem.design.y_scale**2
    assert sigma2 == pytest.approx(squares[0] / (len(data) - 4), rel=1e-9)


def test_balanced_contrast_is_the_paired_mean(data: pd.DataFrame) -> None:
    fit = fit_mixed(data, "gain ~ arm + (1 | seed/arm)", vcov="CR2", df="cr2")
    means = data.groupby(["seed", "arm"])["gain"].mean().unstack()
    difference = means["liminal"] - means["baseline"]
    test = stats.ttest_rel(means["liminal"], means["baseline"])
    row = fit.contrast("arm[T.liminal]").iloc[0]
    assert row["estimate"] == pytest.approx(difference.mean(), rel=1e-9)
    assert row["se"] == pytest.approx(difference.sem(), rel=1e-6)
    assert row["df"] == pytest.approx(7, rel=1e-6)
    assert row["p_value"] == pytest.approx(test.pvalue, rel=1e-5)


def test_statsmodels_agrees_where_it_converges(data: pd.DataFrame) -> None:
    smf = pytest.importorskip("statsmodels.formula.api")
    rows = data.assign(x=(data["alignment"] - 0.1) * 20, y=data["gain"] * 20)
    model = smf.mixedlm("y ~ arm + x", rows, groups="seed", re_formula="1")
    theirs = model.fit(reml=True, method="bfgs")
    ours = fit_mixed(rows, "y ~ arm + x + (1 | seed)")
    assert theirs.converged
    assert ours.criterion <= -2 * theirs.llf + 1e-6
    assert ours.criterion == pytest.approx(-2 * theirs.llf, abs=1e-5)
    np.testing.assert_allclose(ours.params, theirs.fe_params, rtol=1e-5)
    # An optimum missed by d moves the standard errors by about sqrt(d).
    np.testing.assert_allclose(ours.se, theirs.bse_fe, rtol=1e-3)


def test_centre_and_unit_of_the_regressor_do_not_matter(data: pd.DataFrame) -> None:
    fit = fit_mixed(data, SLOPE)
    moved = fit_mixed(data.assign(alignment=data["alignment"] * 1e-4 + 3), SLOPE)
    assert moved.params["alignment"] == pytest.approx(1e4 * fit.params["alignment"], rel=1e-6)
    assert moved.df["alignment"] == pytest.approx(fit.df["alignment"], rel=1e-3)
    # REML's determinant of X'V^-1X changes with the unit of a column.
    assert moved.criterion == pytest.approx(fit.criterion - 2 * np.log(1e4), abs=1e-4)


def test_order_of_rows_does_not_matter(data: pd.DataFrame) -> None:
    fit = fit_mixed(data, SLOPE, residual="ar1")
    shuffled = fit_mixed(data.sample(frac=1, random_state=1), SLOPE, residual="ar1")
    assert shuffled.criterion == pytest.approx(fit.criterion, abs=1e-8)
    np.testing.assert_allclose(shuffled.params, fit.params, rtol=1e-6)


@pytest.mark.parametrize("residual", ["iid", "ar1"])
@pytest.mark.parametrize("kind", ["table", "dataset", "path"])
def test_every_source_gives_the_same_fit(
    data: pd.DataFrame,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    residual: str,
) -> None:
    rows = gappy(data)
    # Chunks of 20 rows cut through runs, so that a lag crosses their borders.
    monkeypatch.setattr(chunks, "CHUNK_ROWS", 20)
    for arm, part in rows.groupby("arm"):
        for seed, run in part.groupby("seed"):
            folder = tmp_path / f"arm={arm}"
            folder.mkdir(exist_ok=True)
            table = pa.Table.from_pandas(run.drop(columns="arm"), preserve_index=False)
            pq.write_table(table, folder / f"{seed}.parquet")
    source = {
        "table": pa.Table.from_pandas(rows, preserve_index=False),
        "dataset": ds.dataset(tmp_path, partitioning="hive"),
        "path": tmp_path,
    }[kind]
    expected = fit_mixed(rows, SLOPE, residual=residual)
    found = fit_mixed(source, SLOPE, residual=residual)
    assert found.n_obs == len(rows)
    assert found.criterion == pytest.approx(expected.criterion, abs=1e-7)
    np.testing.assert_allclose(found.params, expected.params, rtol=1e-6)
    np.testing.assert_allclose(found.se, expected.se, rtol=1e-5)


def test_reference_is_baseline_unless_asked(data: pd.DataFrame) -> None:
    renamed = data.assign(arm=data["arm"].replace("liminal", "a_first"))
    plain = fit_mixed(renamed, "gain ~ arm + (1 | seed)")
    assert plain.references == {"arm": "baseline"}
    assert list(plain.params.index) == ["Intercept", "arm[T.a_first]", "arm[T.projection]"]
    for spelling in ('"projection"', "projection", "Treatment('projection')"):
        other = fit_mixed(renamed, f"gain ~ C(arm, {spelling}) + (1 | seed)")
        assert other.references["arm"] == "projection"
        assert other.params["arm[T.baseline]"] == pytest.approx(-plain.params["arm[T.projection]"])
    without = renamed[renamed["arm"] != "baseline"]
    assert fit_mixed(without, "gain ~ arm + (1 | seed)").references["arm"] == "a_first"
    ordered = without.assign(arm=pd.Categorical(without["arm"], ["projection", "a_first"]))
    assert fit_mixed(ordered, "gain ~ arm + (1 | seed)").references["arm"] == "projection"


def test_integer_factors_and_expressions(data: pd.DataFrame) -> None:
    rows = data.assign(late=(data["step"] >= 6).astype(int))
    fit = fit_mixed(rows, "gain ~ C(late) * I(alignment**2) + np.exp(alignment) + (1 | seed)")
    assert list(fit.params.index) == [
        "Intercept",
        "late[T.1]",
        "I(alignment ** 2)",
        "np.exp(alignment)",
        "late[T.1]:I(alignment ** 2)",
    ]
    same = rows.assign(
        squared=rows["alignment"] ** 2,
        grown=np.exp(rows["alignment"]),
        both=rows["alignment"] ** 2 * rows["late"],
    )
    plain = fit_mixed(same, "gain ~ late + squared + grown + both + (1 | seed)")
    np.testing.assert_allclose(fit.params, plain.params, rtol=1e-6)


def test_constant_mediator_in_an_arm_is_aliased_and_named(data: pd.DataFrame) -> None:
    constant = data.assign(alignment=data["alignment"].where(data["arm"] != "projection", 0.0))
    fit = fit_mixed(constant, "gain ~ arm * alignment + (1 + alignment | seed) + (1 | seed:arm)")
    assert fit.aliased == ("arm[T.projection]:alignment",)
    assert "arm[T.projection]:alignment" not in fit.params.index
    assert any("arm[T.projection]:alignment" in text for text in fit.warnings)
    assert fit.converged


def test_singular_fit_is_kept_and_flagged() -> None:
    rng = np.random.default_rng(2)
    data = simulate()
    noise = data.assign(gain=rng.standard_normal(len(data)))
    noise["gain"] -= noise.groupby("seed")["gain"].transform("mean")
    fit = fit_mixed(noise, "gain ~ arm + alignment + (1 + alignment | seed)", vcov="CR2")
    assert fit.singular
    assert fit.converged
    assert len(fit.variance_components) == 4
    assert np.isfinite(fit.se).all()
    assert any("boundary" in text for text in fit.warnings)


@pytest.mark.parametrize("as_table", [False, True])
def test_missing_and_infinite_values_are_counted(data: pd.DataFrame, as_table: bool) -> None:
    spoiled = data.copy()
    spoiled.loc[[3, 50], "gain"] = np.nan
    spoiled.loc[7, "alignment"] = np.inf
    source = pa.Table.from_pandas(spoiled, preserve_index=False) if as_table else spoiled
    with pytest.raises(DataError, match=r"3 missing or infinite.*alignment: 1, gain: 2"):
        fit_mixed(source, SLOPE)
    spoiled.loc[0, "arm"] = None
    with pytest.raises(DataError, match="4 missing or infinite"):
        fit_mixed(spoiled, SLOPE)


@pytest.mark.parametrize(
    ("formula", "says"),
    [
        ("gain ~ arm + (1 | seed) + (1 | arm)", "statsmodels"),
        ("gain ~ arm + (1 + alignment | seed:arm)", "statsmodels"),
        ("gain ~ arm + (1 | seed/arm/step)", "statsmodels"),
        ("gain ~ arm", "random term"),
        ("gain", "outcome ~ fixed"),
        ("gain ~ arms + (1 | seed)", "column"),
        ("gain ~ arm + (1 | sed)", "column"),
        ("gain ~ center(alignment) + (1 | seed)", "make a column"),
        ("gain ~ np.mean(alignment) + (1 | seed)", "make a column"),
        ("arm ~ alignment + (1 | seed)", "labels"),
        ("gain ~ C(arm, nowhere) + (1 | seed)", "baseline"),
        ("gain ~ C(arm, contr.sum) + (1 | seed)", "allowed"),
        ("gain ~ arm + (1 | seed) + (1 + alignment | seed)", "once"),
    ],
)
def test_formulas_outside_the_language(data: pd.DataFrame, formula: str, says: str) -> None:
    with pytest.raises(RequestError, match=says):
        fit_mixed(data, formula)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"residual": "ma1"}, "residual"),
        ({"vcov": "CR3"}, "vcov"),
        ({"df": "z"}, "df"),
        ({"df": "cr2"}, "df"),
        ({"df": "kenward-roger", "vcov": "CR2"}, "df"),
        ({"df": "kenward-roger", "reml": False}, "df"),
        ({"residual": "ar1", "time": "when"}, "time"),
    ],
)
def test_options_that_do_not_go_together(data: pd.DataFrame, options: dict, field: str) -> None:
    with pytest.raises(RequestError, match=f"^{field}: "):
        fit_mixed(data, SLOPE, **options)


def test_data_that_cannot_be_fitted(data: pd.DataFrame) -> None:
    with pytest.raises(DataError, match="1 level"):
        fit_mixed(data[data["seed"] == 0], SLOPE)
    with pytest.raises(DataError, match="no rows"):
        fit_mixed(data[:0], SLOPE)
    with pytest.raises(DataError, match="not distinguishable"):
        fit_mixed(data.assign(alignment=0.0), SLOPE)
    with pytest.raises(DataError, match="fitted exactly"):
        fit_mixed(data.assign(gain=2 * data["alignment"]), SLOPE)
    with pytest.raises(DataError, match="must rise"):
        fit_mixed(data, "gain ~ alignment + (1 | seed)", residual="ar1")
    with pytest.raises(DataError, match="whole numbers"):
        fit_mixed(data.assign(step=data["step"] / 2), SLOPE, residual="ar1")
    with pytest.raises(RequestError, match="DataFrame"):
        fit_mixed({"gain": [1.0]}, SLOPE)


def test_contrasts(data: pd.DataFrame) -> None:
    fit = fit_mixed(data, SLOPE)
    text = "arm[T.liminal] - 0.5 * (arm[T.projection] + alignment) / 2"
    row = np.array([[0, 1, -0.25, -0.25]])
    by_text, by_row = fit.contrast(text), fit.contrast(row)
    assert by_text["contrast"].tolist() == [text]
    numbers = by_text.columns[1:]
    np.testing.assert_allclose(by_text[numbers], by_row[numbers])
    single = fit.contrast(list(fit.params.index)).set_index("contrast")
    np.testing.assert_allclose(single["df"], fit.df, rtol=1e-10)
    np.testing.assert_allclose(single[["low", "high"]], fit.conf_int(), rtol=1e-10)
    for wrong in ("alignmint", "alignment * alignment", "3", "alignment + 1"):
        with pytest.raises(RequestError, match="contrast"):
            fit.contrast(wrong)


def test_wald_test(data: pd.DataFrame) -> None:
    fit = fit_mixed(data, SLOPE, vcov="CR2", df="cr2")
    single = fit.test("alignment")
    assert single.statistic == pytest.approx((fit.params / fit.se)["alignment"] ** 2)
    assert single.p_value == pytest.approx(fit.p_values["alignment"])
    joint = fit.test(["arm[T.liminal]", "arm[T.projection]"])
    b, v = fit.params.iloc[1:3].to_numpy(), fit.vcov.iloc[1:3, 1:3].to_numpy()
    assert joint.statistic == pytest.approx(b @ np.linalg.solve(v, b) / 2)
    assert joint.df[0] == 2
    assert 0 < joint.df[1] < 8
    assert "repeat" in fit.test(["alignment", "2 * alignment"]).reason


def test_cr2_is_unbiased_under_the_model(data: pd.DataFrame) -> None:
    """E[CR2] = M if V is right: with e ~ (I - XMX'V^-1), the meat's mean is sum H'(V - XMX')H."""
    fit = fit_mixed(gappy(data), SLOPE, vcov="CR2")
    inference = fit._inference
    x_bread = inference.cross.transpose(0, 2, 1) @ inference.bread @ inference.cross
    mean = (inference.own - x_bread).sum(axis=0)
    np.testing.assert_allclose(
        inference.bread @ mean @ inference.bread, inference.bread, rtol=1e-8, atol=1e-14
    )


def test_group_products_add_up(data: pd.DataFrame) -> None:
    fit = fit_mixed(data, SLOPE)
    products = group_products(fit._problem, fit._theta)
    found = evaluate(fit._problem, fit._theta[None], np.ones((1, 8)))
    np.testing.assert_allclose(
        np.linalg.inv(products.xx.sum(axis=0)), found.xx_inverse[0], rtol=1e-9, atol=1e-13
    )


def test_summary_and_tidy_are_fixed(data: pd.DataFrame) -> None:
    fit = fit_mixed(data, SLOPE)
    assert fit.summary() == fit_mixed(data.copy(), SLOPE).summary()
    assert "reference levels: " in fit.summary()
    assert "arm: baseline" in fit.summary()
    assert list(fit.tidy().columns) == [
        "term",
        "estimate",
        "se",
        "df",
        "statistic",
        "p_value",
        "low",
        "high",
    ]
    with pytest.raises(RequestError, match="level"):
        fit.conf_int(95)


def test_variances_that_dwarf_the_residual(data: pd.DataFrame) -> None:
    spread = data["seed"].map(dict(enumerate([9, -7, 4, 0, -3, 6, -8, 1])))
    wild = data.assign(gain=data["gain"] + 5 * spread * data["alignment"])
    fit = fit_mixed(wild, SLOPE)
    assert fit.converged
    assert fit.criterion == pytest.approx(dense(wild, fit)["criterion"], abs=1e-6)


def test_uncorrelated_blocks_that_resemble_each_other(data: pd.DataFrame) -> None:
    """With x nearly constant, (1 | g) and (0 + x | g) explain the same: two local optima."""
    far = data.assign(alignment=data["alignment"] + 30)
    shift = data["seed"].map(dict(enumerate([3, -2, 4, 0, -3, 1, -4, 1])))
    for gain in (data["gain"] + shift, data["gain"] + shift * far["alignment"] / 30):
        rows = far.assign(gain=gain)
        both = fit_mixed(rows, "gain ~ arm + alignment + (1 + alignment || seed)")
        for alone in ("1", "0 + alignment"):
            one = fit_mixed(rows, f"gain ~ arm + alignment + ({alone} | seed)")
            assert both.criterion <= one.criterion + 1e-6


def test_few_groups_are_warned_about(data: pd.DataFrame) -> None:
    few = fit_mixed(data[data["seed"] < 5], SLOPE)
    assert any("only 5 levels" in text for text in few.warnings)
    assert not any("levels of" in text for text in fit_mixed(data, SLOPE).warnings)


def test_arms_that_do_the_same_differ_by_zero_without_a_test(data: pd.DataFrame) -> None:
    twin = data[data["arm"] == "baseline"].assign(arm="twin")
    both = pd.concat([data, twin], ignore_index=True)
    fit = fit_mixed(both, "gain ~ arm + (1 | seed)", vcov="CR2", df="cr2")
    row = fit.contrast("arm[T.twin]").iloc[0]
    assert fit.se["arm[T.twin]"] == row["se"] == 0
    assert np.isnan(fit.p_values["arm[T.twin]"])
    assert np.isnan(row["p_value"])
    assert fit.params["arm[T.twin]"] == pytest.approx(0, abs=1e-12)


def test_the_denominator_of_a_joint_test_pools_its_directions_as_lmertest_does() -> None:
    assert pooled_df(np.array([7.0])) == 7
    assert pooled_df(np.array([5.0, 5.0])) == 5
    assert pooled_df(np.array([4.0, 1.5])) == 2
    # 6 / 4 + 12 / 10 = 2.7: 5.4 / 0.7.
    assert pooled_df(np.array([6.0, 12.0])) == pytest.approx(5.4 / 0.7)


@pytest.mark.parametrize("rounding", [1.0, 0.1, 1 / 3, 1e-9, 1e9])
@pytest.mark.parametrize("level", [0.0, 0.3, 1e6])
@pytest.mark.parametrize(
    "formula", ["gain ~ arm + alignment + (1 | seed)", SLOPE, "gain ~ arm + (1 | seed/arm)"]
)
def test_outcomes_fitted_exactly_are_refused_whatever_the_rounding(
    data: pd.DataFrame, formula: str, level: float, rounding: float
) -> None:
    exact = data["seed"] * 0.1 + data["arm"].map({a: i * 0.7 for i, a in enumerate(ARMS)})
    if "alignment" in formula:
        exact = exact + 2 * data["alignment"]
    exact = rounding * (exact + level)
    with pytest.raises(DataError, match="gain is fitted exactly"):
        fit_mixed(data.assign(gain=exact), formula)
    noise = np.random.default_rng(5).normal(scale=0.01 * rounding, size=len(data))
    assert fit_mixed(data.assign(gain=exact + noise), formula).converged


@pytest.mark.parametrize("scale", [1e16, 1e8, 1.0, 1e-8, 1e-16])
@pytest.mark.parametrize("formula", [SLOPE, "gain ~ arm * alignment + (1 | seed)"])
def test_offset_and_scale_of_a_column_do_not_matter(
    data: pd.DataFrame, formula: str, scale: float
) -> None:
    """An offset of a million standard deviations, in units large and small."""
    unit = data.assign(alignment=data["alignment"] / data["alignment"].std())
    plain = fit_mixed(unit, formula, vcov="CR2", df="cr2")
    for column, factor in (("alignment", 1 / scale), ("gain", scale)):
        moved = unit.assign(**{column: scale * (1e6 * unit[column].std() + unit[column])})
        found = fit_mixed(moved, formula, vcov="CR2", df="cr2")
        assert found.aliased == ()
        assert found.params["alignment"] == pytest.approx(plain.params["alignment"] * factor, 1e-4)
        assert found.se["alignment"] == pytest.approx(plain.se["alignment"] * factor, 1e-3)
        assert found.df["alignment"] == pytest.approx(plain.df["alignment"], rel=1e-2)
