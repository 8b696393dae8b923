"""Run a plan on a record: every declared estimand becomes a result, or says why it cannot."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from sublim_causal.analysis.arms.contrasts import (
    family_differences,
    holm,
    p_values,
    sign_flip_max_t,
    with_adjusted,
)
from sublim_causal.analysis.estimates.settings import Settings
from sublim_causal.analysis.estimates.types import NotEstimable, Result
from sublim_causal.analysis.plan.declaration import Declared, WithInterval
from sublim_causal.analysis.plan.file import Plan, load_plan
from sublim_causal.analysis.plan.record import Record, read_record
from sublim_causal.analysis.plan.registry import METHODS
from sublim_causal.analysis.plan.results import Results
from sublim_causal.analysis.plan.verdicts import judge
from sublim_causal.errors import DataError, RequestError
from sublim_causal.location import locate

Progress = Callable[[int, int, str], None]
"""Called with estimands done, estimands in all, and the name of the one that comes next."""


def analyse(
    run: str | Path, plan: Plan | str | Path = "primary", progress: Progress | None = None
) -> Results:
    """Estimate what `plan` declares from the run directory `run`.

    Parameters
    ----------
    run : str or Path
        Run directory.
    plan : Plan, str or Path
        A plan, its path, or the name of a built-in one.
    progress : callable, optional
        Called before each estimand and once at the end.

    Returns
    -------
    Results
        Bootstrap streams derive from the plan's digest and the estimand's name, so the same
        tables and plan give the same numbers. What data cannot say (an arm that was not run,
        values that are not finite) is a `NotEstimable` with its reason.

    Raises
    ------
    RequestError
        If the plan is wrong.
    RunError
        If `run` is no run directory or has nothing finished yet.
    """
    plan = plan if isinstance(plan, Plan) else load_plan(plan)
    columns = {column for one in plan.estimands for column in one.step_columns()}
    record = read_record(locate(run), columns, any(one.needs_layers() for one in plan.estimands))
    said = progress or (lambda done, total, name: None)
    parts: list[tuple[Declared, Sequence[Result]]] = []
    for done, declared in enumerate(plan.estimands):
        said(done, len(plan.estimands), declared.name)
        parts.append((declared, _estimate(record, declared, plan)))
    said(len(parts), len(parts), "")
    results = _adjusted(record, plan, parts)
    return Results(
        plan=plan.name,
        plan_digest=plan.digest,
        level=plan.level,
        run=record.name,
        run_id=record.run_id,
        arms=record.arms,
        n_seeds=record.n_seeds,
        statuses=record.statuses(),
        version=_version(),
        results=results,
        verdicts=judge(plan.claims, results, plan.estimands),
    )


def _estimate(record: Record, declared: Declared, plan: Plan) -> Sequence[Result]:
    settings = Settings(
        level=plan.level,
        interval=declared.interval if isinstance(declared, WithInterval) else "auto",
        n_boot=plan.n_boot,
        rng=_stream(plan, declared.name),
    )
    try:
        found = METHODS[declared.method].estimate(record, declared, settings)
    except DataError as error:
        return [NotEstimable(declared.estimand(""), str(error))]
    except RequestError as error:
        where = f"estimand {declared.name}: {error.field}"
        raise RequestError(where, error.value, error.allowed, error.remedy) from error
    return [_with_dropped(record, one) for one in found]


def _with_dropped(record: Record, found: Result) -> Result:
    """Count as left out every seed of the run that did not enter.

    What an estimator is given need not hold them all: `Record.steps` is without diverged runs.
    """
    if isinstance(found, NotEstimable):
        return found
    return replace(found, n_dropped=record.n_seeds - found.n_seeds)


def _stream(plan: Plan, name: str) -> np.random.Generator:
    return np.random.default_rng([int(plan.digest, 16), zlib.crc32(name.encode())])


def _adjusted(
    record: Record, plan: Plan, parts: Sequence[tuple[Declared, Sequence[Result]]]
) -> tuple[Result, ...]:
    results = [one for _, found in parts for one in found]
    for family, how in plan.families.items():
        places = [i for i, one in enumerate(results) if one.estimand.family == family]
        members = [results[i] for i in places]
        if how == "holm":
            adjusted = holm(p_values(members))
        else:
            rng = _stream(plan, f"family {family}")
            adjusted = sign_flip_max_t(_differences(record, members), rng=rng)
        for i, one in zip(places, with_adjusted(members, adjusted, how), strict=True):
            results[i] = one
    return tuple(results)


def _differences(record: Record, members: Sequence[Result]) -> np.ndarray:
    """Differences of a family's paired contrasts, seeds by members; NaN without a pair."""
    pairs = [None if isinstance(one, NotEstimable) else one.estimand for one in members]
    contrasts = [None if one is None else (one.column, one.arm, one.reference) for one in pairs]
    return family_differences(record.replicates, contrasts)


def _version() -> str:
    try:
        return version("sublim-causal")
    except PackageNotFoundError:
        return "unknown"
