"""What could still be wrong."""

from __future__ import annotations

from collections.abc import Iterator

from sublim_causal.analysis.estimates.headline import SKEW_LIMIT
from sublim_causal.analysis.estimates.types import FEW_SEEDS, MIN_SEEDS, Estimate
from sublim_causal.analysis.plan.looks import LOOKED
from sublim_causal.report.elements import Sentence
from sublim_causal.report.material import Material, values
from sublim_causal.report.wording import counted, estimate, listed, named, p_equals
from sublim_causal.store.outcome import data_of


def cautions(material: Material) -> Iterator[Sentence]:
    """Yield what limits the findings."""
    if material.n_seeds < FEW_SEEDS:
        n, few = counted(material.n_seeds, "seed is", "seeds are"), material.n_seeds < MIN_SEEDS
        says = (
            f"with fewer than {MIN_SEEDS} there are no intervals, and no question can be settled"
            if few
            else f"with fewer than {FEW_SEEDS} no interval reliably reaches its nominal coverage"
        )
        yield Sentence(f"Only {n} complete: {says}.", "caution", "study")
    lost = material.n_replicates - material.count("complete")
    if lost:
        yield Sentence(
            f"{lost} of {material.n_replicates} replicates are not complete and are left out.",
            "caution",
            "study",
        )
    yield from _levels_differ(material)
    yield from _skewed(material)
    yield from _looks(material)
    yield from _collapsed(material)
    data = data_of(material.manifest)
    model = material.manifest["study"].get("model", {}).get("class")
    where = listed([str(name) for name in (data, model) if name])
    if material.is_own:
        yield Sentence(
            "The findings apply to new seeds of the training that wrote this run, not to other "
            "data, networks or optimizers.",
            "caution",
            "study",
        )
        return
    yield Sentence(
        f"One data set and one network{f' ({where})' * bool(where)}: the findings apply to new "
        "seeds of this study, not to other data, networks or optimizers.",
        "caution",
        "study",
    )


def _levels_differ(material: Material) -> Iterator[Sentence]:
    """Say where the slopes within runs, between arms and between seeds are not one."""
    for predictor in ("cos_gradient", "cos_update"):
        within, between = (
            values(
                material.find(
                    "step_slope", part=level, outcome="gain", predictor=predictor, split="levels"
                )
            )
            for level in ("within_run", "between_arms")
        )
        if within is None or between is None:
            continue
        p = material.equal_slopes["gain", predictor].p_value
        differs = p is not None and p < 1 - material.level
        if differs or within.high < between.low or between.high < within.low:
            tested = p_equals(p) if p is not None else "not run"
            says = (
                f"the slopes differ between levels ({tested}), so not all can be the causal slope"
                if differs
                else f"the test of equal slopes at all levels does not reject ({tested}), "
                "so it remains open whether they differ"
            )
            yield Sentence(
                f"The slope of gain on {predictor} is {estimate(within)} nats per unit within runs "
                f"and {estimate(between)} between arms: {says}.",
                "caution",
                "mixed",
            )


def _looks(material: Material) -> Iterator[Sentence]:
    told = {
        warning: None
        for one in material.results.results
        if isinstance(one, Estimate)
        for warning in one.warnings
        if warning.startswith(LOOKED)
    }
    for warning in told:
        yield Sentence(f"This run was {warning}.", "caution", "methods")


def _collapsed(material: Material) -> Iterator[Sentence]:
    for one in material.either("collapsed_seeds"):
        if isinstance(one, Estimate) and one.diagnostics["collapsed"]:
            where = f"Under {named(one.estimand.arm)}, {one.estimand.column}"
            yield Sentence(f"{where}: {one.warnings[-1]}.", "caution", "study")


def _skewed(material: Material) -> Iterator[Sentence]:
    skewed = [
        one.estimand.name
        for one in material.results.results
        if isinstance(one, Estimate) and abs(one.diagnostics.get("skewness", 0.0)) > SKEW_LIMIT
    ]
    if skewed:
        yield Sentence(
            f"In {len(skewed)} of {len(material.results.results)} declared estimates the "
            "per-seed values are skewed. The interval given for them is the hull of t and "
            "bootstrap-t, unless the plan chose another interval or too few values differ. With "
            "few seeds even the hull covers less than its nominal level.",
            "caution",
            "methods",
        )
