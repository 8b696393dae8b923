"""Mediation and instruments: how much of the effect goes through alignment, under which terms."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sublim_causal.analysis.estimates.types import Estimate, NotEstimable, Result
from sublim_causal.analysis.plan.declaration import column_unit
from sublim_causal.analysis.plan.generated.design import DoseArms
from sublim_causal.report.commands import aligned_command, study_command
from sublim_causal.report.elements import Element, Missing, Paragraph, Picture, Section
from sublim_causal.report.figures.paths import (
    dose_response,
    path_diagram,
    sensitivity_curves,
    wald_plot,
)
from sublim_causal.report.material import Material
from sublim_causal.report.tables import declared_table, estimates_table
from sublim_causal.report.wording import (
    decimals,
    interval,
    named,
    number,
    p_equals,
    sentence_case,
    slug,
)
from sublim_causal.store.outcome import ACCURACY

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
    blocks: list[Element] = [*declared_table(material, "mediation_declared", METHODS)]
    for part in (_yoked, _run_level, _doses):
        blocks += part(material)
    return Section("mediation", TITLE, blocks)


def _yoked(material: Material) -> Iterator[Element]:
    found = [one for world in material.cross_worlds for one in world.values()]
    if not found:
        yield Missing(
            "By experiment: no arm was yoked (trained by one arm's procedure at the alignment of "
            "another arm), so the effect through alignment was not measured.",
            "" if material.is_own else study_command("yoked", material.run),
        )
        return
    yield estimates_table(
        "cross_world",
        "By experiment: parts of the effect from yoked runs, paired by seed, without assuming "
        f"that nothing confounds alignment and outcome. {material.source(found)}",
        found,
        labels=[one.estimand.sentence.rstrip(".") for one in found],
    )


def _run_level(material: Material) -> Iterator[Element]:
    splits = material.mediations
    if not splits:
        both = material.reference in material.shown_arms and len(material.shown_arms) > 1
        how = "" if material.is_own else " (measure.alignment = true)"
        pairs = "" if material.is_paired else ", and arms that share their seeds"
        yield Missing(
            f"By model: mediation compares arms with {named(material.reference)}; it needs that "
            f"arm, another arm, and measured alignment{how}{pairs}.",
            aligned_command(material.run) if both and not material.is_own else "",
        )
        return
    words = _words(material)
    yield Paragraph(
        f"By model: the effect of each arm on {words.final}, split at run level into the part "
        "that goes through the mean alignment of the update and the part that does not. This is a "
        "sensitivity analysis, not an answer: it assumes that within a seed nothing else affects "
        f"both alignment and {words.short}, but alignment changes as the trait is learned."
    )
    chosen = material.design.main_projections()
    drawn = [arm for arm in splits if len(splits) <= DRAWN or arm in chosen][:DRAWN]
    for index, arm in enumerate(drawn):
        yield from _paths(index, splits[arm], words)
    shown = [split[name] for split in splits.values() for name in _PARTS]
    yield estimates_table(
        "mediation",
        f"Run-level mediation: effects in {words.final}, alignment as a cosine, the slope in "
        f"{words.short} ({words.unit}) per unit of cosine. One slope is fitted to all arms "
        f"that differ from {named(material.reference)} only in their intervention and are not "
        "yoked. "
        f"{material.source(shown)}",
        shown,
        labels=[
            f"{named(arm)}: {text.format(outcome=words.short)}"
            for arm in splits
            for text in _PARTS.values()
        ],
    )
    yield from _sensitivity(material, drawn)


_PARTS = {
    "te": "total effect",
    "alpha": "effect on alignment",
    "beta": "slope of {outcome} on alignment",
    "pnie": "indirect effect",
    "pnde": "direct effect",
    "proportion_mediated": "indirect / total",
}
"""What the table shows; without interaction the other parts repeat these."""


@dataclass(frozen=True)
class _Words:
    """What the outcome is called: in full, in short, its unit, that of a difference."""

    final: str
    short: str
    unit: str
    points: str


def _words(material: Material) -> _Words:
    label, unit = material.outcome.label, column_unit("replicates", material.outcome.name)
    if material.outcome == ACCURACY:
        return _Words("final accuracy", "accuracy", unit, material.points)
    return _Words(label, label, unit, material.points)


def _paths(index: int, split: Mapping[str, Result], words: _Words) -> Iterator[Picture]:
    arrows = {"alpha": split["alpha"], "beta": split["beta"], "direct": split["pnde"]}
    texts = {name: _arrow_text(one) for name, one in arrows.items() if isinstance(one, Estimate)}
    if len(texts) < len(arrows):
        return
    arm, reference, level = _arms_and_level(split)
    yield Picture(
        slug("paths", index, arm),
        f"{named(arm)} against {named(reference)}: the paths of the model with "
        f"{100 * level:g} % intervals. Path to alignment: cosine; path from alignment: "
        f"{words.short} ({words.unit}) per unit of cosine; below: direct effect ({words.unit}).",
        path_diagram(f"{arm}\nvs {reference}", words.final.replace(" ", "\n"), texts),
    )


def _arms_and_level(split: Mapping[str, Result]) -> tuple[str, str, float]:
    one = split["pnde"]
    assert isinstance(one, Estimate)  # its arrow is drawn
    return one.estimand.arm, one.estimand.reference, one.level


def _arrow_text(one: Estimate) -> str:
    places = decimals(one.low, one.high)
    return f"{number(one.value, places)}\n{interval(one.low, one.high, places)}"


def _sensitivity(material: Material, arms: list[str]) -> Iterator[Element]:
    found = [
        one
        for arm in arms
        if (
            one := material.find("mediation_sensitivity", arm=arm, **material.alignment_and_outcome)
        )
    ]
    curves = [one for one in found if isinstance(one, Estimate)]
    for one in found:
        if isinstance(one, NotEstimable):
            yield Missing(f"No sensitivity curve for {named(one.estimand.arm)}: {one.reason}")
    if not curves:
        return
    yield Picture(
        "sensitivity",
        f"The indirect effect if the errors of alignment and {_words(material).short} were "
        "correlated within seeds (an unmeasured common cause). Each curve uses one arm and the "
        "reference; the slope in the table is pooled over arms. The pointwise "
        f"{100 * material.level:g} % bands use the model's standard errors (as R's medsens does), "
        "which are narrower than the cluster-robust ones of the table. Symbols: the correlation "
        "at which the indirect effect vanishes.",
        sensitivity_curves(curves, f"indirect effect\n({material.points})", material.scale),
    )
    for one in curves:
        yield Paragraph(
            f"{named(one.estimand.arm)}: the indirect effect vanishes at a correlation of "
            f"{number(one.value, 2)}, that is, if a common cause explains shares of the two "
            f"residual variances whose product is {number(one.diagnostics['r2_product'], 2)}."
        )


def _doses(material: Material) -> Iterator[Element]:
    doses = material.design.doses()
    if not doses:
        yield Missing(
            "Instruments: alignment was not dosed (projection has fewer than two strengths besides "
            "0), so there is no dose-response, and an instrument could not be checked by "
            "over-identification.",
            "" if material.is_own else study_command("dose", material.run),
        )
    for space, one in doses.items():
        yield Paragraph(f"Doses of projection in {space} space.")
        yield from _dose(material, space, one)


def _dose(material: Material, space: str, doses: DoseArms) -> Iterator[Element]:
    common: dict[str, Any] = {
        "space": space,
        "undosed": doses.undosed,
        "outcome": material.outcome.name,
    }
    effect = material.find("iv_linear_dose", **common)
    yield from _dose_pictures(material, space, common, effect)
    rows = _dose_rows(material, common)
    found = [*rows.values()]
    yield estimates_table(
        slug("dose", space),
        f"Dose-response and instruments, {space} space: effects of alignment are in "
        f"{_words(material).short} ({_words(material).unit}) per unit of cosine. "
        f"{material.source(found)}",
        found,
        labels=[*rows],
    )
    yield _dose_tests(material, common)


def _dose_rows(material: Material, common: Mapping[str, Any]) -> dict[str, Result]:
    """Return the estimates of a dose study by what the table calls them."""
    short = _words(material).short
    single = {
        f"change of {short} per unit of strength": ("dose_trend", {"shape": "slope"}),
        "effect of alignment, linear dose (Fieller)": ("iv_linear_dose", {}),
        "effect of alignment, all doses (2SLS)": ("iv_2sls", {"instruments": "doses"}),
        "effect of alignment, all doses (Anderson-Rubin)": ("anderson_rubin", {}),
        "direct effect of a dose (intercept)": ("egger_intercept", {}),
    }
    rows = {
        label: one
        for label, (method, fields) in single.items()
        for one in material.either(method, **common, **fields)
    }
    for one in material.either("dose_trend", shape="changes", **common):
        rows[f"from {named(one.estimand.reference)} to {named(one.estimand.arm)}"] = one
    for one in material.either("wald_by_dose", **common):
        if isinstance(one, Estimate):
            rows[f"Wald ratio at strength {one.diagnostics['dose']:g}"] = one
        else:
            rows[f"Wald ratio of {named(one.estimand.arm)}"] = one
    return rows


def _dose_pictures(
    material: Material, space: str, common: Mapping[str, Any], effect: Result | None
) -> Iterator[Picture]:
    level = f"{100 * material.level:g} %"
    curves = {
        shape: [
            one
            for one in material.either("dose_trend", shape=shape, **common)
            if isinstance(one, Estimate)
        ]
        for shape in ("linear", "isotonic")
    }
    if all(curves.values()):
        yield Picture(
            slug("dose", space),
            f"{sentence_case(_words(material).final)} against the strength of projection in "
            f"{space} space: means over seeds, a decreasing curve and a line; the {level} band "
            "holds for all doses at once.",
            dose_response(
                curves["linear"],
                curves["isotonic"],
                f"{material.outcome.label} ({material.unit})",
                material.scale,
            ),
        )
    if isinstance(effect, Estimate):
        ratios = [
            one for one in material.either("wald_by_dose", **common) if isinstance(one, Estimate)
        ]
        yield Picture(
            slug("wald", space),
            f"Change of {_words(material).short} against change of the update's mean cosine, by "
            f"strength, with {level} ellipses. If alignment were the only path, all points would "
            "lie on one line through the origin (dashed: the linear-dose estimate).",
            wald_plot(
                ratios,
                effect.value,
                material.level,
                f"change of {_words(material).final}\n({material.points})",
                material.scale,
            ),
        )


def _dose_tests(material: Material, common: Mapping[str, Any]) -> Paragraph:
    short = _words(material).short
    tests: tuple[tuple[str, str, str, dict[str, str]], ...] = (
        ("the dose moves alignment (first stage)", "iv_2sls", "first_stage", {}),
        ("all doses agree on one effect (Sargan)", "iv_2sls", "overidentification", {}),
        (f"{short} falls with strength (Page)", "dose_trend", "trend", {"shape": "slope"}),
    )
    tests_run = [
        f"{name}: {_tested(material.find(method, **common, **fields), key)}"
        for name, method, key, fields in tests
    ]
    return Paragraph("; ".join(tests_run) + ".")


def _tested(result: Result | None, key: str) -> str:
    if not isinstance(result, Estimate):
        return f"not run ({result.reason if result else 'not declared'})"
    test = result.diagnostics[key]
    if test["p_value"] is None:
        return f"not run ({test['reason']})"
    return f"{test['distribution']} {test['statistic']:.4g}, {p_equals(test['p_value'])}"
