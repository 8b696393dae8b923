"""Run a plan on a record: every declared estimand becomes a result, or says why it cannot."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from sublim_causal.analysis.arms.contrasts import family_differences
from sublim_causal.analysis.arms.multiplicity import (
    fixed_sequence,
    holm,
    p_values,
    sign_flip_max_t,
    with_adjusted,
)
from sublim_causal.analysis.arms.simultaneous import with_simultaneous
from sublim_causal.analysis.estimates.settings import Settings
from sublim_causal.analysis.estimates.types import NotEstimable, Result
from sublim_causal.analysis.plan.claims.verdicts import judge
from sublim_causal.analysis.plan.declaration import Declared, WithInterval
from sublim_causal.analysis.plan.file import Adjustment, Plan, load_plan
from sublim_causal.analysis.plan.generated.design import Design
from sublim_causal.analysis.plan.generated.report import glance_plan, new_results, report_plan
from sublim_causal.analysis.plan.looks import account_for_looks, validate_rule_of_plan
from sublim_causal.analysis.plan.outcomes import for_outcome
from sublim_causal.analysis.plan.record import (
    Record,
    columns_of_run,
    has_layers,
    read_record,
    read_runs,
    with_steps,
)
from sublim_causal.analysis.plan.registry import METHODS
from sublim_causal.analysis.plan.results.curves import COLUMNS, Curves, read_curves
from sublim_causal.analysis.plan.results.results import Results
from sublim_causal.errors import DataError, RequestError, RunError
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
        Bootstrap draws depend on the number of seeds and on `n_boot` alone, as those of an
        estimator called with `Settings`: a quantity has the same interval in every plan, whatever
        its name there. What data cannot say (an arm that was not run, values that are not finite)
        is a `NotEstimable` with its reason.

    Raises
    ------
    RequestError
        If the plan is wrong.
    RunError
        If `run` is not a run directory or has nothing finished yet.
    """
    run = locate(run)
    with columns_of_run(run):
        plan = plan if isinstance(plan, Plan) else load_plan(plan)
        columns, layers = needed(plan)
        record = read_record(run, columns, layers)
        validate_rule_of_plan(record, plan)
        return run_plan(record, for_outcome(plan, record.outcome), progress)


def needed(*plans: Plan) -> tuple[set[str], bool]:
    """Return the columns of ``steps`` that `plans` need, and whether they need ``layers``."""
    estimands = [one for plan in plans for one in plan.estimands]
    columns = {column for one in estimands for column in one.step_columns()}
    return columns, any(one.needs_layers() for one in estimands)


@dataclass(frozen=True)
class Analysis:
    """What a report shows: a user's plan and a generated one, run on one reading of a run.

    Attributes
    ----------
    results : Results
        Of the user's plan.
    added_plan : Plan
        What the report shows beside it.
    added : Results
        Of `added_plan`, without quantities that `results` hold.
    design : Design
        The user's plan, and the arms of the run as it compares them.
    curves : Curves
        What the pictures draw.
    has_layers : bool
        Whether the run recorded layers.
    """

    results: Results
    added_plan: Plan
    added: Results
    design: Design
    curves: Curves
    has_layers: bool


def analyse_for_report(
    run: str | Path, plan: Plan | str | Path = "primary", *, in_full: bool = True
) -> Analysis:
    """Estimate what `plan` declares from `run`, and what a report shows beside it.

    Parameters
    ----------
    run, plan
        As in `analyse`.
    in_full : bool
        Whether beside the plan everything of a report is estimated, or what a comparison of two
        runs shows.

    Raises
    ------
    RequestError
        If the plan is wrong.
    RunError
        If `run` is not a run directory, is damaged, or has nothing complete yet.
    """
    run = locate(run)
    with columns_of_run(run):
        return _for_report(run, plan, in_full)


