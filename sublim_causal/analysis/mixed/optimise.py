"""Minimise the criterion of one or many mixed models at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sublim_causal.analysis.mixed.parameters import Problem
from sublim_causal.analysis.mixed.reml import Evaluation, evaluate

Floats = NDArray[np.float64]

DECREASE = 1e-8
"""The search stops where a Newton step would lower the criterion by less than half of this."""
ROUNDING = 1e-6
"""A search that rounding stops at a predicted decrease below this has converged all the same."""
_LONGEST_STEP = 1.0


@dataclass(frozen=True)
class Minimum:
    """Where the search of each replicate ended.

    Attributes
    ----------
    theta : ndarray of shape (R, n_theta)
        Parameters.
    converged : ndarray of shape (R,)
        Whether the predicted decrease fell below `DECREASE`.
    """

    theta: Floats
    converged: NDArray[np.bool_]


Objective = Callable[[Floats, NDArray[np.int64]], Evaluation]


def minimise(
    objective: Objective, theta: Floats, inverse_hessian: Floats, max_steps: int = 100
) -> Minimum:
    """Minimise R functions at once: BFGS with a shared Armijo search over an active set.

    A gradient stop would never be met where the criterion is of size 1e6; the predicted decrease
    g'Hg does not depend on that size.

    Parameters
    ----------
    objective : callable
        From parameters (R', n) and the replicates they belong to (R',) to their `Evaluation`.
    theta : ndarray of shape (R, n)
        Start.
    inverse_hessian : ndarray of shape (n, n)
        First guess, shared.
    max_steps : int
        Line searches at most.
    """
    theta = theta.copy()
    active = np.arange(len(theta))
    inverse = np.repeat(inverse_hessian[None], len(theta), axis=0)
    first = objective(theta, active)
    value, gradient = first.criterion.copy(), first.gradient.copy()
    for _ in range(max_steps):
        step = -(inverse[active] @ gradient[active, :, None])[..., 0]
        decrease = -(step * gradient[active]).sum(axis=1)
        open_ = decrease > DECREASE
        active, step, decrease = active[open_], step[open_], decrease[open_]
        if not len(active):
            break
        stretch = (np.abs(step) / (1 + np.abs(theta[active]))).max(axis=1)
        step /= np.maximum(1.0, stretch / _LONGEST_STEP)[:, None]
        length, found = _line_search(objective, theta, value, gradient, active, step)
        moved = length > 0
        s = length[:, None] * step
        y = found.gradient - gradient[active]
        theta[active[moved]] += s[moved]
        value[active[moved]] = found.criterion[moved]
        gradient[active[moved]] = found.gradient[moved]
        _update(inverse, active[moved], s[moved], y[moved])
        active = active[moved]
    final = (gradient * (inverse @ gradient[..., None])[..., 0]).sum(axis=1)
    return Minimum(theta, (final <= DECREASE) & np.isfinite(value))


def _line_search(
    objective: Objective,
    theta: Floats,
    value: Floats,
    gradient: Floats,
    active: NDArray[np.int64],
    step: Floats,
) -> tuple[Floats, Evaluation]:
    """Halve the steps of those that have not lowered their criterion enough; 0 if none does."""
    slope = (step * gradient[active]).sum(axis=1)
    trial = np.ones(len(active))
    found = objective(theta[active] + step, active)
    criterion, grads = found.criterion.copy(), found.gradient.copy()
    # Rounding of a criterion of this size hides smaller changes.
    noise = 1e-13 * np.abs(value[active])
    for _ in range(25):
        poor = np.flatnonzero(~(criterion <= value[active] + 1e-4 * trial * slope + noise))
        if not len(poor):
            break
        trial[poor] /= 2
        again = objective(theta[active[poor]] + trial[poor, None] * step[poor], active[poor])
        criterion[poor], grads[poor] = again.criterion, again.gradient
    good = criterion <= value[active] + noise
    return np.where(good, trial, 0.0), Evaluation(
        criterion, grads, found.xx_inverse, found.coefficients, found.sigma2
    )


def _update(inverse: Floats, active: NDArray[np.int64], s: Floats, y: Floats) -> None:
    """BFGS update of the inverse Hessians, where the curvature along the step is positive."""
    sy = (s * y).sum(axis=1)
    fine = sy > 1e-12 * np.linalg.norm(s, axis=1) * np.linalg.norm(y, axis=1)
    active, s, y, sy = active[fine], s[fine], y[fine], sy[fine, None, None]
    h = inverse[active]
    hy = (h @ y[..., None])[..., 0]
    yhy = (y * hy).sum(axis=1)[:, None, None]
    cross = hy[:, :, None] * s[:, None, :]
    outer = s[:, :, None] * s[:, None, :]
    inverse[active] = h + (1 + yhy / sy) * outer / sy - (cross + cross.transpose(0, 2, 1)) / sy


def steps_of(problem: Problem, theta: Floats) -> Floats:
    """Difference steps: small against the parameter and against what a group's rows resolve."""
    resolution = 1 / np.sqrt(max(problem.design.n_obs / len(problem.design.groups), 1.0))
    return 1e-4 * np.maximum(np.abs(theta), resolution)


def hessian(problem: Problem, theta: Floats, weights: Floats) -> Floats:
    """Hessian of the profiled criterion: central differences of the analytic gradient."""
    step = np.diag(steps_of(problem, theta))
    found = evaluate(problem, np.concatenate([theta + step, theta - step]), weights)
    upper, lower = np.split(found.gradient, 2)
    h = (upper - lower) / (2 * np.diag(step)[:, None])
    return (h + h.T) / 2


def positive_inverse(h: Floats) -> Floats:
    """Inverse of the matrix with |eigenvalues|, so that a step goes downhill."""
    values, vectors = np.linalg.eigh(h)
    size = np.maximum(np.abs(values), 1e-6 * max(float(np.abs(values).max(initial=0.0)), 1e-12))
    return vectors / size @ vectors.T


def fit_theta(problem: Problem, max_rounds: int = 8) -> Minimum:
    """Minimise the criterion from a cold start: BFGS rounds, each from a fresh Hessian."""
    weights = np.ones((1, len(problem.design.groups)))
    theta = problem.starts()
    if not problem.n_theta:
        return Minimum(theta, np.array([True]))

    def objective(at: Floats, _: NDArray[np.int64]) -> Evaluation:
        return evaluate(problem, at, weights)

    if len(theta) > 1:
        reached = [
            minimise(objective, start[None], positive_inverse(hessian(problem, start, weights)))
            for start in theta
        ]
        theta = np.concatenate([minimum.theta for minimum in reached])
        theta = theta[[evaluate(problem, theta, weights).criterion.argmin()]]
    decrease = np.inf
    for _ in range(max_rounds):
        inverse = positive_inverse(hessian(problem, theta[0], weights))
        gradient = evaluate(problem, theta, weights).gradient[0]
        before, decrease = decrease, gradient @ inverse @ gradient
        if decrease <= DECREASE or (decrease <= ROUNDING and decrease >= before / 2):
            break
        theta = minimise(objective, theta, inverse).theta
    return Minimum(theta, np.array([decrease <= ROUNDING]))
