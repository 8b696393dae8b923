"""What a plan can ask of a mixed model: a contrast of its coefficients."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Literal, Self

import pandas as pd
from pydantic import model_validator

from sublim_causal.analysis.estimates.settings import Settings
from sublim_causal.analysis.estimates.types import NotEstimable, Result, too_few
from sublim_causal.analysis.mixed.design.crossproducts import read_formula
from sublim_causal.analysis.mixed.fit import fit_mixed
from sublim_causal.analysis.plan.declaration import WithInterval
from sublim_causal.analysis.plan.method import Method
from sublim_causal.analysis.plan.record import Record
from sublim_causal.analysis.steps.slopes import contrast_estimate
from sublim_causal.errors import RequestError
from sublim_causal.store.own_columns import known_columns


class MixedModel(WithInterval):
    """A contrast of the coefficients of a mixed model, given by its formula."""

    table: Literal["steps", "replicates"] = "steps"
    """Where the formula's columns stand; of ``replicates`` the complete ones are used."""
    formula: str
    """In lme4's language, clusters being seeds: ``"gain ~ cos_update + (1 | seed)"``."""
    contrast: str
    """A coefficient, or an expression in them."""
    residual: Literal["iid", "ar1", "car1"] = "iid"
    """Correlation of the residuals within a run."""
    arm_variances: bool = False
    """Whether each arm has a residual variance of its own."""
    df: Literal["cr2", "kenward-roger"] = "cr2"
    """`cr2`: errors robust to the model (CR2) with Satterthwaite's degrees of freedom;
    `kenward-roger`: the model's own, adjusted for few seeds."""

    @model_validator(mode="after")
    def _residuals_of_kenward_roger(self) -> Self:
        if self.df == "kenward-roger" and (self.residual != "iid" or self.arm_variances):
            raise ValueError("df = 'cr2' where residual is not 'iid' or arm_variances is true")
        return self

    def step_columns(self) -> tuple[str, ...]:
        """Columns of ``steps`` that the formula names."""
        if self.table != "steps":
            return ()
        words = set(re.findall(r"[A-Za-z_]\w*", self.formula))
        return tuple(c.name for c in known_columns("steps") if c.name in words - {"seed", "arm"})


def rows_of_formula(record: Record, declared: MixedModel) -> pd.DataFrame:
    """Return the rows of the table that a formula reads, arms as labels whatever they are."""
    data = record.steps if declared.table == "steps" else record.complete
    return data.assign(arm=pd.Categorical(data["arm"], sorted(data["arm"].unique())))


def _mixed_model(record: Record, declared: MixedModel, settings: Settings) -> Sequence[Result]:
    data = rows_of_formula(record, declared)
    estimand = declared.estimand(declared.formula, declared.contrast)
    if refusal := too_few(estimand, data["seed"].nunique()):
        return [refusal]
    try:
        _validate_group(data, declared.formula)
        fit = fit_mixed(
            data,
            declared.formula,
            residual=declared.residual,
            arm_variances=declared.arm_variances,
            vcov="CR2" if declared.df == "cr2" else "model",
            df=declared.df,
        )
        found = contrast_estimate(fit, declared.contrast, estimand, settings=settings)
    except RequestError as error:
        if not error.field.startswith(("formula", "contrast")):
            raise
        return [NotEstimable(estimand, f"estimand {declared.name}: {error}")]
    return [found]


def _validate_group(data: pd.DataFrame, formula: str) -> None:
    """Refuse groups other than seeds, which are the clusters of every interval of a plan."""
    group = read_formula(data, formula).group
    if group != "seed":
        remedy = "write (1 | seed), or (1 | seed:arm) for the runs of a seed"
        raise RequestError("formula: group", group, "seed: seeds are the clusters", remedy)


MIXED_METHODS: Mapping[str, Method] = {"mixed_model": Method(MixedModel, _mixed_model)}
