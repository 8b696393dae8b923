"""What a plan can ask of effects and their parts: by yoked runs, by levels, as shares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

from sublim_causal.analysis.causal.crossworld import clamp_error, controlled_direct, cross_world
from sublim_causal.analysis.causal.doses import OUTCOME, TREATMENT
from sublim_causal.analysis.estimates.intervals import mean_interval
from sublim_causal.analysis.estimates.ratios import ratio_of_sums
from sublim_causal.analysis.estimates.settings import Settings
from sublim_causal.analysis.estimates.types import FRACTION, Estimate, Result
from sublim_causal.analysis.plan.declaration import (
    REFERENCE,
    Contrasted,
    ReplicateColumn,
    StepColumn,
    WithInterval,
    column_unit,
    difference_of,
    with_unit,
)
from sublim_causal.analysis.plan.method import (
    ACQUIRED,
    Method,
    Pair,
    absent,
    acquired,
    as_declared,
    by_pair,
    with_diagnostics,
    with_note,
)
from sublim_causal.analysis.plan.methods.mediation import EFFECTS, of_part
from sublim_causal.analysis.plan.methods.slopes import OnAlignment
from sublim_causal.analysis.plan.record import Record
from sublim_causal.analysis.steps.mundlak import mundlak
from sublim_causal.analysis.steps.slopes import LEVELS, UNADJUSTED


class CrossWorldEffects(WithInterval):
    """Total effect of an arm, split by yoked runs.

    `interval` is that of the effects. The proportions and the residual mediator gap are
    ratios and have Fieller's set, the former the hull with bootstrap-t where seeds are skewed.
    """

    arm: str = "projection"
    """The arm."""
    reference: str = REFERENCE
    """The arm it is compared with."""
    yoked: str = "yoked"
    """The arm's procedure at the reference's alignment."""
    reverse: str = "reverse"
    """The reference's procedure at the arm's alignment; its parts need it."""
    arm_fields: ClassVar[tuple[str, ...]] = ("reference",)
    outcome: ReplicateColumn = OUTCOME
    """Column of ``replicates``."""
    mediator: ReplicateColumn = TREATMENT
    """Column of ``replicates``."""

    def about(self) -> dict[str, str]:
        """Arms, column and unit."""
        return {"arm": self.arm, "reference": self.reference, **difference_of(self.outcome)}

    def endings(self) -> tuple[str, ...]:
        """The parts."""
        return ("te", *EFFECTS, "interaction", "pnie_proportion", "residual_mediator_gap")


class ControlledDirect(Contrasted, WithInterval):
    """Effect of a procedure at a fixed alignment: both arms follow one trajectory."""

    def about(self) -> dict[str, str]:
        """Arms, column and unit."""
        return {**super().about(), **difference_of(self.outcome)}

    outcome: ReplicateColumn = OUTCOME
    """Column of ``replicates``."""
    mediator: ReplicateColumn = TREATMENT
    """Column of ``replicates``."""


class ClampGap(WithInterval):
    """Mean distance, over steps, of a yoked arm's alignment from its target's."""

    yoked: str = "yoked"
    """The clamped arm."""
    target: str = REFERENCE
    """The arm whose trajectory it follows."""
    arm_fields: ClassVar[tuple[str, ...]] = ("target",)
    alignment: StepColumn = "cos_update"
    """Column of ``steps`` that is clamped."""

    def about(self) -> dict[str, str]:
        """Arms, column and unit."""
        arms = {"arm": self.yoked, "reference": self.target}
        return {**arms, "column": self.alignment, "unit": column_unit("steps", self.alignment)}

    def step_columns(self) -> tuple[str, ...]:
        """The alignment."""
        return (self.alignment,)


class MundlakSlopes(OnAlignment, WithInterval):
    """Slopes within runs, between arms and between seeds, and whether they are equal."""

    outcome: StepColumn = "gain"
    """Column of ``steps``."""
    predictor: StepColumn = "cos_update"
    """Column of ``steps``."""

    def endings(self) -> tuple[str, ...]:
        """The levels."""
        return LEVELS


class RetainedShare(Contrasted):
    """Share of the accuracy that the reference acquires which an arm acquires too."""

    unit = "1"


class RemovedShare(Contrasted):
    """Share of the accuracy that the reference acquires which an arm does not."""

    unit = FRACTION


def _cross_world(
    record: Record, declared: CrossWorldEffects, settings: Settings
) -> Sequence[Result]:
    contrast = f"{declared.arm} - {declared.reference}"
    whole = declared.estimand(declared.outcome, contrast)
    if missing := absent(record, whole, declared.reference, declared.arm, declared.yoked):
        return [missing]
    found = cross_world(
        record.replicates,
        arm=declared.arm,
        yoked=declared.yoked,
        baseline=declared.reference,
        reverse=declared.reverse if declared.reverse in record.arms else None,
        outcome=declared.outcome,
        mediator=declared.mediator,
        settings=settings,
    )
    return [
        as_declared(
            declared,
            getattr(found, part),
            part,
            **of_part(part, declared.outcome, declared.mediator),
        )
        for part in declared.endings()
    ]


def _controlled_direct(
    record: Record, declared: ControlledDirect, settings: Settings
) -> Sequence[Result]:
    def estimate(pair: Pair) -> list[Result]:
        found = controlled_direct(
            record.replicates,
            arm_clamped=pair.arm,
            baseline_clamped=pair.reference,
            outcome=declared.outcome,
            mediator=declared.mediator,
            settings=settings,
        )
        return [as_declared(declared, found, declared.ending(pair.arm), arm=pair.arm)]

    return by_pair(record, declared, with_unit("replicates", declared.outcome), estimate)


def _clamp_error(record: Record, declared: ClampGap, settings: Settings) -> Sequence[Result]:
    estimand = declared.estimand(
        f"mean |difference of {declared.alignment}| (1)", f"{declared.yoked} - {declared.target}"
    )
    if missing := absent(record, estimand, declared.yoked, declared.target):
        return [missing]
    error = clamp_error(
        record.steps, yoked=declared.yoked, target=declared.target, alignment=declared.alignment
    )
    found = mean_interval(
        error.by_seed,
        estimand=estimand,
        diagnostics={"max_abs": error.max_abs, "n_steps": error.n_steps},
        settings=settings,
    )
    if not isinstance(found, Estimate):
        return [found]
    method = f"{found.method}; largest over {error.n_steps} steps: {error.max_abs:.2g}"
    return [replace(found, method=method)]


def _mundlak(record: Record, declared: MundlakSlopes, settings: Settings) -> Sequence[Result]:
    found = mundlak(
        record.steps, outcome=declared.outcome, predictor=declared.predictor, settings=settings
    )
    test = found.equality
    comparison = f"not compared: {test.reason}"
    if test.statistic is not None and test.p_value is not None:
        df = ", ".join(f"{number:.3g}" for number in test.df)
        comparison = f"levels equal: F({df}) = {test.statistic:.1f}, p {test.p_value:.2g}"

    def noted(one: Result) -> Result:
        if not isinstance(one, Estimate):
            return one
        shown = replace(one, method=f"{one.method}; {comparison}")
        return with_note(with_diagnostics(shown, equality=test.tidy()), UNADJUSTED)

    return [as_declared(declared, noted(getattr(found, name)), name, part=name) for name in LEVELS]


def _retained_share(
    record: Record, declared: RetainedShare, settings: Settings
) -> Sequence[Result]:
    def estimate(pair: Pair) -> list[Result]:
        panel = acquired(record, pair.arm, pair.reference)
        contrast = f"({pair.arm} - untrained) / ({pair.reference} - untrained)"
        share = ratio_of_sums(
            replace(pair.estimand, contrast=contrast),
            *panel.columns[ACQUIRED].T,
            n_dropped=panel.n_dropped,
            null=0.0,
            settings=settings,
        )
        return [share]

    return by_pair(record, declared, "share of acquired accuracy (1)", estimate)


def _removed_share(record: Record, declared: RemovedShare, settings: Settings) -> Sequence[Result]:
    def estimate(pair: Pair) -> list[Result]:
        panel = acquired(record, pair.arm, pair.reference)
        contrast = f"({pair.reference} - {pair.arm}) / ({pair.reference} - untrained)"
        share = ratio_of_sums(
            replace(pair.estimand, contrast=contrast),
            panel.column(record.outcome.name, pair.reference)
            - panel.column(record.outcome.name, pair.arm),
            panel.column(ACQUIRED, pair.reference),
            n_dropped=panel.n_dropped,
            settings=settings,
        )
        return [share]

    return by_pair(record, declared, "share of acquired accuracy (fraction)", estimate)


EFFECT_METHODS: Mapping[str, Method] = {
    "cross_world": Method(CrossWorldEffects, _cross_world),
    "controlled_direct": Method(ControlledDirect, _controlled_direct),
    "clamp_error": Method(ClampGap, _clamp_error),
    "mundlak": Method(MundlakSlopes, _mundlak),
    "retained_share": Method(RetainedShare, _retained_share),
    "removed_share": Method(RemovedShare, _removed_share),
}
