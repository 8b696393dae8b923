"""`AlignmentCallback` in a real Lightning `Trainer`: accumulation, clipping, bf16."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "lightning_trainer.py"


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("example_lightning", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.filterwarnings(
    "ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning"
)
def test_the_example_measures_and_logs(example: ModuleType, tmp_path: Path) -> None:
    callback = example.main(tmp_path, guarded=False)
    table = callback.monitor.table()
    assert table["step"].tolist() == [0, 1, 2, 3, 4]
    assert (table["norm_applied"] <= 0.01 + 1e-6).all()
    assert (table["norm_distill"] > 0.01).all()  # read before clipping
    assert table["cos_applied"].to_numpy() == pytest.approx(
        table["cos_gradient"].to_numpy(), abs=1e-5
    )
    (saved,) = tmp_path.rglob("alignment.csv")
    pd.testing.assert_frame_equal(pd.read_csv(saved), table)
    (metrics,) = tmp_path.rglob("metrics.csv")
    logged = pd.read_csv(metrics)["alignment/drive"].dropna()
    assert logged.to_numpy() == pytest.approx(table["drive"].to_numpy(), rel=1e-4, abs=1e-7)

    guarded = example.main(tmp_path / "guarded", guarded=True).monitor.table()
    assert guarded["cos_update"].abs().max() < 1e-4 < table["cos_update"].abs().max()
