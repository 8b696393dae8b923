"""The study at a glance: what was run, what came through, and the paper beside it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from sublim_causal.analysis.estimates.types import Estimate, Result
from sublim_causal.analysis.plan.declaration import column_unit
from sublim_causal.analysis.plan.generated import paper
from sublim_causal.analysis.plan.methods.descriptives import STATES
from sublim_causal.analysis.plan.record import CHANCE
from sublim_causal.declared import flatten
from sublim_causal.report.commands import run_command
from sublim_causal.report.elements import Element, Missing, Paragraph, Section, Table
from sublim_causal.report.material import Material
from sublim_causal.report.wording import decimals, estimate, interval, named, number, percent
from sublim_causal.store.outcome import data_of

TITLE = "The study at a glance"


def glance(material: Material) -> Section:
    """Return the section ``study``."""
    return Section("study", TITLE, [*_blocks(material)])


def arm_mean(material: Material, arm: str, column: str) -> Result | None:
    """Return the mean of a ``replicates`` column over the complete seeds of `arm`."""
    return material.find("arm_mean", arm=arm, outcome=column, start=None)


def mean_text(result: Result | None, *, as_percent: bool) -> str:
    """Write a mean with its interval, or the mean alone where there are too few seeds."""
    scale = 100.0 if as_percent else 1.0
    if isinstance(result, Estimate):
        places = decimals(scale * result.low, scale * result.high)
        value = number(scale * result.value, places)
        return f"{value} {interval(result.low, result.high, places, scale)}"
    if result is None or result.value is None:
        return "none complete"
    return f"{number(scale * result.value, 1 if as_percent else 4)} (too few seeds)"


def _blocks(material: Material) -> Iterator[Element]:
    yield _facts(material)
    yield _arms(material)
    yield from _incomplete(material)
    if material.results.run == paper.STUDY:
        yield _beside_the_paper(material)


def _facts(material: Material) -> Table:
    rows = [(label, text) for label, text in study_facts(material) if text]
    frame = pd.DataFrame(rows, columns=["", "value"])
    return Table("study", "What was run.", frame, frame)


def study_facts(material: Material) -> Iterator[tuple[str, str]]:
    """Yield label and text of what defines a study; the text is empty where it is not known."""
    manifest, study = material.manifest, material.manifest["study"]
    model = study.get("model", {})
    of_images = study.get("task", {}).get("name", "images") == "images"
    teacher, distillation = study.get("teacher", {}), study.get("distillation", {})
    yield "run" if material.is_own else "study", str(manifest["name"])
    yield "data", data_of(manifest)
    yield "model", _model(model, of_images=of_images)
    yield "teacher", _training(teacher)
    yield "student", _training(distillation)
    if material.is_own:
        yield "outcome", f"{material.outcome.label} ({material.outcome.name}, in {material.unit})"
    if (chance := material.outcome.chance) is not None and material.is_own:
        yield "chance level", f"{material.scale * chance:g} {material.unit}"
    examples = "noise images" if of_images else "texts"
    yield examples, f"{distillation['examples']:,}" if "examples" in distillation else ""
    yield "seeds", _seeds(material)
    yield "steps of a student", f"{material.n_steps:,}" if material.n_steps else ""
    yield (
        "probe images" if of_images else "probe questions",
        f"{study['probe']['size']:,}" if "probe" in study else "",
    )
    for label, column in _shared(material).items():
        yield label, _over_seeds(material, column)
    yield (
        "simulated",
        "yes: made by sublim_causal.analysis.simulate" * bool(manifest.get("simulated")),
    )


def _seeds(material: Material) -> str:
    """Write how many seeds there are, and whether arms share them."""
    n_seeds = material.results.n_seeds
    if not material.is_own:
        return f"{n_seeds} (declared: {material.manifest['study'].get('seeds', 'not recorded')})"
    if len(material.shown_arms) < 2:
        return str(n_seeds)
    how = (
        "arms are compared seed by seed"
        if material.is_paired
        else "arms share none: they are compared as independent samples, by Welch's t"
    )
    return f"{n_seeds}; {how}"


def _shared(material: Material) -> dict[str, str]:
    """Return the columns that the arms of a seed share, by what they are called."""
    outcome = material.outcome
    called = outcome.label.removeprefix("final ")
    return {
        f"teacher's {called}": outcome.teacher,
        **({} if outcome.start == CHANCE else {f"{called} before training": outcome.start}),
        "teacher's accuracy under attack": "teacher_robust_accuracy",
    }


def _over_seeds(material: Material, column: str) -> str:
    """Write the mean of an accuracy that the arms of a seed share; empty where it is not known."""
    found = material.find("seed_mean", outcome=column)
    if found is None or found.value is None:
        return ""
    if isinstance(found, Estimate) and column_unit("replicates", column) != "fraction":
        return f"{estimate(found)}, mean over {found.n_seeds} seeds"
    if not isinstance(found, Estimate):
        n = material.n_seeds
        return f"{percent(found.value)}, {'one seed' if n == 1 else f'mean over {n} seeds'}"
    places = max(decimals(100 * found.low, 100 * found.high), 1)
    limits = interval(found.low, found.high, places, 100)
    return (
        f"{percent(found.value, places)} {limits}, mean over {found.n_seeds} seeds with "
        f"{100 * material.level:g} % interval"
    )


def _model(model: Mapping[str, Any], *, of_images: bool) -> str:
    if not {"class", "auxiliary"} <= set(model):
        return ""
    options = [f"{name} {value}" for name, value in model.get("options", {}).items()]
    auxiliary = [f"{model['auxiliary']} auxiliary logits"] if of_images else []
    return ", ".join([str(model["class"]), *options, *auxiliary])


def _training(part: Mapping[str, Any]) -> str:
    names = {"epochs": "epochs", "batch_size": "batch", "learning_rate": "learning rate"}
    return ", ".join(f"{text} {part[name]}" for name, text in names.items() if name in part)


def option_text(material: Material, arm: str) -> str:
    """Return intervention and options of an arm in one line, without what the reference shares."""
    record, reference = material.design.record, material.reference
    options = _flat(record.options(arm))
    shared = {} if arm == reference else _flat(record.options(reference))
    members = options.pop("members", ())
    rest = {name: value for name, value in options.items() if shared.get(name) != value}
    if not members:
        return _procedure(rest | {"intervention": options["intervention"]})
    resolved = record.stages(arm) or [{} for _ in members]
    stages = [{**_flat(one), **more} for one, more in zip(members, resolved, strict=False)]
    own = {name: value for name, value in rest.items() if not any(name in one for one in stages)}
    steps = "; then ".join(_procedure(stage) for stage in stages)
    return f"{_procedure(own | {'intervention': options['intervention']})}: {steps}"


def _procedure(options: Mapping[str, Any]) -> str:
    """Write an intervention and those of its options that are set; names of arms are marked."""
    rest = [
        f"{name} {named(value) if name.split('.')[-1] == 'target' else value}"
        for name, value in options.items()
        if name != "intervention" and value not in (None, [], {})
    ]
    return ", ".join([str(options["intervention"]), *rest])


def _flat(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options by dotted name; those of a stage (``0.strength``) by the name within it."""
    return {re.sub(r"^\d+\.", "", name): value for name, value in flatten(options).items()}


