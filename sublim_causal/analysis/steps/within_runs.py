r"""Cross products within runs, summed by seed: sufficient for slopes within runs.

Every column is centred in its run (seed and arm), which removes all differences between runs:
:math:`S_{jk}^{(s)} = \sum_{a,t} (x_{jsat} - \bar x_{jsa})(x_{ksat} - \bar x_{ksa})`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from sublim_causal.analysis.estimates.columns import numbers
from sublim_causal.analysis.estimates.types import Floats
from sublim_causal.errors import DataError, RequestError, nearest


@dataclass(frozen=True)
class WithinProducts:
    """Cross products within runs.

    Attributes
    ----------
    columns : tuple of str
        Names of the rows and columns of `products`.
    products : ndarray of shape (R, K, K)
        S by seed.
    """

    columns: tuple[str, ...]
    products: Floats

    def of(self, one: str, other: str) -> Floats:
        """Return S of two columns by seed, shape ``(R,)``."""
        return self.products[:, self.columns.index(one), self.columns.index(other)]


def within_products(steps: pd.DataFrame, columns: Sequence[str]) -> WithinProducts:
    """Centre `columns` of `steps` in their runs and sum products by seed.

    Parameters
    ----------
    steps : DataFrame
        One row per step: seed, arm, and `columns`.
    columns : sequence of str
        Numeric columns.

    Raises
    ------
    RequestError
        If a column is not there.
    DataError
        If a value is missing or infinite.
    """
    x = finite_columns(steps, columns)
    runs, _ = pd.factorize(pd.MultiIndex.from_frame(steps[["seed", "arm"]]))
    seed_of_row, seeds = pd.factorize(steps["seed"], sort=True)
    counts = np.bincount(runs)
    means = np.stack([np.bincount(runs, weights=column) / counts for column in x.T], axis=1)
    centred = x - means[runs]
    K, R = len(columns), len(seeds)
    products = np.empty((R, K, K))
    for j in range(K):
        for k in range(j + 1):
            sums = np.bincount(seed_of_row, weights=centred[:, j] * centred[:, k], minlength=R)
            products[:, j, k] = products[:, k, j] = sums
    return WithinProducts(tuple(columns), products)


def finite_columns(frame: pd.DataFrame, columns: Sequence[str]) -> Floats:
    """Return `columns` as an array of shape ``(n, K)``, all finite.

    Raises
    ------
    RequestError
        If a column is not there.
    DataError
        If a column holds no value at all, or a value is missing or infinite (counted).
    """
    for column in columns:
        if column not in frame:
            known = list(frame.columns)
            raise RequestError("column", column, ", ".join(known), nearest(column, known))
    x = numbers(frame, columns)
    bad = ~np.isfinite(x)
    never = [c for j, c in enumerate(columns) if len(x) and np.isnan(x[:, j]).all()]
    if never:
        raise DataError(f"not recorded in these runs: {', '.join(never)}")
    if bad.any():
        counts = ", ".join(
            f"{n} in {c}" for c, n in zip(columns, bad.sum(axis=0), strict=True) if n
        )
        raise DataError(f"values that are missing or infinite: {counts}, of {len(x)} rows")
    return x
