"""What a plan can ask of the traits that students acquire: are they those they were taught."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from sublim_causal.analysis.arms.specificity import (
    Matrix,
    gamma,
    jackknife,
    permutation_p,
    permuted,
)
from sublim_causal.analysis.estimates.intervals import t_estimate
from sublim_causal.analysis.estimates.settings import Settings
from sublim_causal.analysis.estimates.types import NotEstimable, Result, too_few
from sublim_causal.analysis.plan.declaration import REFERENCE, Declared
from sublim_causal.analysis.plan.method import Method, absent
from sublim_causal.analysis.plan.record import Record

UNIT = "nats"


class Specificity(Declared):
    """How much more students acquire of the trait that they were taught than of the others.

    Of the runs of some arms, each measured on all traits: lift = run + trait + gamma, the last
    where a teacher of the run prefers the trait. Seeds are left out in turn for the interval; for
    the p-value whole runs exchange what they were taught.
    """

    arms: tuple[str, ...] = (REFERENCE,)
    """Arms whose runs are compared; several, where arms are taught different traits."""

    def resolved(self, reference: str) -> Specificity:
        """Return the declaration with the arm `reference`, if there is one, for `REFERENCE`."""
        named = [(reference or REFERENCE) if arm == REFERENCE else arm for arm in self.arms]
        return self.model_copy(update={"arms": tuple(dict.fromkeys(named))})

    def about(self) -> dict[str, str]:
        """Column and unit."""
        return {"column": "log_odds", "unit": UNIT}


def _specificity(record: Record, declared: Specificity, settings: Settings) -> Sequence[Result]:
    arms = declared.arms
    estimand = declared.estimand(f"log_odds ({UNIT})", f"taught - others, {', '.join(arms)}")
    if lacking := absent(record, estimand, *arms):
        return [lacking]
    if record.traits.empty:
        reason = "the run has no table 'traits'; the task does not measure single traits"
        return [NotEstimable(estimand, reason)]
    lift, taught = (_by_run(record, arms, column) for column in ("log_odds", "taught"))
    if refusal := too_few(estimand, len(lift)):
        return [refusal]
    shape = (len(lift), len(arms), -1)
    matrix = Matrix(
        lift.to_numpy(dtype=float).reshape(shape), taught.to_numpy(dtype=bool).reshape(shape)
    )
    value, left_out, n = gamma(matrix), jackknife(matrix), len(lift)
    if not np.isfinite(left_out).all():
        reason = "all seeds, or all but one, were taught the same traits in every arm"
        return [NotEstimable(estimand, reason)]
    draws = permuted(matrix, settings.n_boot, np.random.default_rng(settings.rng))
    se = float(np.sqrt((n - 1) / n * ((left_out - value) ** 2).sum()))
    found = t_estimate(
        estimand,
        value,
        se,
        n - 1,
        level=settings.level,
        method="two-way, jackknife t",
        n_seeds=n,
        diagnostics={
            "traits": [*lift.columns.unique(level=1)],
            "lift": matrix.by_taught().tolist(),
        },
    )
    return [replace(found, p_value=permutation_p(value, draws), draws=draws)]


def _by_run(record: Record, arms: Sequence[str], column: str) -> pd.DataFrame:
    """Return a column of ``traits`` by seed, arm and trait, of seeds that are complete in `arms`.

    Shape ``(S, A * K)``.
    """
    rows = record.traits.merge(record.complete[["seed", "arm"]])
    wide = rows.pivot(index="seed", columns=["arm", "trait"], values=column)
    order = pd.MultiIndex.from_product([arms, sorted(rows["trait"].unique())])
    return wide.reindex(columns=order).dropna()


SPECIFICITY_METHODS: Mapping[str, Method] = {"specificity": Method(Specificity, _specificity)}
