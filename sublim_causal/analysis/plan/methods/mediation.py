"""What a plan can ask of mediation by regression, a sensitivity analysis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from sublim_causal.analysis.causal.doses import OUTCOME, TREATMENT
from sublim_causal.analysis.causal.mediation import LABEL, REASON, mediate
from sublim_causal.analysis.causal.sensitivity import Sensitivity, sensitivity
from sublim_causal.analysis.estimates.distributions import norm_sf
from sublim_causal.analysis.estimates.headline import seed_warnings
from sublim_causal.analysis.estimates.settings import Settings
from sublim_causal.analysis.estimates.types import Estimand, Estimate, NotEstimable, Result
from sublim_causal.analysis.plan.declaration import (
    Contrasted,
    ReplicateColumn,
    column_unit,
    difference_of,
    with_unit,
)
from sublim_causal.analysis.plan.method import Method, Pair, as_declared, by_pair, contrast_pairs
from sublim_causal.analysis.plan.record import Record

_RATIOS = ("proportion_mediated", "pnie_proportion", "residual_mediator_gap")
EFFECTS = ("pnde", "tnie", "pnie", "tnde", "proportion_mediated")
_ARROWS = ("alpha", "beta", "cde")


class Mediated(Contrasted):
    """Run-level mediation through alignment; contrasts of each arm share one slope."""

    parts = ("te", *EFFECTS, *_ARROWS)
    outcome: ReplicateColumn = OUTCOME
    """Column of ``replicates``."""
    mediator: ReplicateColumn = TREATMENT
    """Column of ``replicates``."""
    interaction: bool = False
    """Whether the slope on alignment may differ between arms."""
    controlled_at: float = 0.0
    """Alignment at which the controlled direct effect is taken."""

    def about(self) -> dict[str, str]:
        """Arms, column and unit."""
        return {**super().about(), **difference_of(self.outcome)}


class MediationSensitivity(Contrasted):
    """Correlation of the error terms at which the indirect effect vanishes."""

    unit = "1"
    outcome: ReplicateColumn = OUTCOME
    """Column of ``replicates``."""
    mediator: ReplicateColumn = TREATMENT
    """Column of ``replicates``."""


def _mediation(record: Record, declared: Mediated, settings: Settings) -> Sequence[Result]:
    missing, pairs = contrast_pairs(record, declared, with_unit("replicates", declared.outcome))
    entering = _entering(record, declared)
    missing += [_left_out(pair) for pair in pairs if pair.arm not in entering]
    asked = {pair.arm for pair in pairs}
    if not asked & set(entering):
        return missing
    found = mediate(
        record.replicates,
        mediator=declared.mediator,
        outcome=declared.outcome,
        baseline=declared.reference,
        arms=entering,
        interaction=declared.interaction,
        controlled_at=declared.controlled_at,
        level=settings.level,
        rng=settings.rng,
    )
    return [
        *missing,
        *(
            as_declared(
                declared,
                getattr(one, part),
                declared.ending(one.arm, part),
                arm=one.arm,
                **of_part(part, declared.outcome, declared.mediator),
            )
            for one in found
            if one.arm in asked
            for part in declared.parts
        ),
    ]


def _entering(record: Record, declared: Mediated | MediationSensitivity) -> list[str]:
    """Return the arms that inform the slope of a mediation, whichever arm is asked for.

    They differ from the reference in their intervention alone, their mediator was measured, and
    it is their own: a yoked arm has that of another.
    """
    measured = set(record.complete.dropna(subset=[declared.mediator])["arm"])
    if declared.reference not in measured:
        return []
    return [
        arm
        for arm in record.arms
        if arm in measured - {declared.reference}
        and record.options(arm)["intervention"] != "yoked"
        and record.is_comparable(arm, declared.reference)
    ]


def _left_out(pair: Pair) -> NotEstimable:
    reason = (
        f"{pair.arm!r} is left out: it was not measured, is yoked, or differs from "
        f"{pair.reference!r} in more than its intervention"
    )
    return NotEstimable(pair.estimand, reason)


def of_part(part: str, outcome: str, mediator: str) -> dict[str, str]:
    """Return part, column and unit of a part of an effect."""
    if part in _RATIOS:
        return {"part": part, "column": "", "unit": "1"}
    if part == "beta":
        unit = f"{column_unit('replicates', outcome)} per unit of {mediator}"
        return {"part": part, "column": outcome, "unit": unit}
    return {"part": part, **difference_of(mediator if part == "alpha" else outcome)}


def _mediation_sensitivity(
    record: Record, declared: MediationSensitivity, settings: Settings
) -> Sequence[Result]:
    entering = _entering(record, declared)

    def estimate(pair: Pair) -> list[Result]:
        if pair.arm not in entering:
            return [_left_out(pair)]
        found = sensitivity(
            record.replicates,
            pair.arm,
            baseline=pair.reference,
            mediator=declared.mediator,
            outcome=declared.outcome,
            level=settings.level,
        )
        return [_rho_zero(pair.estimand, found)]

    about = f"correlation of the errors of {declared.mediator} and {declared.outcome} (1)"
    return by_pair(record, declared, about, estimate)


def _rho_zero(estimand: Estimand, found: Sensitivity) -> Estimate:
    """The correlation at which the indirect effect vanishes, with Fisher's z interval."""
    n, r = found.n_seeds, found.rho_zero
    # With three pairs Fisher's z has an infinite variance: nothing is known.
    se_z = 1 / np.sqrt(n - 3) if n > 3 else np.inf
    z = np.arctanh(np.clip(r, -1 + 1e-15, 1 - 1e-15))
    return Estimate(
        estimand=estimand,
        value=r,
        se=float((1 - r**2) * se_z),
        low=found.rho_zero_low,
        high=found.rho_zero_high,
        level=found.level,
        df=None,
        p_value=float(2 * norm_sf(abs(z) / se_z)),
        method=f"{LABEL}; Fisher z",
        n_seeds=n,
        n_dropped=found.n_dropped,
        warnings=(*seed_warnings(n), REASON),
        diagnostics={
            "r2_product": found.r2_product,
            "r2_product_total": found.r2_product_total,
            "rho": found.rho,
            "indirect": found.indirect,
            "indirect_low": found.low,
            "indirect_high": found.high,
        },
    )


MEDIATION_METHODS: Mapping[str, Method] = {
    "mediation": Method(Mediated, _mediation),
    "mediation_sensitivity": Method(MediationSensitivity, _mediation_sensitivity),
}
