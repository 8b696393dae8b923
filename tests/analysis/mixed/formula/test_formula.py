"""Formulas: what they mean, how their columns are coded, and how what is no formula is refused."""

import itertools
import random
import time

import numpy as np
import pandas as pd
import pytest

from sublim_causal.analysis.mixed.fit import fit_mixed
from sublim_causal.analysis.mixed.formula.coding import MAX_COLUMNS, code_terms
from sublim_causal.analysis.mixed.formula.expressions import evaluate_expression
from sublim_causal.analysis.mixed.formula.syntax import MAX_DEPTH, MAX_LENGTH
from sublim_causal.analysis.mixed.formula.terms import parse_formula
from sublim_causal.errors import DataError, RequestError

LEVELS = {"a": ["p", "q", "r"], "b": ["u", "v"]}
KINDS = {
    **dict.fromkeys(["a", "b", "s"], "label"),
    **dict.fromkeys(["x", "z", "y", "Reaction Time", "lr.log", "class"], "number"),
}


def coefficients(right: str) -> list[str]:
    rows = pd.DataFrame(itertools.product(*LEVELS.values()), columns=list(LEVELS))
    rows = rows.apply(lambda column: pd.Categorical(column, LEVELS[column.name]))
    formula = parse_formula(f"y ~ {right} + (1 | s)", KINDS)
    return list(code_terms(formula.fixed, rows, formula.products).names)


@pytest.mark.parametrize(
    ("right", "expected"),
    [
        ("x", ["Intercept", "x"]),
        ("0 + x", ["x"]),
        ("x - 1", ["x"]),
        ("-1 + x + 1", ["Intercept", "x"]),
        ("a + x", ["Intercept", "a[T.q]", "a[T.r]", "x"]),
        ("0 + a", ["a[p]", "a[q]", "a[r]"]),
        ("b * x", ["Intercept", "b[T.v]", "x", "b[T.v]:x"]),
        ("b:x", ["Intercept", "b[u]:x", "b[v]:x"]),
        ("b / x", ["Intercept", "b[T.v]", "b[u]:x", "b[v]:x"]),
        ("a * b - a:b", ["Intercept", "a[T.q]", "a[T.r]", "b[T.v]"]),
        ("(x + z)**2", ["Intercept", "x", "z", "x:z"]),
        ("(x + z)^2 + x:x", ["Intercept", "x", "z", "x:z"]),
        ("x:z + x", ["Intercept", "x", "x:z"]),
        ("0 + a:b", ["a[p]:b[u]", "a[q]:b[u]", "a[r]:b[u]", "a[p]:b[v]", "a[q]:b[v]", "a[r]:b[v]"]),
        ("a:b + b", ["Intercept", "b[T.v]", *(f"a[T.{a}]:b[{b}]" for b in "uv" for a in "qr")]),
        ("I(x**2) + log(x+z*2)", ["Intercept", "I(x ** 2)", "log(x + z * 2)"]),
        ("I(-x - (z - 1) * -2)", ["Intercept", "I(-x - (z - 1) * -2)"]),
        ("`lr.log` + `class` + lr.log", ["Intercept", "lr.log", "class"]),
        ("I(`Reaction Time` / 2)", ["Intercept", "I(`Reaction Time` / 2)"]),
    ],
)
def test_terms_are_coded_as_r_codes_them(right: str, expected: list[str]) -> None:
    assert coefficients(right) == expected


def test_arithmetic_is_that_of_python() -> None:
    values = {name: np.array([0.5, 2.0, 3.5]) + i for i, name in enumerate(("x", "z"))}
    for text in ("-x**2", "x - z - 1", "2**x**2", "x / z / 2", "-(x + z) * 3e-1", "x**-z"):
        formula = parse_formula(f"I({text}) ~ 1 + (1 | s)", KINDS)
        found = evaluate_expression(formula.numeric[formula.outcome], values)
        np.testing.assert_allclose(found, eval(text, dict(values)), rtol=1e-15)
        assert formula.outcome == parse_formula(f"{formula.outcome} ~ (1 | s)", KINDS).outcome


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("y ~ I(x^2) + (1 | s)", "^2"),
        ("log(y ~ x + (1 | s)", "(y"),
        ("y ~ x ~ z + (1 | s)", "~ x ~ z"),
        ("y ~ x + [1 + (1 | s)", "["),
        ("y[0] ~ x + (1 | s)", "["),
        ("C() ~ x + (1 | s)", "C()"),
        ("y ~ C() + (1 | s)", "C()"),
        ("y ~ C(a, base='p') + (1 | s)", "="),
        ("y ~ np.log(x, out=z) + (1 | s)", "="),
        ("y ~ log(x, z) + (1 | s)", "log(x, z)"),
        ("y ~ x.__class__ + (1 | s)", "x.__class__"),
        ("y ~ np.lib._utils_impl.os.system('id') + (1 | s)", "np.lib"),
        ("y ~ (lambda: 0)() + (1 | s)", "() + "),
        ("y ~ [v for v in x] + (1 | s)", "["),
        ("y ~ x if z else 1 + (1 | s)", "if"),
        ("y ~ x\0 + (1 | s)", "\0"),
        ("y ~ 'x' + (1 | s)", "'x'"),
        ("y ~ x + 2 + (1 | s)", "2"),
        ("y ~ x + 1x + (1 | s)", "1x"),
        ("y ~ `x + (1 | s)", "`"),
        ("y ~ x**0.5 + (1 | s)", "0.5"),
        ("y ~ x**9**9 + (1 | s)", "9**9"),
        ("y ~ (x + z + a + b)**9 : (x + z + a + b)**9 * (1 | s)", "(1 | s)"),
        ("y ~ x + (1 | s) * x", "(1 | s)"),
        ("y ~ x + 1 | s", "x + 1 | s"),
        ("y ~ x + (1 | s) +", ""),
        ("y ~ x + (1 | s))", ")"),
        ("y ~ + ( | s)", "| s"),
        ("y ~ x + (1 | s) # ha", "#"),
        ("a ~ x + (1 | s)", "a"),
        ("", ""),
        ("~", "~"),
    ],
)
def test_a_refusal_shows_where(text: str, at: str) -> None:
    with pytest.raises(RequestError) as error:
        parse_formula(text, KINDS)
    assert error.value.field == "formula"
    _, excerpt, marks, *_ = str(error.value).splitlines()[1:]
    shown = text.replace("\0", "\N{REPLACEMENT CHARACTER}")
    assert excerpt.strip() == shown.strip()
    place = marks.index("^") - 4
    assert text[place:].startswith(at)
    assert "\0" not in str(error.value)


