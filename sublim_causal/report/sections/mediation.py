"""Mediation and instruments: how much of the effect goes through alignment, under which terms."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sublim_causal.analysis.causal.anderson_rubin import anderson_rubin
from sublim_causal.analysis.causal.crossworld import CrossWorld
from sublim_causal.analysis.causal.dose import (
    DoseCurve,
    adjacent_changes,
    dose_slope,
    isotonic_curve,
    linear_curve,
    monotone_trend,
)
from sublim_causal.analysis.causal.instruments import (
    WaldRatio,
    egger_intercept,
    iv_linear_dose,
    wald_by_dose,
)
from sublim_causal.analysis.causal.mediation import Mediation
from sublim_causal.analysis.causal.sensitivity import Sensitivity, sensitivity
from sublim_causal.analysis.causal.two_stage import iv_2sls
from sublim_causal.analysis.estimates.settings import Settings
from sublim_causal.analysis.estimates.types import Estimate, NotEstimable, Result, TestResult
from sublim_causal.errors import SublimError
from sublim_causal.report.blocks import Block, Missing, Picture, Section, Text
from sublim_causal.report.commands import aligned_command, study_command
from sublim_causal.report.figures.paths import (
    dose_response,
    path_diagram,
    sensitivity_curves,
    wald_plot,
)
from sublim_causal.report.material import Material
from sublim_causal.report.supplement import undeclared
from sublim_causal.report.tables import declared_table, estimates_table
from sublim_causal.report.wording import decimals, interval, number, p_value, slug

TITLE = "Mediation and instruments"
DRAWN = 4
"""At most so many arms get a path picture and a sensitivity curve; the table has all."""
METHODS = (
    "cross_world",
    "controlled_direct",
    "clamp_error",
    "mediation",
    "mediation_sensitivity",
    "dose_trend",
    "iv_linear_dose",
    "iv_2sls",
    "anderson_rubin",
    "wald_by_dose",
    "egger_intercept",
)
"""Methods of a plan whose results stand in this section."""


def mediation(material: Material) -> Section:
    """Return the section ``mediation``."""
    blocks: list[Block] = []
    estimates: list[Result] = []
    blocks += declared_table(material, "mediation_declared", METHODS)
    for part in (_yoked, _run_level, _doses):
        found = part(material)
        blocks += found.blocks
        estimates += found.estimates
    return Section("mediation", TITLE, blocks, estimates)


def _part(blocks: Sequence[Block], estimates: Sequence[Result] = ()) -> Section:
    return Section("mediation", TITLE, blocks, estimates)


def _yoked(material: Material) -> Section:
    worlds = material.cross_worlds
    if not worlds:
        missing = Missing(
            "By experiment: no arm was yoked (run by one arm's procedure at the alignment that "
            "another arm had), so the effect through alignment was not run.",
            study_command("yoked", material.run),
        )
        return _part([missing])
    found = [one for world in worlds for one in cross_world_results(world)]
    table = estimates_table(
        "cross_world",
        "By experiment: parts of the effect from yoked runs, paired by seed, without assuming "
        "that nothing confounds alignment and outcome. Added by the report.",
        found,
        labels=[one.estimand.sentence.rstrip(".") for one in found],
    )
    return _part([table], found)


def cross_world_results(world: CrossWorld) -> tuple[Result, ...]:
    """Return the parts of `world` in a fixed order, marked as not declared."""
    names = (
        "te",
        "tnie",
        "pnde",
        "pnie",
        "tnde",
        "proportion_mediated",
        "residual_mediator_gap",
    )
    return tuple(undeclared(getattr(world, name)) for name in names)


def _run_level(material: Material) -> Section:
    splits = material.mediations
    if not splits:
        both = material.reference in material.shown_arms and len(material.shown_arms) > 1
        missing = Missing(
            f"By model: mediation compares arms with {material.reference}; it needs that arm, "
            "another one, and alignment that was measured (measure.alignment = true).",
            aligned_command(material.run) if both else "",
        )
        return _part([missing])
    found = [undeclared(one) for split in splits for one in split.results()]
    chosen = material.main_projections()
    drawn = [split for split in splits if len(splits) <= DRAWN or split.arm in chosen][:DRAWN]
    blocks: list[Block] = [
        Text(
            "By model: the effect of each arm on final accuracy, split at run level into what goes "
            "through the mean alignment of the update and what does not. This is a sensitivity "
            "analysis, not an answer: it assumes that within a seed nothing else moves both "
            "alignment and accuracy, while alignment itself changes as the trait is learned."
        ),
        *(picture for i, split in enumerate(drawn) if (picture := _paths(i, split))),
        estimates_table(
            "mediation",
            "Run-level mediation: accuracy as a fraction, alignment as a cosine. Added by the "
            "report.",
            [undeclared(getattr(split, name)) for split in splits for name in _PARTS],
            labels=[f"{split.arm}: {text}" for split in splits for text in _PARTS.values()],
        ),
        *_sensitivity(material, drawn),
    ]
    return _part(blocks, found)


_PARTS = {
    "te": "total effect",
    "alpha": "effect on alignment",
    "beta": "slope of accuracy on alignment",
    "pnie": "indirect effect",
    "pnde": "direct effect",
    "proportion_mediated": "indirect / total",
}
"""What the table shows; without interaction the other parts repeat these."""


def _paths(index: int, split: Mediation) -> Picture | None:
    parts = {"alpha": split.alpha, "beta": split.beta, "direct": split.pnde}
    if not all(isinstance(one, Estimate) for one in parts.values()):
        return None
    texts = {name: _arrow_text(one) for name, one in parts.items() if isinstance(one, Estimate)}
    return Picture(
        slug("paths", index, split.arm),
        f"{split.arm} against {split.baseline}: the model's arrows with "
        f"{100 * split.te.level:g} % intervals. To alignment: cosine; from alignment: accuracy "  # type: ignore[union-attr]
        "(fraction) per unit of cosine; below: direct effect (fraction).",
        path_diagram(f"{split.arm}\nvs {split.baseline}", "final\naccuracy", texts),
    )


def _arrow_text(one: Estimate) -> str:
    places = decimals(one.low, one.high)
    return f"{number(one.value, places)}\n{interval(one.low, one.high, places)}"


def _sensitivity(material: Material, splits: Sequence[Mediation]) -> Iterator[Block]:
    curves: list[Sensitivity] = []
    for split in splits:
        try:
            one = sensitivity(
                material.complete, split.arm, baseline=material.reference, level=material.level
            )
            curves.append(one)
        except SublimError as error:
            yield Missing(f"No sensitivity curve for {split.arm}: {error}")
    if not curves:
        return
    yield Picture(
        "sensitivity",
        "The indirect effect if the errors of alignment and accuracy were correlated within seeds "
        "(an unmeasured common cause), each arm beside the reference alone; the table's slope "
        f"pools its arms. Pointwise {100 * material.level:g} % bands from the model's errors "
        "(R's medsens), which are narrower than the table's cluster-robust ones. Symbols: the "
        "correlation at which it vanishes.",
        sensitivity_curves(curves, "indirect effect\n(percentage points)"),
    )
    for one in curves:
        yield Text(
            f"{one.arm}: the indirect effect vanishes at a correlation of "
            f"{number(one.rho_zero, 2)}, that is where a common cause explains shares of the two "
            f"residual variances whose product is {number(one.r2_product, 2)}."
        )


def _doses(material: Material) -> Section:
    if not material.doses:
        missing = Missing(
            "Instruments: alignment was not dosed (projection in fewer than two strengths besides "
            "0), so there is no dose-response, and an instrument could not be checked by "
            "over-identification.",
            study_command("dose", material.run),
        )
        return _part([missing])
    parts = [_dose(material, space, strengths) for space, strengths in material.doses.items()]
    return _part(
        [block for part in parts for block in part.blocks],
        [one for part in parts for one in part.estimates],
    )


@dataclass(frozen=True)
class _Dosed:
    """What the doses of one space show.

    Attributes
    ----------
    linear, isotonic : DoseCurve or NotEstimable
        The two dose-response curves.
    ratios : tuple of WaldRatio
        One a dose.
    effect : Estimate or NotEstimable
        Effect of alignment by a linear dose.
    rows : mapping of str to (Estimate or NotEstimable)
        All estimates, by what the table calls them.
    tests : mapping of str to TestResult
        By what they test.
    """

    linear: DoseCurve | NotEstimable
    isotonic: DoseCurve | NotEstimable
    ratios: tuple[WaldRatio, ...]
    effect: Result
    rows: Mapping[str, Result]
    tests: Mapping[str, TestResult]


def _dose(material: Material, space: str, strengths: Mapping[str, float]) -> Section:
    try:
        dosed = _estimate_doses(material, strengths)
    except SublimError as error:
        return _part([Missing(f"Doses in {space} space could not be analysed: {error}")])
    found = [*dosed.rows.values()]
    table = estimates_table(
        slug("dose", space),
        f"Dose-response and instruments, {space} space: effects are in accuracy (fraction) per "
        "unit of cosine. Added by the report.",
        found,
        labels=[*dosed.rows],
    )
    heading = Text(f"Doses of projection in {space} space.")
    pictures = _dose_pictures(dosed, space, material.level)
    return _part([heading, *pictures, table, _dose_tests(dosed.tests)], found)


def _estimate_doses(material: Material, strengths: Mapping[str, float]) -> _Dosed:
    runs, level = material.complete, material.level
    ratios = wald_by_dose(runs, strengths, level=level)
    fit = iv_2sls(runs, strengths, level=level)
    effect = iv_linear_dose(runs, strengths, level=level)
    robust = anderson_rubin(runs, strengths, level=level)
    rows = {
        "change of accuracy per unit of strength": dose_slope(
            runs, strengths, settings=Settings(level)
        ),
        "effect of alignment, linear dose (Fieller)": effect,
        "effect of alignment, all doses (2SLS)": fit.effect,
        "effect of alignment, all doses (Anderson-Rubin)": robust,
        "direct effect of a dose (intercept)": egger_intercept(runs, strengths, level=level),
        **{
            f"from {one.estimand.contrast.replace(' - ', ' after ')}": one
            for one in adjacent_changes(runs, strengths, settings=Settings(level))
        },
        **{f"Wald ratio at strength {one.dose:g}": one.ratio for one in ratios},
    }
    return _Dosed(
        linear=linear_curve(runs, strengths, level=level),
        isotonic=isotonic_curve(runs, strengths, level=level),
        ratios=ratios,
        effect=effect,
        rows={name: undeclared(one) for name, one in rows.items()},
        tests={
            "the dose moves alignment (first stage)": fit.first_stage,
            "all doses agree on one effect (Sargan)": fit.overidentification,
            "accuracy falls with strength (Page)": monotone_trend(runs, strengths),
        },
    )


def _dose_pictures(dosed: _Dosed, space: str, level: float) -> Iterator[Picture]:
    if isinstance(dosed.linear, DoseCurve) and isinstance(dosed.isotonic, DoseCurve):
        yield Picture(
            slug("dose", space),
            f"Final accuracy over the strength of projection in {space} space: means over "
            f"seeds, a falling curve and a line; the {100 * level:g} % band holds for all "
            "doses at once.",
            dose_response(dosed.linear, dosed.isotonic),
        )
    if isinstance(dosed.effect, Estimate):
        yield Picture(
            slug("wald", space),
            "Change of accuracy against change of the update's mean cosine, by strength, with "
            f"{100 * level:g} % ellipses. If alignment were the only way, all would lie on one "
            "line through the origin (dashed: the linear-dose estimate).",
            wald_plot(dosed.ratios, dosed.effect.value, level),
        )


def _dose_tests(tests: Mapping[str, TestResult]) -> Text:
    said = [
        f"{name}: {test.distribution} {test.statistic:.4g}, p {p_value(test.p_value)}"
        if test.statistic is not None and test.p_value is not None
        else f"{name}: not run ({test.reason})"
        for name, test in tests.items()
    ]
    return Text("; ".join(said) + ".")
