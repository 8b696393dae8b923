"""The plan of a report: what it shows beside what a user's plan declares.

It is run through the same registry on the same record. A quantity that the user's plan declares is
not declared again, so that each has one number.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from sublim_causal.analysis.estimates.types import Result
from sublim_causal.analysis.plan.declaration import EACH, Declared
from sublim_causal.analysis.plan.file import Plan
from sublim_causal.analysis.plan.generated import paper
from sublim_causal.analysis.plan.generated.design import Design
from sublim_causal.analysis.plan.methods.slopes import StepSlope
from sublim_causal.analysis.plan.registry import METHODS

UNDECLARED = "added by the report, beside what the plan declares"
MEANS = (
    "final_accuracy",
    "robust_accuracy",
    "mean_cos_gradient",
    "share_positive",
    "mean_cos_update",
)
"""Columns of ``replicates`` whose mean a report gives by arm."""
SHARED = ("teacher_accuracy", "initial_accuracy", "teacher_robust_accuracy")
"""Columns of ``replicates`` that the arms of a seed share."""
EXAMPLE = ("gain", "cos_update")
"""Outcome and predictor of the model that is shown in full, where the plan declares it."""
_WORDS = ("name", "sentence", "assumptions", "family", "role")
_CHOICE = (*_WORDS, "arm", "contrast", "interval")


def report_plan(design: Design, *, layers: bool = False) -> Plan:
    """Return what a report shows beside the plan of `design`.

    Parameters
    ----------
    design : Design
        The plan and the arms of the run.
    layers : bool
        Whether the run recorded layers.

    Returns
    -------
    Plan
        Of the level and the bootstrap replicates of the user's plan.
    """
    return _plan(design, "report", [*_glance(design), *_paper(design), *_beside(design, layers)])


def glance_plan(design: Design) -> Plan:
    """Return what a comparison of runs says of each run beside the plan of `design`."""
    return _plan(design, "glance", _glance(design))


def _plan(design: Design, name: str, estimands: Iterator[Declared] | list[Declared]) -> Plan:
    plan = design.plan
    known = {_content(one) for one in design.estimands}
    taken = {one.name for one in plan.estimands}
    return Plan(
        name=name,
        sentence=f"What is shown beside the plan {plan.name}.",
        level=plan.level,
        n_boot=plan.n_boot,
        estimands=tuple(
            _called_apart(one, taken) for one in estimands if _content(one) not in known
        ),
    )


def _called_apart(declared: Declared, taken: set[str]) -> Declared:
    """Return `declared` under a name that the user's plan does not use."""
    name = declared.name
    while name in taken:
        name = f"{name}_added"
    return declared.model_copy(update={"name": name})


def new_results(
    design: Design, results: tuple[Result, ...], added_plan: Plan, added: tuple[Result, ...]
) -> tuple[Result, ...]:
    """Return those of `added` whose quantity is not among the `results` of the plan."""
    known = {_quantity(design.estimands, one) for one in results}
    return tuple(one for one in added if _quantity(added_plan.estimands, one) not in known)


def _content(declared: Declared) -> str:
    """Return what a declaration estimates, whatever it is called."""
    return declared.model_dump_json(exclude=set(_WORDS))


def _quantity(estimands: Sequence[Declared], result: Result) -> tuple[str, ...]:
    """Return what a result is of: its method, the arms and part, and the options."""
    one = result.estimand
    declared = next(each for each in estimands if each.name == one.declared)
    return (declared.model_dump_json(exclude=set(_CHOICE)), one.arm, one.reference, one.part)


def _declare(method: str, name: str, sentence: str, **fields: Any) -> Declared:
    return METHODS[method].declaration(
        name=name, sentence=sentence, method=method, assumptions=(UNDECLARED,), **fields
    )


def _glance(design: Design) -> Iterator[Declared]:
    """Declare counts and means; of a run of one's own, those that it has."""
    yield _declare("run_totals", "run", "Complete seeds, steps, and the time that training took.")
    yield _declare("replicate_counts", "replicates", "Replicates of an arm by status.")
    rows = design.record.replicates
    columns = [*MEANS, *SHARED]
    if design.record.own:
        absent = {"robust_accuracy", "teacher_robust_accuracy"}
        columns = [c for c in columns if c not in absent or rows[c].notna().any()]
    for column in filter(MEANS.__contains__, columns):
        sentence = f"Mean of {column} over the seeds of an arm."
        yield _declare("arm_mean", f"mean_{column.removeprefix('mean_')}", sentence, outcome=column)
    for column in filter(SHARED.__contains__, columns):
        yield _declare("seed_mean", column, f"Mean of {column} over seeds.", outcome=column)


def _paper(design: Design) -> Iterator[Declared]:
    """Declare the range of single seeds beside each figure of the paper, in its replication."""
    if design.record.name != paper.STUDY:
        return
    for i, quoted in enumerate(paper.QUOTED, 1):
        if quoted.arm in design.arms:
            yield _declare(
                "seed_range",
                f"paper_{i}",
                f"Range of single seeds beside the paper's {quoted.label}.",
                outcome=quoted.column,
                arm=quoted.arm,
                published=quoted.value,
            )