def _for_report(run: Path, plan: Plan | str | Path, in_full: bool) -> Analysis:
    plan = plan if isinstance(plan, Plan) else load_plan(plan)
    record = read_runs(run)
    if record.complete.empty:
        states = ", ".join(f"{n} {state}" for state, n in record.statuses().items())
        raise RunError(
            f"{run}: no replicate is complete ({states}), so there is nothing to report\n"
            "remedy: see the reasons with `sublim-causal status`, then run the study again"
        )
    validate_rule_of_plan(record, plan)
    plan = for_outcome(plan, record.outcome)
    design = Design(record, plan)
    recorded = has_layers(run)
    added_plan = report_plan(design, layers=recorded) if in_full else glance_plan(design)
    added_plan = for_outcome(added_plan, record.outcome)
    columns, layers = needed(plan, added_plan)
    record = with_steps(record, run, columns | {*COLUMNS}, layers=layers, evaluations=True)
    results = run_plan(record, plan)
    added = run_plan(record, added_plan)
    new = new_results(design, results.results, added_plan, added.results)
    return Analysis(
        results=results,
        added_plan=added_plan,
        added=replace(added, results=new),
        design=Design(record, plan),
        curves=read_curves(record, plan.level),
        has_layers=recorded,
    )


def run_plan(record: Record, plan: Plan, progress: Progress | None = None) -> Results:
    """Estimate what `plan` declares from `record`; see `analyse`."""
    results = estimate(record, plan, plan.estimands, progress)
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


def estimate(
    record: Record, plan: Plan, estimands: Sequence[Declared], progress: Progress | None = None
) -> tuple[Result, ...]:
    """Estimate `estimands` from `record`, adjusted by the families of `plan` and for its looks."""
    report_progress = progress or (lambda done, total, name: None)
    parts: list[tuple[Declared, Sequence[Result]]] = []
    for done, declared in enumerate(estimands):
        report_progress(done, len(estimands), declared.name)
        parts.append((declared, _estimate(record, declared, plan)))
    report_progress(len(parts), len(parts), "")
    return account_for_looks(record, estimands, _adjusted(record, plan, parts), plan.level)


def _estimate(record: Record, declared: Declared, plan: Plan) -> Sequence[Result]:
    declared = declared.resolved(record.reference)
    settings = Settings(
        level=plan.level,
        interval=declared.interval if isinstance(declared, WithInterval) else "auto",
        n_boot=plan.n_boot,
    )
    try:
        measured = record.measuring(declared.step_columns())
        found = METHODS[declared.method].estimate(measured, declared, settings)
    except DataError as error:
        return [NotEstimable(declared.estimand(""), str(error))]
    except RequestError as error:
        where = f"estimand {declared.name}: {error.field}"
        raise RequestError(where, error.value, error.allowed, error.remedy) from error
    n_seeds = declared.count_seeds(record.replicates)
    return [_with_role(declared, _with_dropped(n_seeds, one)) for one in found]


def _with_role(declared: Declared, found: Result) -> Result:
    """Remove the p-value of an exploratory estimate: no test of it was planned."""
    if declared.role != "exploratory" or isinstance(found, NotEstimable):
        return found
    return replace(found, p_value=None)


def _with_dropped(n_seeds: int, found: Result) -> Result:
    """Count as left out each of the `n_seeds` seeds that did not enter.

    An estimator need not be given them all: `Record.steps` lacks diverged runs.
    """
    if isinstance(found, NotEstimable):
        return found
    return replace(found, n_dropped=n_seeds - found.n_seeds)


def _adjusted(
    record: Record, plan: Plan, parts: Sequence[tuple[Declared, Sequence[Result]]]
) -> tuple[Result, ...]:
    results = [one for _, found in parts for one in found]
    for family, how in plan.families.items():
        places = [i for i, one in enumerate(results) if one.estimand.family == family]
        members = [results[i] for i in places]
        for i, one in zip(places, _of_family(record, plan, how, members), strict=True):
            results[i] = one
    return tuple(results)


def _of_family(
    record: Record, plan: Plan, how: Adjustment, members: Sequence[Result]
) -> tuple[Result, ...]:
    """Adjust the p-values of a family; members of equal rank get simultaneous intervals."""
    if how == "gate":
        return fixed_sequence(members)
    if how == "holm" or not record.paired:  # sign flips need differences by seed
        adjusted = with_adjusted(members, holm(p_values(members)), "holm")
        return with_simultaneous(adjusted, plan.level)
    differences = _differences(record, members)
    adjusted = with_adjusted(members, sign_flip_max_t(differences), how)
    return with_simultaneous(adjusted, plan.level, differences=differences)


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