def _arms(material: Material) -> Table:
    shown, numbers = [], []
    means = {
        name: how
        for name, how in _means(material).items()
        if any(_value(arm_mean(material, arm, name)) is not None for arm in material.arms)
    }
    shown_states = [one for one in STATES if one != "unreached" or material.count(one)]
    for arm in material.arms:
        states = {state: material.count(state, arm) for state in shown_states}
        found = {column: arm_mean(material, arm, column) for column in means}
        texts = {
            heading: mean_text(found[column], as_percent=as_percent)
            for column, (heading, as_percent) in means.items()
        }
        shown.append(
            {
                "arm": named(arm),
                **{k: str(v) for k, v in states.items()},
                **texts,
                "what it does": option_text(material, arm),
            }
        )
        numbers += [{**one.tidy(), "arm": arm, **states} for one in found.values() if one]
    level = f"{100 * material.level:g} %"
    return Table(
        "arms",
        f"Arms: replicates by status, and means over seeds with {level} intervals.",
        pd.DataFrame(shown),
        pd.DataFrame(numbers),
    )


def _value(result: Result | None) -> float | None:
    return None if result is None else result.value


def _means(material: Material) -> dict[str, tuple[str, bool]]:
    """Return the columns whose means are shown, with headings and whether in percent."""
    outcome = material.outcome
    heading = f"{outcome.label} ({material.unit})"
    return {outcome.name: (heading, material.unit == "%"), **_MEANS}


_MEANS = {
    "robust_accuracy": ("accuracy under attack (%)", True),
    "mean_cos_gradient": ("cos gradient", False),
    "share_positive": ("cos gradient > 0 (% of steps)", True),
    "mean_cos_update": ("cos update", False),
}


def _incomplete(material: Material) -> Iterator[Element]:
    rows = [
        {
            "arm": one.estimand.arm,
            "status": one.estimand.part,
            "reason": reason,
            "seeds": ", ".join(map(str, seeds)),
        }
        for one in material.either("replicate_counts")
        if isinstance(one, Estimate)
        for reason, seeds in one.diagnostics.get("seeds", {}).items()
    ]
    if rows:
        frame = pd.DataFrame(rows).sort_values(["arm", "status", "reason"], ignore_index=True)
        shown = frame.assign(arm=frame["arm"].map(named))
        yield Table("incomplete", "Replicates that are not complete, and why.", shown, frame)
    if material.is_own:
        return
    declared = int(material.manifest["study"].get("seeds", 0)) * len(
        material.manifest["study"].get("arms", material.arms)
    )
    if missing := declared - material.n_replicates:
        yield Missing(
            f"{missing} of {declared} replicates have not been run yet.", run_command(material.run)
        )


def _beside_the_paper(material: Material) -> Element:
    shown, numbers = [], []
    for quoted in paper.QUOTED:
        if quoted.arm not in material.shown_arms:
            continue
        ours = arm_mean(material, quoted.arm, quoted.column)
        seeds = {
            one.estimand.part: one
            for one in material.either(
                "seed_range", arm=quoted.arm, outcome=quoted.column, published=quoted.value
            )
            if isinstance(one, Estimate)
        }
        scale, places = (100, 2) if quoted.percent else (1, 4)
        shown.append(
            {
                "": quoted.label,
                "paper": number(scale * quoted.value, places),
                "ours": mean_text(ours, as_percent=quoted.percent),
                "seeds from": number(scale * seeds["smallest"].value, places),
                "to": number(scale * seeds["largest"].value, places),
                "seeds below the paper's": f"{seeds['below'].value:g} of {seeds['below'].n_seeds}",
            }
        )
        own = ours.tidy() if ours else {}
        numbers.append({"quantity": quoted.label, "paper": quoted.value, **own})
    if not shown:
        return Paragraph(
            "None of the paper's arms is complete, so there is nothing to compare with its results."
        )
    return Table(
        "paper",
        f"The paper's results and ours. Source: {paper.SOURCE}. Ours: mean over seeds with "
        f"{100 * material.level:g} % interval, and the range of single seeds.",
        pd.DataFrame(shown),
        pd.DataFrame(numbers),
    )