@pytest.mark.parametrize(
    "right",
    [
        "9**9**9",
        "I(9**9**9**9)",
        "(" * 3000 + "x" + ")" * 3000,
        "-" * 3000 + "x",
        "I(" + "x**" * 1200 + "x)",
        "I(" + "+".join(["x"] * (MAX_DEPTH + 5)) + ")",
        "+".join(["x"] * 1500),
        "x" * (MAX_LENGTH + 1),
        "*".join("abxz") + "*" + "*".join(f"I(x + {i})" for i in range(30)),
        "(a + b + x + z)**9:" * 200 + "x",
        "I(1e999 * x)",
        "I(x + " + "1" * 400 + ")",
    ],
)
def test_size_and_depth_are_bounded(right: str) -> None:
    frame = pd.DataFrame({"y": [1.0, 2.0], "x": 1.0, "z": 1.0, "a": "p", "b": "u", "s": ["1", "2"]})
    began = time.perf_counter()
    with pytest.raises((RequestError, DataError)) as error:
        fit_mixed(frame, f"y ~ {right} + (1 | s)")
    assert time.perf_counter() - began < 2
    assert len(str(error.value)) < 1000


def test_a_factor_of_too_many_levels_is_refused() -> None:
    n = MAX_COLUMNS + 1
    frame = pd.DataFrame({"y": np.arange(2.0 * n), "x": np.arange(2 * n) // 2, "s": ["1", "2"] * n})
    with pytest.raises(DataError, match=f"x needs {n} coefficients"):
        fit_mixed(frame, "y ~ 0 + C(x) + (1 | s)")


def test_no_text_does_anything_but_parse_or_be_refused() -> None:
    pieces = ["y", "x", "a", "s", "C", "I", "log", "np", "os", "~", "|", "||", "+", "-", "*", "/"]
    pieces += ["**", "^", ":", "(", ")", ",", "0", "1", "2.5", "'p'", "`", '"', "[", "]", ".", "="]
    pieces += [" ", "\n", "\0", "\N{RIGHT-TO-LEFT OVERRIDE}", "(1 | s)", "y ~ x", "if", "lambda"]
    rng = random.Random(0)
    messages = []
    for _ in range(4000):
        text = "y ~ " * (rng.random() < 0.8) + " ".join(rng.choices(pieces, k=rng.randint(1, 8)))
        text += " + (1 | s)" * (rng.random() < 0.8)
        try:
            parse_formula(text, KINDS)
        except RequestError as error:
            messages.append(str(error))
    assert 100 < len(messages) < 3970
    assert all("^" in message for message in messages)
    assert not any("\N{RIGHT-TO-LEFT OVERRIDE}" in message for message in messages)


@pytest.mark.parametrize("name", ["Reaction Time", "lr.log", "class", "a|b", "1st", "I(x)", "αβ"])
def test_a_name_in_backticks_is_a_column(name: str) -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"s": np.arange(40) % 8, "x": rng.normal(size=40), name: 0.0})
    frame[name] = rng.normal(size=40)
    plain = frame.rename(columns={name: "plain"})
    fit = fit_mixed(frame, f"x ~ `{name}` + (1 | s)")
    assert list(fit.params.index) == ["Intercept", name]
    expected = fit_mixed(plain, "x ~ plain + (1 | s)")
    np.testing.assert_array_equal(fit.params, expected.params)
    assert fit.contrast(f"2 * `{name}`")["estimate"][0] == 2 * fit.params[name]
    outcome = fit_mixed(frame, f"`{name}` ~ x + (1 | s)")
    np.testing.assert_array_equal(outcome.params, fit_mixed(plain, "plain ~ x + (1 | s)").params)
    group = frame.rename(columns={"s": name, name: "s"})
    np.testing.assert_array_equal(fit_mixed(group, f"x ~ s + (1 | `{name}`)").params, fit.params)


@pytest.mark.parametrize(
    ("contrast", "at"),
    [
        ("__import__('os').system('id')", ".system"),
        ("x * x", "x * x"),
        ("x / 0", "x / 0"),
        ("x + 1", "x + 1"),
        ("x[0]", "x[0]"),
        ("(x", "(x"),
        ("b[T.w]", "b[T.w]"),
        ("9**9**9 * x", "9**9 *"),
        ("", ""),
    ],
)
def test_a_contrast_that_is_not_linear_shows_where(contrast: str, at: str) -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"s": np.arange(40) % 8, "b": ["u", "v"] * 20})
    frame[["x", "y"]] = rng.normal(size=(40, 2))
    fit = fit_mixed(frame, "y ~ b + x + (1 | s)")
    with pytest.raises(RequestError) as error:
        fit.contrast(contrast)
    assert error.value.field == "contrast"
    _, excerpt, marks, *_ = str(error.value).splitlines()[1:]
    assert excerpt[marks.index("^") :].startswith(at)
