"""The mixed model against what theory says, and at the edges of what it accepts."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from sublim_causal.analysis.mixed.criterion.parameters import Problem
from sublim_causal.analysis.mixed.criterion.reml import evaluate
from sublim_causal.analysis.mixed.design.chunks import column_kinds
from sublim_causal.analysis.mixed.design.crossproducts import accumulate
from sublim_causal.analysis.mixed.design.model import build_design
from sublim_causal.analysis.mixed.fit import fit_mixed
from sublim_causal.analysis.mixed.formula.terms import parse_formula
from sublim_causal.analysis.mixed.result import MixedFit
from tests.analysis.mixed.conftest import ARMS, SLOPE, gappy, simulate


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
    for theta in 0.3 * rng.standard_normal((4, problem.n_theta)):
        step = 1e-6 * np.eye(problem.n_theta)
        ahead = evaluate(problem, theta + step).criterion
        behind = evaluate(problem, theta - step).criterion
        slope = (ahead - behind) / 2e-6
        analytic = evaluate(problem, theta[None]).gradient[0]
        np.testing.assert_allclose(analytic, slope, rtol=1e-5, atol=1e-5)


def test_no_random_variance_is_least_squares(data: pd.DataFrame) -> None:
    parsed = parse_formula(SLOPE, column_kinds(data))
    problem = Problem(build_design(accumulate(data, parsed), parsed), True, "iid")
    found = evaluate(problem, np.zeros((1, problem.n_theta)))
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