def _beside(design: Design, layers: bool) -> Iterator[Declared]:
    yield from _acquisition(design)
    yield from _slopes(design.plan)
    yield from _ledger(design, layers)
    yield from _through_alignment(design)
    yield from _doses(design)


def _each(design: Design) -> str:
    return f"{EACH} - {design.reference}"


def _acquisition(design: Design) -> Iterator[Declared]:
    yield _declare(
        "arm_mean",
        "acquired",
        "Test accuracy that an arm acquires: after training minus before.",
        outcome="final_accuracy",
        start="initial_accuracy",
    )
    yield _declare(
        "collapsed_seeds",
        "collapsed",
        "Share of seeds whose final accuracy lies below a wide gap.",
        outcome="final_accuracy",
    )
    yield _declare(
        "removed_share",
        "removed_share",
        f"Share of the accuracy that {design.reference!r} acquires and an arm prevents.",
        contrast=_each(design),
    )


def _slopes(plan: Plan) -> Iterator[Declared]:
    """Declare, for the slopes of `plan`, whether the levels are equal; and one model in full."""
    slopes = [one for one in plan.estimands if isinstance(one, StepSlope)]
    by_level = {(one.outcome, one.predictor) for one in slopes if one.split == "levels"}
    pairs = list(dict.fromkeys((one.outcome, one.predictor) for one in slopes))
    for outcome, predictor in pairs:
        if (outcome, predictor) not in by_level:
            yield _declare(
                "mundlak",
                f"{outcome}_on_{predictor}",
                f"Slope of {outcome} on {predictor} within a run, between arms, between seeds.",
                outcome=outcome,
                predictor=predictor,
            )
    if pairs:
        outcome, predictor = EXAMPLE if EXAMPLE in pairs else pairs[0]
        yield _declare(
            "slope_model",
            "slope_in_full",
            f"Slope of {outcome} on {predictor} over all arms, with its model in full.",
            outcome=outcome,
            predictor=predictor,
        )


def _ledger(design: Design, layers: bool) -> Iterator[Declared]:
    yield _declare(
        "arm_mean", "sum_gain", "Mean drop of the trait loss over a run.", outcome="sum_gain"
    )
    of_drop = "Share of the drop of the trait loss that"
    yield _declare("explained_share", "share_drive", f"{of_drop} the drive adds up to.")
    yield _declare(
        "explained_share",
        "share_drive_mid",
        f"{of_drop} the drive adds up to by the trapezoid rule.",
        term="drive_mid",
    )
    if layers:
        yield _declare(
            "explained_share",
            "share_drive_layer",
            f"{of_drop} the drive of a layer adds up to.",
            by="layer",
        )
    yield _declare(
        "ledger_difference",
        "ledger",
        "Arm difference in the drop of the trait loss, split into drive and remainder.",
        contrast=_each(design),
    )


def _through_alignment(design: Design) -> Iterator[Declared]:
    for yoking in design.yokings():
        yield _declare(
            "cross_world",
            _name("cross_world", yoking.yoked),
            f"Effect of {yoking.arm!r} on final accuracy, split by yoked runs.",
            arm=yoking.arm,
            reference=design.reference,
            yoked=yoking.yoked,
            # An arm that the run does not have: the parts that need it say so.
            reverse=yoking.reverse or "reverse",
        )
    yield _declare(
        "mediation",
        "mediation",
        "Effect of an arm on final accuracy, split by regression on mean update alignment.",
        contrast=_each(design),
    )
    yield _declare(
        "mediation_sensitivity",
        "mediation_rho",
        "Correlation of the errors at which the indirect effect of an arm vanishes.",
        contrast=_each(design),
    )


def _doses(design: Design) -> Iterator[Declared]:
    for space, doses in design.doses().items():
        common = {"space": space, "undosed": doses.undosed}
        for shape in ("slope", "changes", "linear", "isotonic"):
            yield _declare(
                "dose_trend",
                f"dose_{shape}_{space}",
                f"Final accuracy over the strengths in {space} space: {shape}.",
                shape=shape,
                **common,
            )
        for method, what in _INSTRUMENTED.items():
            yield _declare(
                method, f"{method}_{space}", f"{what}, doses in {space} space.", **common
            )


_INSTRUMENTED = {
    "iv_linear_dose": "Effect of alignment on final accuracy by the strength",
    "iv_2sls": "Effect of alignment on final accuracy by two-stage least squares",
    "anderson_rubin": "Effect of alignment on final accuracy that agrees with all strengths",
    "wald_by_dose": "Change of final accuracy over change of alignment at one strength",
    "egger_intercept": "Change of final accuracy by a dose that leaves alignment as it is",
}
"""Methods that take the dose as an instrument, and what they estimate."""


def _name(prefix: str, arm: str) -> str:
    """Return an identifier of `arm`, by which a plan can call an estimand."""
    return f"{prefix}_{re.sub(r'[^a-z0-9]+', '_', arm.lower())}"[:80]
