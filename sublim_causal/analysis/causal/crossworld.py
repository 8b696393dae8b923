r"""Natural direct and indirect effects from cross-world outcomes that yoked runs observe.

Training is a simulator, so ``Y_s(a, M(0))``, the outcome of arm a's procedure at the alignment
that the same seed had under the baseline, can be run: the yoked arm. Then

``TE = Y(a, M(a)) - Y(0, M(0))``, ``PNDE = Y(a, M(0)) - Y(0, M(0))``, ``TNIE = Y(a, M(a)) -
Y(a, M(0))``, and with the reverse yoke ``Y(0, M(a))``: ``PNIE = Y(0, M(a)) - Y(0, M(0))``,
``TNDE = Y(a, M(a)) - Y(0, M(a))``. So ``TE = PNDE + TNIE = TNDE + PNIE``. Further

``CDE(m) = Y(a, m) - Y(0, m)`` from two arms clamped to one trajectory m. All are means of paired
differences within seed, on the same seeds, so both sums hold exactly. No sequential ignorability
is assumed: confounding and feedback of the outcome on alignment do not bias them. What is assumed
is that the clamp holds alignment (checked here) and changes nothing else.

References
----------
VanderWeele (2015), Explanation in causal inference, section 2.13 (names of the parts); Robins and
Greenland (1992), Identifiability and exchangeability for direct and indirect effects. Epidemiology
3, 143-155.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from sublim_causal.analysis.causal.doses import OUTCOME, TREATMENT
from sublim_causal.analysis.estimates.intervals import mean_interval
from sublim_causal.analysis.estimates.panel import (
    Panel,
    paired_panel,
    seeds_and_arms,
    validate_arms,
    validate_columns,
)
from sublim_causal.analysis.estimates.ratios import ratio_of_sums
from sublim_causal.analysis.estimates.settings import Settings
from sublim_causal.analysis.estimates.types import Estimand, Estimate, Floats, NotEstimable, Result
from sublim_causal.errors import DataError

GAP_LIMIT = 0.05
"""Above this residual mediator gap the parts carry a warning."""

_ASSUMPTIONS = (
    "the clamp holds alignment at the recorded trajectory",
    "the clamp changes nothing but alignment",
    "seeds are independent",
)


@dataclass(frozen=True)
class CrossWorld:
    """Total effect of an arm and its parts, each a mean of paired differences.

    Attributes
    ----------
    te : Estimate or NotEstimable
        Total effect.
    pnde, tnie : Estimate or NotEstimable
        Pure natural direct and total natural indirect effect; they add up to `te`.
    pnie, tnde : Estimate or NotEstimable
        Pure natural indirect and total natural direct effect; they add up to `te`. Not
        estimable without a reverse yoke.
    interaction : Estimate or NotEstimable
        ``tnie - pnie = tnde - pnde``: how far the effect of alignment depends on the procedure.
    proportion_mediated, pnie_proportion : Estimate or NotEstimable
        ``tnie / te`` and ``pnie / te``, ratios of sums with Fieller's set. Where the outcome has a
        floor the first is near 1 whatever the path: neither is quoted without the other.
    residual_mediator_gap : Estimate or NotEstimable
        Share of the alignment gap between arm and baseline that the clamp left open:
        ``sum(M(yoked) - M(0)) / sum(M(a) - M(0))``; 0 for a perfect clamp.
    """

    te: Result
    pnde: Result
    tnie: Result
    pnie: Result
    tnde: Result
    interaction: Result
    proportion_mediated: Result
    pnie_proportion: Result
    residual_mediator_gap: Result


@dataclass(frozen=True)
class ClampError:
    """How closely a yoked arm followed its target, over all seeds and steps.

    Attributes
    ----------
    max_abs : float
        Largest absolute difference of the alignment (1).
    n_steps : int
        Seed-steps compared.
    by_seed : ndarray of shape (R,)
        Mean absolute difference of each seed with steps under both arms.
    """

    max_abs: float
    n_steps: int
    by_seed: Floats


def cross_world(
    frame: pd.DataFrame,
    *,
    arm: str,
    yoked: str,
    baseline: str = "baseline",
    reverse: str | None = None,
    outcome: str = OUTCOME,
    mediator: str = TREATMENT,
    settings: Settings = Settings(),
) -> CrossWorld:
    """Split the total effect of `arm` by the yoked runs.

    Parameters
    ----------
    frame : DataFrame
        Table ``replicates``: one row per seed and arm.
    arm, yoked, baseline : str
        The arm, its procedure at the baseline's alignment, and the baseline.
    reverse : str, optional
        The baseline's procedure at `arm`'s alignment.
    outcome, mediator : str
        Columns of outcome and alignment.
    settings : Settings
        How the intervals are computed; that of the proportion mediated follows the skewness rule
        whatever `settings.interval` is.

    Returns
    -------
    CrossWorld
        All parts over the seeds that are complete in every arm named.

    Raises
    ------
    DataError
        If a column or an arm is missing, or a seed has two rows under one arm.
    """
    roles = {"baseline": baseline, "arm": arm, "yoked": yoked}
    if reverse is not None:
        roles["reverse"] = reverse
    panel = paired_panel(frame, [outcome, mediator], list(roles.values()))
    gap = _residual_gap(panel, mediator, arm, yoked, baseline, settings.level)
    parts = {name: _part(panel, name, outcome, roles, settings) for name in _PARTS}
    parts["interaction"] = _interaction(panel, outcome, roles, settings)
    for name, plus, minus in (
        ("proportion_mediated", "arm", "yoked"),
        ("pnie_proportion", "reverse", "baseline"),
    ):
        parts[name] = _proportion(panel, name, outcome, roles, (plus, minus), settings)
    notes = _gap_warnings(gap)
    noted = {name: one if name == "te" else _with_notes(one, notes) for name, one in parts.items()}
    return CrossWorld(residual_mediator_gap=gap, **noted)


_NO_REVERSE = "no reverse yoked arm was run"
_PARTS = {
    "te": ("Effect of {arm!r} against {baseline!r}.", "arm", "baseline"),
    "pnde": ("Effect of {arm!r} at the alignment of {baseline!r}, by yoking.", "yoked", "baseline"),
    "tnie": (
        "Effect of moving alignment as {arm!r} does, under {arm!r}, by yoking.",
        "arm",
        "yoked",
    ),
    "pnie": (
        "Effect of moving alignment as {arm!r} does, under {baseline!r}, by yoking.",
        "reverse",
        "baseline",
    ),
    "tnde": ("Effect of {arm!r} at its own alignment, by yoking.", "arm", "reverse"),
}
"""Of each part: its sentence, and the roles of the two arms whose difference it is."""


def _part(
    panel: Panel, name: str, outcome: str, roles: Mapping[str, str], settings: Settings
) -> Result:
    sentence, plus, minus = _PARTS[name]
    estimand = Estimand(
        name=f"{name}_{roles['arm']}",
        sentence=sentence.format(**roles),
        outcome=outcome,
        contrast=" - ".join(roles.get(role, "reverse yoke") for role in (plus, minus)),
        assumptions=_ASSUMPTIONS[-1:] if name == "te" else _ASSUMPTIONS,
    )
    if plus not in roles or minus not in roles:
        return NotEstimable(estimand, _NO_REVERSE)
    return mean_interval(
        panel.difference(outcome, roles[plus], roles[minus]),
        settings=settings,
        estimand=estimand,
        n_dropped=panel.n_dropped,
    )


def _interaction(
    panel: Panel, outcome: str, roles: Mapping[str, str], settings: Settings
) -> Result:
    estimand = Estimand(
        name=f"interaction_{roles['arm']}",
        sentence="Effect of moving alignment under the arm less that under the baseline.",
        outcome=outcome,
        contrast="TNIE - PNIE",
        assumptions=_ASSUMPTIONS,
    )
    if "reverse" not in roles:
        return NotEstimable(estimand, _NO_REVERSE)
    total = panel.difference(outcome, roles["arm"], roles["yoked"])
    pure = panel.difference(outcome, roles["reverse"], roles["baseline"])
    return mean_interval(
        total - pure, settings=settings, estimand=estimand, n_dropped=panel.n_dropped
    )


def _proportion(
    panel: Panel,
    name: str,
    outcome: str,
    roles: Mapping[str, str],
    sides: tuple[str, str],
    settings: Settings,
) -> Result:
    plus, minus = sides
    part = "TNIE" if name == "proportion_mediated" else "PNIE"
    estimand = Estimand(
        name=f"{name}_{roles['arm']}",
        sentence=f"Share of the effect of {roles['arm']!r} that goes through alignment ({part}).",
        outcome="share of the total effect (1)",
        contrast=f"{part} / TE",
        assumptions=_ASSUMPTIONS,
    )
    if plus not in roles:
        return NotEstimable(estimand, _NO_REVERSE)
    return ratio_of_sums(
        estimand,
        panel.difference(outcome, roles[plus], roles[minus]),
        panel.difference(outcome, roles["arm"], roles["baseline"]),
        settings=replace(settings, interval="auto"),
        n_dropped=panel.n_dropped,
    )


def controlled_direct(
    frame: pd.DataFrame,
    *,
    arm_clamped: str,
    baseline_clamped: str,
    outcome: str = OUTCOME,
    mediator: str = TREATMENT,
    settings: Settings = Settings(),
) -> Result:
    """CDE(m): the arm's procedure against the baseline's, both clamped to one trajectory.

    Parameters
    ----------
    frame, outcome, mediator, settings
        As in `cross_world`.
    arm_clamped, baseline_clamped : str
        The two clamped arms.

    Returns
    -------
    Estimate or NotEstimable
        In the outcome's unit; ``diagnostics`` give the mean alignment of both arms, which a
        perfect clamp makes equal.
    """
    panel = paired_panel(frame, [outcome, mediator], [baseline_clamped, arm_clamped])
    alignment = {
        f"mean_{mediator}_{name}": float(panel.column(mediator, name).mean())
        for name in panel.arms
        if len(panel.seeds)
    }
    return mean_interval(
        panel.difference(outcome, arm_clamped, baseline_clamped),
        estimand=Estimand(
            name=f"cde_{arm_clamped}",
            sentence=f"Effect of {arm_clamped!r} against {baseline_clamped!r} at one alignment.",
            outcome=outcome,
            contrast=f"{arm_clamped} - {baseline_clamped}",
            assumptions=_ASSUMPTIONS,
        ),
        n_dropped=panel.n_dropped,
        diagnostics=alignment,
        settings=settings,
    )


def clamp_error(
    steps: pd.DataFrame, *, yoked: str, target: str = "baseline", alignment: str = "cos_update"
) -> ClampError:
    """Compare the alignment of `yoked` with that of `target`, seed by seed and step by step.

    Parameters
    ----------
    steps : DataFrame
        Table ``steps``.
    yoked, target : str
        The clamped arm, and the arm whose trajectory it follows.
    alignment : str
        Column that is clamped.

    Raises
    ------
    DataError
        If the two arms share no step.
    """
    validate_columns(steps, ["seed", "arm", "step", alignment])
    steps = seeds_and_arms(steps)
    validate_arms(steps, [yoked, target])
    sides = [
        steps.loc[steps["arm"] == name].set_index(["seed", "step"])[alignment]
        for name in (yoked, target)
    ]
    gap = (sides[0] - sides[1]).abs().dropna()
    if gap.empty:
        raise DataError(f"arms {yoked!r} and {target!r} share no step with {alignment}")
    by_seed = gap.groupby(level="seed").mean().to_numpy()
    return ClampError(float(gap.max()), len(gap), by_seed)


def _residual_gap(
    panel: Panel, mediator: str, arm: str, yoked: str, baseline: str, level: float
) -> Result:
    return ratio_of_sums(
        Estimand(
            name=f"residual_mediator_gap_{yoked}",
            sentence=f"Share of the alignment gap of {arm!r} that the clamp of {yoked!r} leaves.",
            outcome="share of the alignment gap (1)",
            contrast=f"({yoked} - {baseline}) / ({arm} - {baseline})",
        ),
        panel.difference(mediator, yoked, baseline),
        panel.difference(mediator, arm, baseline),
        settings=Settings(level, interval="t"),
        n_dropped=panel.n_dropped,
    )


def _gap_warnings(gap: Result) -> Sequence[str]:
    if isinstance(gap, NotEstimable):
        return (f"the clamp cannot be checked: {gap.reason}",)
    if abs(gap.value) <= GAP_LIMIT:
        return ()
    return (f"the clamp left {100 * gap.value:.0f} % of the alignment gap open",)


def _with_notes(result: Result, notes: Sequence[str]) -> Result:
    if isinstance(result, Estimate):
        return replace(result, warnings=(*result.warnings, *notes))
    return result
