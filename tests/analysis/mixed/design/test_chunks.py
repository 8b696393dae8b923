"""Sources of data: order, chunks, missing values and types."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from sublim_causal.analysis.mixed.design import chunks
from sublim_causal.analysis.mixed.fit import fit_mixed
from sublim_causal.errors import DataError
from tests.analysis.mixed.conftest import SLOPE, gappy


def test_order_of_rows_does_not_matter(data: pd.DataFrame) -> None:
    fit = fit_mixed(data, SLOPE, residual="ar1")
    shuffled = fit_mixed(data.sample(frac=1, random_state=1), SLOPE, residual="ar1")
    assert shuffled.criterion == pytest.approx(fit.criterion, abs=1e-8)
    np.testing.assert_allclose(shuffled.params, fit.params, rtol=1e-6)


@pytest.mark.parametrize("residual", ["iid", "ar1"])
@pytest.mark.parametrize("kind", ["table", "dataset", "path"])
def test_every_source_gives_the_same_fit(
    data: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, residual: str
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
