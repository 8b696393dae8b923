r"""Whether students prefer what they were taught: the diagonal of taught by evaluated.

Of run i and trait k, lift :math:`y_{ik}` (log-odds minus the reference's) and whether a teacher of
the run prefers it, :math:`d_{ik} \in \{0, 1\}`:

.. math:: y_{ik} = r_i + c_k + \gamma d_{ik} + e_{ik}

Row effects take up how far a run moves at all, column effects what all runs come to prefer, and
:math:`\gamma` is what is specific to the trait that was taught.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sublim_causal.analysis.estimates.types import Floats

Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Matrix:
    """Lifts of runs, each on all traits.

    Attributes
    ----------
    lift : ndarray of shape (S, A, K)
        Of S seeds, A arms and K traits, in nats.
    taught : bool ndarray of shape (S, A, K)
        Whether a teacher of the arm prefers the trait, in that seed.
    """

    lift: Floats
    taught: Flags

    def without(self, seed: int) -> Matrix:
        """Return the matrix of the other seeds, given the place of one."""
        return Matrix(np.delete(self.lift, seed, axis=0), np.delete(self.taught, seed, axis=0))

    def by_taught(self) -> Floats:
        """Return the mean lift ``(K, K)`` of each trait where one was taught; NaN: it was not."""
        weight = self.taught.reshape(-1, self.taught.shape[2]).astype(float)
        total = weight.T @ self.lift.reshape(weight.shape)
        count = weight.sum(axis=0)[:, None]
        return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def centred(values: NDArray[np.generic]) -> Floats:
    """Return `values` ``(..., S, A, K)`` without the means of runs and of traits."""
    x = values - values.mean(axis=-1, keepdims=True, dtype=float)
    return np.asarray(x - x.mean(axis=(-3, -2), keepdims=True), dtype=float)


def gamma(matrix: Matrix) -> float:
    """Return the least-squares coefficient of what was taught; NaN where it is not identified."""
    d = centred(matrix.taught)
    norm = (d * d).sum()
    return float((d * matrix.lift).sum() / norm) if norm > 1e-9 else float("nan")


def jackknife(matrix: Matrix) -> Floats:
    """Return gamma ``(S,)`` without each seed in turn, traits centred anew."""
    return np.array([gamma(matrix.without(seed)) for seed in range(len(matrix.lift))])


def permuted(matrix: Matrix, count: int, rng: np.random.Generator) -> Floats:
    """Return gamma ``(count,)`` after whole runs exchanged what they were taught.

    Seeds exchange it, all their arms together; if all seeds were taught the same, the arms of each
    seed do.
    """
    lift, d = centred(matrix.lift), centred(matrix.taught)
    norm = (d * d).sum()
    seeds, arms = d.shape[:2]
    between = (matrix.taught != matrix.taught[:1]).any()
    found = np.empty(count)
    for draw in range(count):
        if between:
            exchanged = d[rng.permutation(seeds)]
        else:
            order = rng.permuted(np.tile(np.arange(arms), (seeds, 1)), axis=1)
            exchanged = np.take_along_axis(d, order[:, :, None], axis=1)
        found[draw] = (exchanged * lift).sum() / norm
    return found


def permutation_p(value: float, draws: Floats) -> float:
    """Return the two-sided p of `value` among its `draws` under the null, never 0."""
    extreme = np.abs(draws) >= abs(value) * (1 - 1e-12)
    return float((1 + extreme.sum()) / (1 + len(draws)))
