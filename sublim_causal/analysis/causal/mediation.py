r"""Run-level mediation: the part of an arm's effect that a regression attributes to alignment.

Seed effects, arms a against a baseline, M the run's alignment, Y its outcome:

.. math::

    M_{sa} = m_s + \alpha_a + e, \qquad Y_{sa} = c_s + \tau_a + (\beta + \kappa_a) M_{sa} + e'

``PNIE = beta alpha_a``, ``TNIE = (beta + kappa_a) alpha_a``, ``PNDE = tau_a + kappa_a E M(0)``,
``TNDE = tau_a + kappa_a E M(a)``, ``CDE(m) = tau_a + kappa_a m``, and ``TE = PNDE + TNIE = TNDE +
PNIE``; without interaction kappa = 0. The parts are those of `crossworld`.

**A sensitivity analysis, not an identified effect.** It assumes that arm and seed are the only
common causes of a run's alignment and outcome, and that the outcome does not feed back on
alignment. The second is violated here: alignment falls as the trait is learned, so a run that gains
more has a lower mean alignment. Where the cross-world runs exist, use `crossworld.cross_world`
instead.

References
----------
Imai, Keele and Tingley (2010), A general approach to causal mediation analysis. Psychol. Methods
15, 309-334.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from sublim_causal.analysis.causal.doses import OUTCOME, TREATMENT
from sublim_causal.analysis.causal.fixed_effects import Contrast
from sublim_causal.analysis.causal.regressions import RunModels, fit_models, read_runs
from sublim_causal.analysis.estimates.headline import seed_warnings
from sublim_causal.analysis.estimates.intervals import t_estimate
from sublim_causal.analysis.estimates.ratios import ratio_estimate
from sublim_causal.analysis.estimates.settings import validate_level
from sublim_causal.analysis.estimates.types import Estimand, Estimate, NotEstimable, Result, too_few
from sublim_causal.errors import DataError, RequestError

N_DRAWS = 20_000
"""Draws of a product of coefficients; Monte Carlo error of a limit is about 1 % of the se."""

LABEL = "sensitivity analysis"
REASON = (
    "a sensitivity analysis, not an identified effect: alignment falls as the trait is learned, "
    "so the outcome feeds back on the mediator"
)
_IGNORABILITY = (
    "no common cause of alignment and outcome within seed and arm",
    "no feedback of the outcome on alignment (implausible here)",
    "alignment is measured without error",
    "linearity",
)


@dataclass(frozen=True)
class Mediation:
    """Effects of one arm, split at run level. In the outcome's unit unless stated otherwise.

    Attributes
    ----------
    arm : str
        The arm that is compared with the baseline.
    te : Estimate or NotEstimable
        Total effect; identified by design.
    alpha : Estimate or NotEstimable
        Effect of the arm on alignment, in units of alignment; identified by design.
    beta : Estimate or NotEstimable
        Slope of the outcome on alignment within seed and arm (in the baseline arm, with
        interaction); per unit of alignment.
    pnie, tnie : Estimate or NotEstimable
        Pure and total natural indirect effect: alignment moved as by the arm, under the
        baseline and under the arm. The same without interaction.
    pnde, tnde : Estimate or NotEstimable
        Pure and total natural direct effect: the arm at the baseline's and at its own alignment.
    cde : Estimate or NotEstimable
        Controlled direct effect CDE(m) at the alignment asked for.
    proportion_mediated : Estimate or NotEstimable
        ``(pnie + tnie) / (2 te)``, with Fieller's set.
    """

    arm: str
    te: Result
    alpha: Result
    beta: Result
    pnie: Result
    tnie: Result
    pnde: Result
    tnde: Result
    cde: Result
    proportion_mediated: Result


def mediate(
    frame: pd.DataFrame,
    *,
    mediator: str = TREATMENT,
    outcome: str = OUTCOME,
    baseline: str = "baseline",
    arms: Sequence[str] | None = None,
    interaction: bool = False,
    controlled_at: float = 0.0,
    level: float = 0.95,
    n_draws: int = N_DRAWS,
    rng: np.random.Generator | int = 0,
) -> tuple[Mediation, ...]:
    """Split each arm's total effect into direct and indirect parts, at run level.

    Parameters
    ----------
    frame : DataFrame
        Table ``replicates``: one row per seed and arm; arms may be missing for some seeds.
    mediator, outcome : str
        Columns of alignment and outcome.
    baseline : str
        Arm the others are compared with.
    arms : sequence of str, optional
        Arms to compare (default: all others of the table). All of them inform beta.
    interaction : bool
        Let the slope on alignment differ between arms. An arm of constant alignment has no
        slope of its own; its kappa is taken as 0, with a warning.
    controlled_at : float
        Level of alignment of the controlled direct effect.
    level : float
        Confidence level in (0, 1).
    n_draws : int
        Draws for the product of coefficients, at least 1000.
    rng : Generator or int
        Randomness of the draws.

    Returns
    -------
    tuple of Mediation
        One per arm. Total effect and arrows: CR2 with Satterthwaite df; indirect effects:
        ``(alpha + se_alpha t)(beta + se_beta t')`` with independent t and t'; proportion: Fieller
        on the linearised per-seed contributions.

    Raises
    ------
    RequestError
        If `n_draws` is too small.
    DataError
        If a column or an arm is missing, or a seed has two rows under one arm.

    Notes
    -----
    With effects that vary over seeds the mean indirect effect also holds
    ``Cov(alpha_s, beta_s)``, which a few runs per seed cannot estimate.
    """
    if n_draws < 1000:
        raise RequestError("n_draws", n_draws, "at least 1000", f"leave it at {N_DRAWS}")
    validate_level(level)
    chosen = tuple(
        sorted(set(map(str, frame["arm"].unique())) - {baseline}) if arms is None else arms
    )
    runs = read_runs(frame, mediator, outcome, (baseline, *chosen))
    stream = np.random.default_rng(rng)
    asked = _Asked(mediator, outcome, baseline, interaction, controlled_at, level, n_draws)
    if missing := too_few(Estimand("mediation", ""), runs.n_seeds):
        return tuple(_none(asked, arm, missing.reason) for arm in chosen)
    try:
        models = fit_models(runs, interaction)
    except DataError as error:
        return tuple(_none(asked, arm, str(error)) for arm in chosen)

    def of_arm(k: int) -> Mediation:
        refusal = too_few(Estimand("mediation", ""), runs.n_paired(k))
        if refusal:
            return _none(asked, chosen[k - 1], f"under it and {baseline}: {refusal.reason}")
        return _effects(asked, models, k, stream)

    return tuple(of_arm(k) for k in range(1, len(chosen) + 1))


@dataclass(frozen=True)
class _Asked:
    """What `mediate` was asked for."""

    mediator: str
    outcome: str
    baseline: str
    interaction: bool
    controlled_at: float
    level: float
    n_draws: int

    def estimand(self, name: str, arm: str) -> Estimand:
        sentence, assumptions = _SENTENCES[name]
        return Estimand(
            name=f"{name}_{arm}",
            sentence=sentence.format(
                arm=arm,
                baseline=self.baseline,
                mediator=self.mediator,
                outcome=self.outcome,
                m=self.controlled_at,
            ),
            outcome=self.mediator if name == "alpha" else self.outcome,
            contrast=f"{arm} - {self.baseline}",
            assumptions=assumptions,
        )


_DESIGN = ("arms are assigned by design", "seeds are independent")
_SENTENCES: dict[str, tuple[str, tuple[str, ...]]] = {
    "te": ("Effect of {arm} against {baseline} on {outcome}.", _DESIGN),
    "alpha": ("Effect of {arm} against {baseline} on {mediator}.", _DESIGN),
    "beta": ("Slope of {outcome} on {mediator} within seed and arm.", _IGNORABILITY),
    "pnie": (
        "Effect on {outcome} of moving {mediator} as {arm} does, under {baseline}.",
        _IGNORABILITY,
    ),
    "tnie": ("Effect on {outcome} of moving {mediator} as {arm} does, under {arm}.", _IGNORABILITY),
    "pnde": ("Effect of {arm} on {outcome} at {baseline}'s {mediator}.", _IGNORABILITY),
    "tnde": ("Effect of {arm} on {outcome} at its own {mediator}.", _IGNORABILITY),
    "cde": ("Effect of {arm} on {outcome} at {mediator} = {m:g}.", _IGNORABILITY),
    "proportion_mediated": (
        "Share of the effect of {arm} that goes with {mediator}.",
        _IGNORABILITY,
    ),
}


def _none(asked: _Asked, arm: str, reason: str) -> Mediation:
    empty = {name: NotEstimable(asked.estimand(name, arm), reason) for name in _SENTENCES}
    return Mediation(arm=arm, **empty)


def _effects(asked: _Asked, models: RunModels, arm: int, rng: np.random.Generator) -> Mediation:
    name = models.runs.arms[arm]
    alpha = models.arm_effect(models.mediator, arm)
    total = models.arm_effect(models.total, arm)
    fixed = asked.interaction and arm not in models.interacting
    notes = (f"alignment is constant under {name!r}: kappa taken as 0",) if fixed else ()
    common: dict[str, Any] = {
        "level": asked.level,
        "n_seeds": models.runs.n_seeds,
        "n_dropped": models.runs.n_dropped,
    }

    def by_t(part: str, contrast: Contrast, *, extra: float = 0.0, label: bool = True) -> Result:
        return t_estimate(
            asked.estimand(part, name),
            contrast.value,
            float(np.sqrt(contrast.se**2 + extra)),
            contrast.df,
            method=f"{LABEL}; CR2 t" if label else "within seeds, CR2 t",
            warnings=(REASON, *notes) if label else (),
            **common,
        )

    def direct(part: str, at: int) -> Result:
        contrast = models.direct(arm, models.mean_mediator(at))
        spread = models.kappa(arm) ** 2 * models.var_mean_mediator(at)
        return by_t(part, contrast, extra=spread)

    def indirect(part: str, weight: float) -> Result:
        slope = models.slope(arm, weight)
        estimand = asked.estimand(part, name)
        return _product(estimand, alpha, slope, asked.n_draws, rng, notes, **common)

    pnie = indirect("pnie", 0.0)
    pnde = direct("pnde", 0)
    return Mediation(
        arm=name,
        te=by_t("te", total, label=False),
        alpha=by_t("alpha", alpha, label=False),
        beta=by_t("beta", models.slope(arm, 0.0)),
        pnie=pnie,
        tnie=indirect("tnie", 1.0) if asked.interaction else pnie,
        pnde=pnde,
        tnde=direct("tnde", arm) if asked.interaction else pnde,
        cde=by_t("cde", models.direct(arm, asked.controlled_at)),
        proportion_mediated=_proportion(
            asked.estimand("proportion_mediated", name),
            alpha,
            models.slope(arm, 0.5),
            total,
            notes,
            common,
        ),
    )


def _product(
    estimand: Estimand,
    alpha: Contrast,
    slope: Contrast,
    n_draws: int,
    rng: np.random.Generator,
    notes: tuple[str, ...],
    *,
    level: float,
    n_seeds: int,
    n_dropped: int,
) -> Estimate:
    """Return alpha times slope with the quantiles of a product of independent t draws."""
    first = alpha.value + alpha.se * rng.standard_t(alpha.df, n_draws)
    second = slope.value + slope.se * rng.standard_t(slope.df, n_draws)
    draws = first * second
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    tail = 1 + min(int((draws <= 0).sum()), int((draws >= 0).sum()))
    return Estimate(
        estimand=estimand,
        value=alpha.value * slope.value,
        se=float(np.hypot(slope.value * alpha.se, alpha.value * slope.se)),
        low=float(low),
        high=float(high),
        level=level,
        df=None,
        p_value=min(1.0, 2 * tail / (n_draws + 1)),
        method=f"{LABEL}; product of t draws",
        n_seeds=n_seeds,
        n_dropped=n_dropped,
        warnings=(*seed_warnings(n_seeds), REASON, *notes),
        diagnostics={"df_alpha": alpha.df, "df_slope": slope.df, "n_draws": n_draws},
        draws=draws,
    )


def _proportion(
    estimand: Estimand,
    alpha: Contrast,
    slope: Contrast,
    total: Contrast,
    notes: tuple[str, ...],
    common: dict[str, Any],
) -> Result:
    """Fieller on ``alpha slope / TE``, linearised: both are sums of per-seed contributions."""
    indirect = slope.value * alpha.scores + alpha.value * slope.scores
    parts = np.stack([indirect, total.scores])
    return ratio_estimate(
        estimand,
        alpha.value * slope.value,
        total.value,
        parts @ parts.T,
        df=min(slope.df, total.df),
        method=f"{LABEL}; Fieller, linearised",
        warnings=(REASON, *notes),
        **common,
    )
