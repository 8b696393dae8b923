"""Estimates that the report adds to what a plan declares; each says that it was not declared."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, get_args

from sublim_causal.analysis.causal.crossworld import CrossWorld, cross_world
from sublim_causal.analysis.causal.mediation import Mediation, mediate
from sublim_causal.analysis.estimates.intervals import mean_interval
from sublim_causal.analysis.estimates.panel import paired_panel
from sublim_causal.analysis.estimates.ratios import ratio_of_sums
from sublim_causal.analysis.estimates.settings import Settings
from sublim_causal.analysis.estimates.types import (
    DIFFERENCE,
    FRACTION,
    Estimand,
    NotEstimable,
    Result,
    TestResult,
)
from sublim_causal.analysis.plan.methods.doses import Space, strengths
from sublim_causal.analysis.plan.methods.steps import StepSlope
from sublim_causal.analysis.steps.ledger import Term, explained_shares
from sublim_causal.analysis.steps.ledger_split import LedgerSplit, split_difference
from sublim_causal.analysis.steps.mundlak import NULL, mundlak
from sublim_causal.errors import DataError
from sublim_causal.report.ranges import within

if TYPE_CHECKING:
    from sublim_causal.report.material import Material

UNDECLARED = "added by the report, beside what the plan declares"


def undeclared(result: Result) -> Result:
    """Mark `result` as one that the plan does not declare."""
    assumptions = (*result.estimand.assumptions, UNDECLARED)
    return replace(result, estimand=replace(result.estimand, assumptions=assumptions))


@dataclass(frozen=True)
class Ledgers:
    """The ledger's estimates.

    Attributes
    ----------
    shares : tuple of (Estimate or NotEstimable)
        Share of the trait-loss drop that drive adds up to, by arm in the study's order.
    mid_shares : tuple of (Estimate or NotEstimable)
        The same with the trapezoid rule.
    totals : tuple of (Estimate or NotEstimable)
        Mean of a run's summed gain, by arm.
    splits : tuple of LedgerSplit
        Arm differences to the reference, split into drive and remainder.
    """

    shares: tuple[Result, ...]
    mid_shares: tuple[Result, ...]
    totals: tuple[Result, ...]
    splits: tuple[LedgerSplit, ...]

    def results(self) -> tuple[Result, ...]:
        """All results in a fixed order."""
        parts = [one for split in self.splits for one in (split.gain, split.drive, split.remainder)]
        return (*self.totals, *self.shares, *self.mid_shares, *parts)


def ledgers(material: Material) -> Ledgers:
    """Return shares, totals and arm differences of the ledger."""
    steps = material.steps(["drive", "drive_end", "gain"])
    arms, level, reference = material.shown_arms, material.level, material.reference

    def shares(term: Term) -> tuple[Result, ...]:
        found = explained_shares(steps, term=term, settings=Settings(level))
        by_arm = dict(zip(sorted(arms), found, strict=True))
        return tuple(undeclared(by_arm[arm]) for arm in arms)

    others = [arm for arm in arms if arm != reference] if reference in arms else []
    splits = [
        split_difference(steps, arm, reference=reference, settings=Settings(level))
        for arm in others
    ]
    return Ledgers(
        shares=shares("drive"),
        mid_shares=shares("drive_mid"),
        totals=tuple(_total(material, arm) for arm in arms),
        splits=tuple(
            LedgerSplit(undeclared(one.gain), undeclared(one.drive), undeclared(one.remainder))
            for one in splits
        ),
    )


def _total(material: Material, arm: str) -> Result:
    rows = material.complete[material.complete["arm"] == arm]
    estimand = Estimand(
        name=f"sum_gain_{arm}",
        sentence=f"Mean drop of the trait loss over a run of {arm}.",
        outcome="sum_gain (nats)",
        contrast=f"arm {arm}",
        arm=arm,
        assumptions=("seeds are independent draws", UNDECLARED),
    )
    gains = rows["sum_gain"].dropna().to_numpy()
    n_dropped = len(rows) - len(gains)
    return mean_interval(
        gains, settings=Settings(material.level), estimand=estimand, n_dropped=n_dropped
    )


@dataclass(frozen=True)
class Headline:
    """What the answer says of one arm beside the plan's contrast.

    Attributes
    ----------
    removed : Estimate or NotEstimable
        Share of what the reference acquires that the arm prevents.
    residue : Estimate or NotEstimable
        Accuracy that the arm acquires in training.
    alignment : Estimate or NotEstimable
        Mean alignment of its updates.
    """

    removed: Result
    residue: Result
    alignment: Result


def headlines(material: Material) -> dict[str, Headline]:
    """Return what the answer says of each arm that removes or trains away alignment, by arm."""
    return {
        arm: Headline(
            removed_share(material, arm), residue(material, arm), mean_alignment(material, arm)
        )
        for arm in (*material.main_projections(), *material.interventions("liminal"))
    }


def removed_share(material: Material, arm: str) -> Result:
    """Return the share of what the reference acquires that `arm` does not, a ratio of sums.

    ``sum_s (Y_s(reference) - Y_s(arm)) / sum_s (Y_s(reference) - Y_s(untrained))``.
    """
    reference, columns = material.reference, ["final_accuracy", "initial_accuracy"]
    estimand = Estimand(
        name=f"removed_share_{arm}",
        sentence=f"Share of the accuracy that {reference} acquires which {arm} prevents.",
        outcome="share of acquired accuracy (fraction)",
        unit=FRACTION,
        contrast=f"({reference} minus {arm}) / ({reference} minus untrained)",
        assumptions=("seeds are independent draws", UNDECLARED),
    )
    if reference not in material.shown_arms:
        return NotEstimable(estimand, f"{reference} has no complete seed")
    panel = paired_panel(material.complete, columns, [reference, arm])
    start = panel.column("initial_accuracy", reference)
    acquired = panel.column("final_accuracy", reference)
    return ratio_of_sums(
        estimand,
        acquired - panel.column("final_accuracy", arm),
        acquired - start,
        settings=Settings(material.level),
        n_dropped=panel.n_dropped,
    )


def residue(material: Material, arm: str) -> Result:
    """Return the accuracy that `arm` acquires in training: final minus untrained."""
    rows = material.complete[material.complete["arm"] == arm]
    estimand = Estimand(
        name=f"acquired_{arm}",
        sentence=f"Test accuracy that {arm} acquires: after training minus before.",
        outcome="final_accuracy - initial_accuracy (fraction)",
        unit=DIFFERENCE,
        contrast=f"arm {arm}, after - before",
        assumptions=("seeds are independent draws", UNDECLARED),
    )
    difference = rows["final_accuracy"] - rows["initial_accuracy"]
    return mean_interval(
        difference.to_numpy(), settings=Settings(material.level), estimand=estimand
    )


def mean_alignment(material: Material, arm: str) -> Result:
    """Return the mean over seeds of a run's mean alignment under `arm`."""
    rows = material.complete[material.complete["arm"] == arm]
    estimand = Estimand(
        name=f"mean_cos_update_{arm}",
        sentence=f"Mean over steps and seeds of the alignment under {arm}.",
        outcome="mean_cos_update (1)",
        contrast=f"arm {arm}",
        arm=arm,
        assumptions=("seeds are independent draws", UNDECLARED),
    )
    found = rows["mean_cos_update"].dropna().to_numpy()
    n_dropped = len(rows) - len(found)
    mean = mean_interval(
        found, settings=Settings(material.level), estimand=estimand, n_dropped=n_dropped
    )
    return within(mean, "mean_cos_update")


