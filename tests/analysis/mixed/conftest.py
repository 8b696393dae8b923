"""A simulated table of steps, for the tests of mixed models."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

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
