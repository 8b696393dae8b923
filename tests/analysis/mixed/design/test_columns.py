"""Columns as they come: levels of every type in sorted order, numbers of every type as numbers."""

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sublim_causal.analysis.mixed.fit import fit_mixed
from sublim_causal.errors import DataError, RequestError

N = 60


@pytest.fixture(scope="module")
def data() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"s": np.arange(N) % 10, "kind": np.array(["c", "a", "b"])[np.arange(N) % 3]}
    )
    x = np.round(rng.normal(size=N), 3)
    return frame.assign(x=x, n=rng.integers(0, 9, N), y=rng.normal(size=N) + frame["s"])


LABELS: dict[str, Callable[[pd.Series], object]] = {
    "object": lambda s: s.astype(object),
    "string": lambda s: s.astype("string"),
    "str": lambda s: s.astype("str"),
    "arrow": lambda s: s.astype(pd.ArrowDtype(pa.string())),
    "sorted categories": lambda s: s.astype(pd.CategoricalDtype(["a", "b", "c"])),
    "unused category": lambda s: s.astype(pd.CategoricalDtype(["0", "a", "b", "c"])),
}


@pytest.mark.parametrize("dtype", LABELS)
@pytest.mark.parametrize("reverse", [False, True])
def test_the_reference_is_the_first_label_in_sorted_order(
    data: pd.DataFrame, dtype: str, reverse: bool
) -> None:
    frame = data.assign(kind=LABELS[dtype](data["kind"]))
    fit = fit_mixed(frame[::-1] if reverse else frame, "y ~ kind + (1 | s)")
    expected = fit_mixed(data, "y ~ kind + (1 | s)")
    assert list(fit.params.index) == ["Intercept", "kind[T.b]", "kind[T.c]"]
    np.testing.assert_allclose(fit.params, expected.params, rtol=1e-9)


@pytest.mark.parametrize("ordered", [False, True])
def test_categories_keep_their_own_order(data: pd.DataFrame, ordered: bool) -> None:
    kind = pd.Categorical(data["kind"], ["c", "a", "b"], ordered=ordered)
    fit = fit_mixed(data.assign(kind=kind), "y ~ kind + (1 | s)")
    assert list(fit.params.index) == ["Intercept", "kind[T.a]", "kind[T.b]"]


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("dictionary", [False, True])
def test_levels_of_an_arrow_table_are_sorted(
    data: pd.DataFrame, reverse: bool, dictionary: bool
) -> None:
    table = pa.Table.from_pandas(data[::-1] if reverse else data, preserve_index=False)
    if dictionary:
        at = table.schema.get_field_index("kind")
        table = table.set_column(at, "kind", table.column("kind").dictionary_encode())
    fit = fit_mixed(table, "y ~ kind + (1 | s)")
    assert list(fit.params.index) == ["Intercept", "kind[T.b]", "kind[T.c]"]


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("kind", [bool, "boolean", object, pd.ArrowDtype(pa.bool_())])
def test_truth_is_coded_against_false(data: pd.DataFrame, kind: object, reverse: bool) -> None:
    frame = data.assign(big=(data["n"] > 4).astype(kind))
    fit = fit_mixed(frame[::-1] if reverse else frame, "y ~ big + (1 | s)")
    assert list(fit.params.index) == ["Intercept", "big[T.True]"]
    plain = fit_mixed(frame.assign(big=(data["n"] > 4).astype(int)), "y ~ big + (1 | s)")
    assert fit.params["big[T.True]"] == pytest.approx(plain.params["big"], rel=1e-9)


NUMBERS: dict[str, Callable[[pd.Series], object]] = {
    "object": lambda s: s.astype(object),
    "decimal": lambda s: s.map(lambda v: Decimal(str(v))),
    "nullable": lambda s: s.astype("Float64"),
    "float32": lambda s: s.astype("float32"),
    "arrow": lambda s: s.astype(pd.ArrowDtype(pa.float64())),
    "arrow decimal": lambda s: s.map(lambda v: Decimal(str(v))).astype(
        pd.ArrowDtype(pa.decimal128(9, 3))
    ),
    "mixed": lambda s: pd.Series([0, *s[1:].tolist()], s.index, dtype=object),
}