def equal_slopes(material: Material) -> dict[tuple[str, str], TestResult]:
    """Return the tests that slopes within runs, between arms and between seeds are one.

    One for each outcome and predictor of which the plan declares a slope.
    """
    declared = [one for one in material.plan.estimands if isinstance(one, StepSlope)]
    pairs = dict.fromkeys((one.outcome, one.predictor) for one in declared)
    return {pair: _equal_slopes(material, *pair) for pair in pairs}


def _equal_slopes(material: Material, outcome: str, predictor: str) -> TestResult:
    try:
        steps = material.steps([outcome, predictor])
        return mundlak(
            steps, outcome=outcome, predictor=predictor, settings=Settings(material.level)
        ).equality
    except DataError as error:
        return TestResult(NULL, None, None, reason=str(error))


def mediations(material: Material) -> tuple[Mediation, ...]:
    """Split each arm's effect at run level; empty unless reference and another have cosines.

    Arms that differ in more than their intervention are left out, and yoked ones, whose alignment
    is another arm's: they would bear on the slope that all arms share.
    """
    reference = material.reference
    measured = set(material.complete.dropna(subset=["mean_cos_update"])["arm"])
    others = [
        arm
        for arm in material.shown_arms
        if arm in measured - {reference, *material.interventions("yoked")}
        and material.is_comparable(arm)
    ]
    if reference not in measured or not others:
        return ()
    return mediate(material.complete, baseline=reference, arms=others, level=material.level)


def cross_worlds(material: Material) -> tuple[CrossWorld, ...]:
    """Split the effect of each arm whose procedure ran at the reference's alignment."""
    reference, yokes = material.reference, material.interventions("yoked")
    if reference not in material.shown_arms:
        return ()
    return tuple(
        cross_world(
            material.complete,
            arm=arm,
            yoked=yoked,
            baseline=reference,
            reverse=_yoke(material, reference, arm),
            settings=Settings(material.level),
        )
        for arm in material.shown_arms
        if arm not in (reference, *yokes) and (yoked := _yoke(material, arm, reference)) is not None
    )


def _yoke(material: Material, arm: str, target: str) -> str | None:
    """Return the arm that ran the procedure of `arm`, all its options, at `target`'s alignment."""
    for yoke in material.interventions("yoked"):
        *procedure, clamp = material.stages(yoke) or [{}]
        kind = material.options(yoke).get("procedure", {"intervention": "projection"})
        if (
            clamp.get("target") == target
            and kind["intervention"] == material.options(arm)["intervention"]
            and procedure == material.stages(arm)
            and material.same_setting(yoke, arm)
        ):
            return yoke
    return None


def doses(material: Material) -> dict[str, dict[str, float]]:
    """Return strengths by arm for each space in which projection was dosed, 0 for the reference.

    A space counts when it has two different strengths besides 0.
    """
    arms = filter(material.is_comparable, material.shown_arms)
    options = {arm: material.options(arm) for arm in arms}
    found: dict[str, dict[str, float]] = {}
    for space in get_args(Space):
        dosed = strengths(options, space)
        if 0.0 not in dosed.values() and material.reference in options:
            dosed = {material.reference: 0.0, **dosed}
        if len({0.0, *dosed.values()}) >= 3:
            found[space] = dosed
    return found
