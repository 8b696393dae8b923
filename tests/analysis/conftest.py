"""Golden run-level data and a small simulated record, shared by the analysis tests."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pytest

GOLDEN = Path(__file__).parent.parent / "golden"


class GoldenRuns(NamedTuple):
    """One golden data set with what R says about it."""

    data: pd.DataFrame
    r: dict[str, Any]


@pytest.fixture(params=["runs_nointer", "runs_inter"])
def golden_runs(request: pytest.FixtureRequest) -> GoldenRuns:
    path = GOLDEN / request.param
    r = json.loads(path.with_suffix(".json").read_text())
    return GoldenRuns(pd.read_csv(path.with_suffix(".csv")), r)