@pytest.mark.parametrize("dtype", NUMBERS)
@pytest.mark.parametrize("as_table", [False, True])
def test_numbers_of_every_type_are_numbers(data: pd.DataFrame, dtype: str, as_table: bool) -> None:
    frame = data.assign(x=NUMBERS[dtype](data["x"]))
    plain = data.assign(x=frame["x"].astype(float))
    source = pa.Table.from_pandas(frame.drop(index=0)) if as_table else frame.drop(index=0)
    if as_table and dtype == "mixed":
        source = pa.Table.from_pandas(plain.drop(index=0))
    fit = fit_mixed(source, "y ~ x + n + (1 | s)")
    expected = fit_mixed(plain.drop(index=0), "y ~ x + n + (1 | s)")
    assert list(fit.params.index) == ["Intercept", "x", "n"]
    np.testing.assert_allclose(fit.params, expected.params, rtol=1e-9)
    outcome = fit_mixed(source, "x ~ n + (1 | s)")
    np.testing.assert_allclose(
        outcome.params, fit_mixed(plain.drop(index=0), "x ~ n + (1 | s)").params, rtol=1e-9
    )


@pytest.mark.parametrize("dtype", ["object", "decimal", "nullable", "arrow"])
def test_missing_numbers_of_every_type_are_counted(data: pd.DataFrame, dtype: str) -> None:
    x = pd.Series(NUMBERS[dtype](data["x"]))
    x[3] = None if dtype == "decimal" else pd.NA
    with pytest.raises(DataError, match=r"1 missing or infinite values \(x: 1\)"):
        fit_mixed(data.assign(x=x), "y ~ x + (1 | s)")


DATES = pd.date_range("2026-01-01", periods=N)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (DATES, "dates or times"),
        (pd.Series(list(DATES.date), dtype=object), "dates or times"),
        (DATES.tz_localize("UTC"), "dates or times"),
        (DATES - DATES[0], "dates or times"),
        (DATES.to_period("D"), "dates or times"),
        ([str(v) for v in range(N)], "numbers written as text"),
        (["1e3"] * N, "numbers written as text"),
        ([complex(v) for v in range(N)], "neither numbers nor labels"),
        ([[v] for v in range(N)], "neither numbers nor labels"),
    ],
)
@pytest.mark.parametrize(
    "formula", ["y ~ x + (1 | s)", "x ~ n + (1 | s)", "y ~ I(x * 2) + (1 | s)"]
)
def test_what_is_no_number_is_refused(
    data: pd.DataFrame, values: object, says: str, formula: str
) -> None:
    with pytest.raises(RequestError, match=says):
        fit_mixed(data.assign(x=values), formula)


def test_dates_and_digits_can_be_labels(data: pd.DataFrame) -> None:
    expected = fit_mixed(data, "y ~ C(n) + (1 | s)")
    digits = fit_mixed(data.assign(n=data["n"].astype(str)), "y ~ C(n) + (1 | s)")
    dates = fit_mixed(data.assign(n=DATES[data["n"]]), "y ~ C(n) + (1 | s)")
    for fit in (digits, dates):
        np.testing.assert_allclose(fit.params, expected.params, rtol=1e-9)


@pytest.mark.parametrize("label", [str, lambda s: s + 0.5, lambda s: DATES[s], lambda s: (s, "x")])
def test_groups_are_of_any_type(data: pd.DataFrame, label: Callable[[int], object]) -> None:
    group = pd.Series([label(s) for s in data["s"]], dtype=object)
    fit = fit_mixed(data.assign(s=group), "y ~ x + (1 | s)")
    np.testing.assert_allclose(fit.params, fit_mixed(data, "y ~ x + (1 | s)").params, rtol=1e-9)


def test_two_columns_of_one_name_are_refused(data: pd.DataFrame) -> None:
    twice = pd.concat([data, data[["x"]]], axis=1)
    with pytest.raises(RequestError, match="different names"):
        fit_mixed(twice, "y ~ x + (1 | s)")


def test_digits_of_an_arrow_source_are_no_labels(data: pd.DataFrame, tmp_path: Path) -> None:
    frame = data.assign(x=data["n"].astype(str))
    table = pa.Table.from_pandas(frame, preserve_index=False)
    pq.write_table(table, tmp_path / "rows.parquet")
    for source in (table, tmp_path):
        with pytest.raises(RequestError, match="numbers written as text"):
            fit_mixed(source, "y ~ x + (1 | s)")
        assert len(fit_mixed(source, "y ~ C(x) + (1 | s)").params) == data["n"].nunique()
