"""Minimise the criterion of a mixed model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sublim_causal.analysis.estimates.types import Floats
from sublim_causal.analysis.mixed.criterion.parameters import Problem
from sublim_causal.analysis.mixed.criterion.reml import evaluate

DECREASE = 1e-8
"""The optimisation stops where a Newton step would lower the criterion by less than half of
this."""
ROUNDING = 1e-6
"""An optimisation that rounding stops at a predicted decrease below this has converged too."""
_LONGEST_STEP = 1.0

MAX_STEPS = 100
"""Line searches of one BFGS round at most."""
MAX_ROUNDS = 8
"""BFGS rounds at most."""


@dataclass(frozen=True)
class Minimum:
    """Result of an optimisation.

    Attributes
    ----------
    theta : ndarray of shape (n_theta,)
        Parameters.
    converged : bool
        Whether a Newton step would lower the criterion by no more than rounding.
    """

    theta: Floats
    converged: bool


@dataclass(frozen=True)
class _Point:
    """A point of the optimisation: theta, criterion, and its gradient."""

    theta: Floats
    value: float
    gradient: Floats


def _point(problem: Problem, theta: Floats) -> _Point:
    found = evaluate(problem, theta[None])
    return _Point(theta, float(found.criterion[0]), found.gradient[0])


def minimise(problem: Problem, theta: Floats, inverse_hessian: Floats) -> Floats:
    """Minimise the criterion by BFGS with an Armijo search.

    A tolerance on the gradient is never met where the criterion is of size 1e6; the predicted
    decrease g'Hg does not depend on that size.

    Parameters
    ----------
    problem : Problem
        Model and data.
    theta : ndarray of shape (n,)
        Start.
    inverse_hessian : ndarray of shape (n, n)
        First guess.
    """
    here, inverse = _point(problem, theta), inverse_hessian
    for _ in range(MAX_STEPS):
        step = -inverse @ here.gradient
        if -step @ here.gradient <= DECREASE:
            break
        stretch = float((np.abs(step) / (1 + np.abs(here.theta))).max())
        there = _line_search(problem, here, step / max(1.0, stretch / _LONGEST_STEP))
        if there is None:
            break
        inverse = _updated(inverse, there.theta - here.theta, there.gradient - here.gradient)
        here = there
    return here.theta


def _line_search(problem: Problem, here: _Point, step: Floats) -> _Point | None:
    """Halve `step` until it lowers the criterion enough; None if no length does."""
    slope, trial = step @ here.gradient, 1.0
    # Rounding of a criterion of this size hides smaller changes.
    noise = 1e-13 * abs(here.value)
    there = _point(problem, here.theta + step)
    for _ in range(25):
        if there.value <= here.value + 1e-4 * trial * slope + noise:
            break
        trial /= 2
        there = _point(problem, here.theta + trial * step)
    return there if there.value <= here.value + noise else None


def _updated(inverse: Floats, s: Floats, y: Floats) -> Floats:
    """BFGS update of an inverse Hessian, where the curvature along the step is positive."""
    sy = s @ y
    if not sy > 1e-12 * np.linalg.norm(s) * np.linalg.norm(y):
        return inverse
    hy = inverse @ y
    cross = np.outer(hy, s)
    return inverse + (1 + y @ hy / sy) * np.outer(s, s) / sy - (cross + cross.T) / sy


def steps_of(problem: Problem, theta: Floats) -> Floats:
    """Difference steps: small against the parameter and against what a group's rows resolve."""
    resolution = 1 / np.sqrt(max(problem.design.n_obs / len(problem.design.groups), 1.0))
    return 1e-4 * np.maximum(np.abs(theta), resolution)


def hessian(problem: Problem, theta: Floats) -> Floats:
    """Hessian of the profiled criterion: central differences of the analytic gradient."""
    step = np.diag(steps_of(problem, theta))
    found = evaluate(problem, np.concatenate([theta + step, theta - step]))
    upper, lower = np.split(found.gradient, 2)
    h = (upper - lower) / (2 * np.diag(step)[:, None])
    return (h + h.T) / 2


def positive_inverse(h: Floats) -> Floats:
    """Inverse of the matrix with |eigenvalues|, so that a step goes downhill."""
    values, vectors = np.linalg.eigh(h)
    size = np.maximum(np.abs(values), 1e-6 * max(float(np.abs(values).max(initial=0.0)), 1e-12))
    return vectors / size @ vectors.T


def fit_theta(problem: Problem) -> Minimum:
    """Minimise the criterion from a cold start: BFGS rounds, each from a fresh Hessian."""
    starts = problem.starts()
    if not problem.n_theta:
        return Minimum(starts[0], True)
    if len(starts) > 1:
        starts = np.stack(
            [minimise(problem, one, positive_inverse(hessian(problem, one))) for one in starts]
        )
    theta = starts[evaluate(problem, starts).criterion.argmin()]
    decrease = np.inf
    for _ in range(MAX_ROUNDS):
        inverse = positive_inverse(hessian(problem, theta))
        gradient = evaluate(problem, theta[None]).gradient[0]
        before, decrease = decrease, gradient @ inverse @ gradient
        if decrease <= DECREASE or (decrease <= ROUNDING and decrease >= before / 2):
            break
        theta = minimise(problem, theta, inverse)
    return Minimum(theta, bool(decrease <= ROUNDING))
