"""The mixed models and within-step slopes of a plan, refitted with statsmodels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from sublim_causal.analysis.mixed.crosscheck import AGREES, CrossCheck, check_mixed
from sublim_causal.analysis.plan.declaration import Declared
from sublim_causal.analysis.plan.file import Plan, load_plan
from sublim_causal.analysis.plan.methods.comparable import comparable_arms
from sublim_causal.analysis.plan.methods.effects import MundlakSlopes
from sublim_causal.analysis.plan.methods.mixed import MixedModel, rows_of_formula
from sublim_causal.analysis.plan.methods.slopes import SlopeModelInFull, StepSlope
from sublim_causal.analysis.plan.record import Record, read_record
from sublim_causal.analysis.plan.run import Progress
from sublim_causal.analysis.steps.slopes import Split, slope_model
from sublim_causal.analysis.steps.two_way import two_way, within_run_and_step
from sublim_causal.errors import DataError, RequestError
from sublim_causal.location import locate


@dataclass(frozen=True)
class CheckedFit:
    """An estimand of a plan and how its refit compares."""

    name: str
    check: CrossCheck


def cross_check(
    run: str | Path, plan: Plan | str | Path = "primary", progress: Progress | None = None
) -> tuple[CheckedFit, ...]:
    """Refit the mixed models and slopes that `plan` declares of `run` with statsmodels.

    Parameters
    ----------
    run, plan, progress
        As in `analyse`.

    Returns
    -------
    tuple of Checked
        One for each fit; an estimand of all arms, each fitted on its own, has one for each arm.

    Raises
    ------
    RequestError
        If the plan is wrong.
    RunError
        If `run` is not a run directory or has nothing finished yet.
    """
    plan = plan if isinstance(plan, Plan) else load_plan(plan)
    chosen = [one for one in plan.estimands if isinstance(one, _FITTED)]
    record = read_record(locate(run), {c for one in chosen for c in one.step_columns()})
    report_progress = progress or (lambda done, total, name: None)
    found: list[CheckedFit] = []
    for done, declared in enumerate(chosen):
        report_progress(done, len(chosen), declared.name)
        found += _checks(record, declared)
    report_progress(len(chosen), len(chosen), "")
    return tuple(found)


_FITTED = (StepSlope, SlopeModelInFull, MundlakSlopes, MixedModel)


def _checks(record: Record, declared: Declared) -> Iterator[CheckedFit]:
    if isinstance(declared, StepSlope) and declared.adjust == "step":
        arms = [[arm] for arm in record.arms]
        if declared.split == "pooled":
            arms = [list(comparable_arms(record))]
        for group in arms:
            ending = f"_{group[0]}" * (declared.split == "by_arm")
            yield CheckedFit(f"{declared.name}{ending}", _slope(record, declared, group))
    else:
        yield CheckedFit(declared.name, _model(record, declared))


def _slope(record: Record, declared: StepSlope, arms: Sequence[str]) -> CrossCheck:
    steps = record.steps[record.steps["arm"].isin(arms)]
    try:
        return check_slope(steps, declared.outcome, declared.predictor)
    except DataError as error:
        return _refused(error)


def check_slope(steps: pd.DataFrame, outcome: str, predictor: str) -> CrossCheck:
    """Refit a slope within runs and steps with ``OLS``, clustered by seed without correction.

    The slope is compared, and the CR0 standard error, which CR2 adjusts.

    Raises
    ------
    RequestError, DataError
        As in `two_way`.
    """
    import statsmodels.api as sm

    ours = two_way(steps, outcome, predictor)
    scores = ours.xy - ours.slope * ours.xx
    own = float(np.sqrt((scores**2).sum()) / ours.xx.sum())
    within = within_run_and_step(steps, outcome, predictor)
    groups = {"groups": within.places[0], "use_correction": False}
    found = sm.OLS(within.y[within.places], within.x[within.places]).fit(
        cov_type="cluster", cov_kwds=groups
    )
    shift = abs(float(found.params[0]) - ours.slope) / own
    change = abs(float(found.bse[0]) / own - 1)
    verdict = "agrees" if max(shift, change) <= AGREES else "differs"
    return CrossCheck("statsmodels OLS, clustered by seed", shift, change, None, verdict)


def _model(record: Record, declared: Declared) -> CrossCheck:
    try:
        if isinstance(declared, MixedModel):
            return check_mixed(
                rows_of_formula(record, declared),
                declared.formula,
                residual=declared.residual,
                arm_variances=declared.arm_variances,
            )
        assert isinstance(declared, StepSlope | SlopeModelInFull | MundlakSlopes)
        split: Split = "pooled"
        if isinstance(declared, StepSlope):
            split = declared.split
        elif isinstance(declared, MundlakSlopes):
            split = "levels"
        model = slope_model(record.steps, declared.outcome, declared.predictor, split)
        return check_mixed(model.data, model.formula)
    except (DataError, RequestError) as error:
        return _refused(error)


def _refused(error: Exception) -> CrossCheck:
    return CrossCheck("none", None, None, None, f"not fitted: {str(error).splitlines()[0]}")


def cross_check_table(checked: Sequence[CheckedFit], width: int | None = None) -> str:
    """Return a row for each fit and how many agree; `width` as in `Results.table`."""
    if not checked:
        return "cross-check: the plan declares no mixed model and no per-step slope"
    from sublim_causal.analysis.plan.results.text_tables import TableColumns, plain_text

    header = ("coefficients", "errors", "log-lik.", "refit", "verdict")
    columns = TableColumns("", header, "left", [_row(one) for one in checked])
    lines = plain_text("estimand", [one.name for one in checked], [columns], width)
    agreeing = sum(one.check.agrees for one in checked)
    return "\n".join(
        [
            "cross-check with statsmodels",
            "coefficients: largest difference, in standard errors; errors: largest relative "
            "difference; log-lik.: ours minus theirs",
            "",
            *lines,
            "",
            *(f"- {one.name}: {one.check.note}" for one in checked if one.check.note),
            f"{agreeing} of {len(checked)} fits agree",
        ]
    )


def _row(one: CheckedFit) -> tuple[str, ...]:
    check = one.check
    numbers = (check.coefficients, check.errors, check.likelihood)
    shown = ("" if number is None else f"{number:.1g}" for number in numbers)
    return (*shown, check.software.removeprefix("statsmodels "), check.verdict)
