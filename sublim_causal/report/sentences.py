"""The answer: sentences built from the estimates, each with its interval."""

from __future__ import annotations

import math
from collections.abc import Iterator

from sublim_causal.analysis.estimates.types import FEW_SEEDS, MIN_SEEDS, Estimate, Result
from sublim_causal.analysis.plan.verdicts import Finding
from sublim_causal.report.blocks import Sentence, Verdict
from sublim_causal.report.material import Material, values
from sublim_causal.report.wording import (
    counted,
    decimals,
    estimate,
    interval,
    listed,
    number,
    p_value,
    scale_of,
)

PERSISTS = "Does alignment persist through training?"
STOPS = "Does removing it stop the transfer?"
THROUGH = "How much of the transfer goes through it?"
CONTROL = "What does the control say?"
CLAIMS = "What becomes of the claims that the plan declares?"
WRONG = "What could still be wrong?"
STOPPED = 0.9
"""Transfer counts as nearly stopped if the interval of the share that is gone lies above this."""
ATTENUATED = 0.5
"""A loss counts as attenuation if the interval of the share that is gone lies below this."""
RULES = (
    "An effect, slope or mean is called so only if its interval excludes the null value; otherwise "
    'the sentence says "is not shown". An arm "lowers" or "raises" the transfer if the interval of '
    'its difference in final accuracy lies below or above 0. One that lowers it "stops nearly all '
    f'of the transfer" if the interval of the share it prevents lies above {100 * STOPPED:g} %, '
    'and "stops the transfer" if, besides, what it still acquires is not shown to be above 0; it '
    '"attenuates the transfer and does not stop it" if the interval of that share lies below '
    f'{100 * ATTENUATED:g} %. An arm "does more than remove" alignment if the interval of the '
    'update\'s mean cosine under it lies below 0, and "leaves the update aligned" if above. An arm '
    'is "equivalent" to another if the interval of their difference lies inside the margin. The '
    'slopes at the levels "differ" by the test that all levels have one slope, not by their '
    "intervals."
)
"""The rules of wording, for the section of methods."""


def answer(material: Material) -> Iterator[Sentence]:
    """Yield the sentences in the order of their questions."""
    for question, part in (
        (PERSISTS, _persists),
        (STOPS, _stops),
        (THROUGH, _through),
        (CONTROL, _control),
        (CLAIMS, _claims),
        (WRONG, _wrong),
    ):
        for i, one in enumerate(part(material)):
            yield Sentence(one.text, one.verdict, one.anchor, question if i == 0 else "")


def _sides(one: Estimate, null: float = 0.0) -> str:
    """Return above, below, or across: where the interval lies against `null`."""
    return "above" if one.low > null else "below" if one.high < null else "across"


def _why_not(result: Result | None, what: str) -> str:
    if result is None:
        return f"The plan does not declare {what}, so this report does not settle it."
    return f"Not settled: {what} is not estimable ({getattr(result, 'reason', '')})."


def _persists(material: Material) -> Iterator[Sentence]:
    reference = material.reference
    late = {
        (column, summary): material.find(
            "seed_summary", arm=reference, outcome=column, summary=summary, window="late"
        )
        for column in ("cos_gradient", "cos_update")
        for summary in ("mean", "share_positive")
    }
    for column, subject in (
        ("cos_gradient", "the distillation gradient"),
        ("cos_update", "the optimizer's update"),
    ):
        mean, share = late[column, "mean"], late[column, "share_positive"]
        if not isinstance(mean, Estimate):
            what = f"the mean alignment of {subject} after the first epoch of {reference}"
            yield Sentence(_why_not(mean, what), "unsettled", "alignment")
            continue
        share = values(share)
        sides = {_sides(mean), _sides(share, 0.5)} if share else {_sides(mean)}
        verdict: Verdict = "yes" if sides == {"above"} else "unsettled"
        verdict = "no" if "below" in sides else verdict
        stays = {"yes": "stays aligned with", "no": "is not aligned with"}
        words = stays.get(verdict, "is not shown to stay aligned with")
        positive = f", positive in {_of_steps(share)}" if share else ""
        yield Sentence(
            f"After the first epoch of {reference}, {subject} {words} the trait gradient: mean "
            f"cosine {estimate(mean)}{positive}{_seeds(mean)}.",
            verdict,
            "alignment",
        )
    yield from _drop(material)


def _of_steps(share: Estimate) -> str:
    if share.low == share.high:
        known = {0.0: "no step of any seed", 1.0: "every step of every seed"}
        return known.get(share.value, f"{100 * share.value:g} % of the steps of every seed")
    return f"{estimate(share)} of steps"


def _drop(material: Material) -> Iterator[Sentence]:
    drop = values(
        material.find(
            "seed_summary",
            arm=material.reference,
            outcome="cos_gradient",
            summary="mean",
            window="early - late",
        )
    )
    if drop is None:
        return
    places = decimals(drop.low, drop.high)
    change = interval(-drop.high, -drop.low, places)
    how = {
        "above": "The gradient's alignment weakens",
        "below": "The gradient's alignment grows",
        "across": "The gradient's alignment is not shown to weaken or grow",
    }[_sides(drop)]
    yield Sentence(
        f"{how} from the first epoch to the later ones: the mean gradient cosine changes by "
        f"{number(-drop.value, places)} {change}.",
        "unsettled" if _sides(drop) == "across" else "partly" if _sides(drop) == "above" else "yes",
        "alignment",
    )


def _seeds(one: Estimate) -> str:
    return f" ({one.n_seeds} seeds)"


def _stops(material: Material) -> Iterator[Sentence]:
    arms, reference = material.design.main_projections(), material.reference
    if len(material.shown_arms) == 1:
        text = f"Not settled: {material.shown_arms[0]} is the only arm with a complete seed."
        yield Sentence(text, "unsettled", "acquisition")
    elif not arms:
        yield Sentence(
            f"Not settled: no arm removes alignment (intervention projection) and is otherwise "
            f"run as {reference}.",
            "unsettled",
            "acquisition",
        )
    for arm in arms:
        stopped = _stopped(material, arm)
        yield stopped
        if caution := _misses(material, arm, stopped.verdict):
            yield caution
    for arm in material.design.interventions("liminal"):
        found = material.find("paired_contrast", arm=arm, outcome="final_accuracy")
        if isinstance(found, Estimate):
            yield _attenuates(material, arm, found)


def _stopped(material: Material, arm: str) -> Sentence:
    found = material.find("paired_contrast", arm=arm, outcome="final_accuracy")
    if not isinstance(found, Estimate):
        return Sentence(
            _why_not(found, f"the contrast of {arm} and {material.reference} in final accuracy"),
            "unsettled",
            "acquisition",
        )
    headline = material.headlines[arm]
    share, left = values(headline.removed), values(headline.residue)
    verdict: Verdict = {"below": "partly", "above": "no", "across": "unsettled"}[_sides(found)]  # type: ignore[assignment]
    if verdict == "partly" and share is not None and share.low >= STOPPED:
        verdict = "yes"
    words = {
        "yes": "stops nearly all of the transfer"
        if left is None or left.low > 0
        else "stops the transfer",
        "partly": "lowers the transfer",
        "no": "raises the transfer",
        "unsettled": "is not shown to change the transfer",
    }[verdict]
    text = (
        f"{arm} {words}: final test accuracy differs from {material.reference} by {estimate(found)}"
    )
    if share is not None:
        text += f", which is {estimate(share)} of what {material.reference} acquires"
    if left is not None:
        text += f"; what {arm} still acquires is {estimate(left)}"
    return Sentence(f"{text} ({_p_text(found)}).", verdict, "acquisition")


def _p_text(found: Estimate) -> str:
    adjusted = found.diagnostics.get("p_adjusted")
    if adjusted is None:
        return f"p {p_value(found.p_value)}"
    least = 2.0 ** (1 - found.n_seeds)
    flips = found.diagnostics.get("adjustment") == "sign_flip"
    note = f"; the sign flips of {found.n_seeds} seeds give none below {p_value(least)}"
    return f"adjusted p {p_value(adjusted)}{note * (flips and least > 1 - found.level)}"


def _misses(material: Material, arm: str, verdict: Verdict) -> Sentence | None:
    """Say where `arm` does not leave the update without alignment, whatever came of it."""
    mean = values(material.headlines[arm].alignment)
    if mean is None or _sides(mean) == "across":
        return None
    if _sides(mean) == "above":
        return Sentence(
            f"But {arm} leaves the update aligned: its mean cosine is {estimate(mean)}.",
            "caution",
            "alignment",
        )
    does = {"yes": "stops", "partly": "lowers", "no": "raises"}.get(verdict)
    limit = (
        f"That reversed alignment {does} the transfer does not show that absent alignment would"
        if does
        else "What absent alignment would do, it does not show"
    )
    return Sentence(
        f"But {arm} does more than remove: the update's mean cosine under it is {estimate(mean)}, "
        f"so the optimizer is driven against the trait. {limit}{_where_absent(material, arm)}.",
        "caution",
        "alignment",
    )


def _where_absent(material: Material, arm: str) -> str:
    """Return where absent alignment can be seen, to end a sentence on reversed alignment."""
    design = material.design
    removed = [one for one in design.main_projections() if design.space(one) == "update"]
    if arm in removed:
        return ""
    if removed:
        return f": {removed[0]}, a projection in update space, is the arm for that"
    return ": that takes a projection in update space"


def _attenuates(material: Material, arm: str, found: Estimate) -> Sentence:
    share = values(material.headlines[arm].removed)
    side = _sides(found)
    words = {"below": "lowers", "above": "raises", "across": "is not shown to change"}[side]
    tail = f", a loss of {estimate(share)} of what {material.reference} acquires" if share else ""
    if side == "below" and share is not None and share.high < ATTENUATED:
        tail += ": it attenuates the transfer and does not stop it"
    verdict: Verdict = "unsettled" if side == "across" else "partly"
    return Sentence(
        f"{arm} {words} final test accuracy: the difference is {estimate(found)}{tail}.",
        verdict,
        "acquisition",
    )


def _through(material: Material) -> Iterator[Sentence]:
    yield from _by_experiment(material)
    yield from _by_model(material)
    yield from _by_accounting(material)


def _by_experiment(material: Material) -> Iterator[Sentence]:
    for world in material.cross_worlds:
        share, part = values(world["proportion_mediated"]), values(world["tnie"])
        arm = world["te"].estimand.arm
        if share is None or part is None:
            yield Sentence(f"{arm}: not estimable by experiment.", "unsettled", "mediation")
            continue
        verdict: Verdict = "unsettled" if _sides(part) == "across" else "partly"
        yield Sentence(
            f"By experiment: of the effect of {arm}, moving alignment makes up "
            f"{estimate(part)}, a share of {estimate(share)} (yoked runs).",
            "yes" if verdict == "partly" and share.low >= STOPPED else verdict,
            "mediation",
        )
    if not material.cross_worlds:
        yield Sentence(
            "Not settled by experiment: no arm was yoked to the alignment of another, so the part "
            "of the effect that goes through alignment was not run and can only be modelled.",
            "unsettled",
            "mediation",
        )


def _by_model(material: Material) -> Iterator[Sentence]:
    for arm, split in material.mediations.items():
        share, part = values(split["proportion_mediated"]), values(split["pnie"])
        if arm not in material.design.main_projections() or not (share and part):
            continue
        bounded = math.isfinite(share.high - share.low)
        size = f"a share of {estimate(share)}" if bounded else "a share without bounds"
        yield Sentence(
            f"By model: a run-level mediation puts the part of the effect of {arm} that goes "
            f"through the update's alignment at {estimate(part)}, {size}. It assumes no common "
            "cause and no feedback, and alignment does react to what was learned: a sensitivity "
            "analysis, not an answer.",
            "caution",
            "mediation",
        )


def _by_accounting(material: Material) -> Iterator[Sentence]:
    arm = material.reference
    found = values(material.find("explained_share", arm=arm, term="drive", by="run"))
    if found is None:
        return
    total = values(material.find("arm_mean", arm=arm, outcome="sum_gain", start=None))
    change, moved = _LOSS[_sides(total) if total else "across"]
    yield Sentence(
        f"By bookkeeping: in {arm}, the update's component along the trait gradient (the drive) "
        f"adds up to a share of {estimate(found)} of the {change} of the trait loss; curvature is "
        f"the rest. This says where the loss {moved}, not why.",
        "caution",
        "ledger",
    )


_LOSS = {"above": ("drop", "fell"), "below": ("rise", "rose"), "across": ("change", "changed")}
"""What the trait loss does, by where the interval of the summed gain lies."""


def _control(material: Material) -> Iterator[Sentence]:
    found = material.declared("equivalence")
    if not found:
        yield Sentence(_why_not(None, "an equivalence test"), "unsettled", "control")
    for one in found:
        if not isinstance(one, Estimate):
            yield Sentence(_why_not(one, one.estimand.contrast), "unsettled", "control")
            continue
        scale = scale_of(one)
        margin = f"{scale * float(one.diagnostics['margin']):g}{' points' * (scale == 100)}"
        same = bool(one.diagnostics["equivalent"])
        arm, reference = one.estimand.arm, one.estimand.reference
        says = "is equivalent to" if same else "is not shown to be equivalent to"
        outcome = one.estimand.column.replace("_", " ")
        shuffled = arm in material.design.interventions("shuffled")
        yield Sentence(
            f"{arm} {says} {reference} in {outcome}: the difference is {estimate(one)} "
            f"({100 * one.level:g} % interval), {'' if same else 'not '}inside the margin of "
            f"{margin} that the plan fixed (p {p_value(one.p_value)})."
            + " So removing a vector of that length is harmless; its direction matters."
            * (same and shuffled),
            "yes" if same else "unsettled",
            "control",
        )


_STANDING: dict[str, Verdict] = {
    "supported": "yes",
    "partly supported": "partly",
    "not supported": "no",
    "undetermined": "unsettled",
}


_P_NAMES = {"p_value": "p", "p_adjusted": "adjusted p", "j_p": "J p"}


def _deciding(one: Finding, level: float) -> str:
    """Write the numbers that a condition's rules compare, and what became of it."""
    found, row = one.estimate, one.tidy()
    if found is None:
        return ""
    marked = f" ({100 * found.level:g} % interval)" if found.level != level else ""
    rules = f"{one.condition.holds} {one.condition.fails}"
    p_values = "".join(
        f", {name} {p_value(row[field])}"
        for field, name in _P_NAMES.items()
        if field in rules and row[field] is not None
    )
    outcome = "is open" if one.outcome == "open" else one.outcome
    return f"{one.condition.estimand} {estimate(found)}{marked}{p_values} {outcome}"


def _claims(material: Material) -> Iterator[Sentence]:
    for claim in material.results.verdicts:
        deciding = [*filter(None, (_deciding(one, material.level) for one in claim.findings))]
        if absent := len(claim.findings) - len(deciding):
            deciding.append(f"{absent} of {len(claim.findings)} conditions cannot be estimated")
        yield Sentence(
            f"{claim.sentence} {claim.verdict.capitalize()}: {'; '.join(deciding)}.",
            _STANDING[claim.verdict],
            "methods",
        )


def _wrong(material: Material) -> Iterator[Sentence]:
    if material.n_seeds < FEW_SEEDS:
        n, few = counted(material.n_seeds, "seed is", "seeds are"), material.n_seeds < MIN_SEEDS
        says = (
            f"with fewer than {MIN_SEEDS} there are no intervals, and no question is settled"
            if few
            else f"with fewer than {FEW_SEEDS} no interval holds its level reliably"
        )
        yield Sentence(f"Only {n} complete: {says}.", "caution", "study")
    lost = len(material.replicates) - len(material.complete)
    if lost:
        yield Sentence(
            f"{lost} of {len(material.replicates)} replicates are not complete and left out.",
            "caution",
            "study",
        )
    yield from _levels_differ(material)
    yield from _skewed(material)
    data = material.manifest["study"].get("data", {}).get("name")
    model = material.manifest["study"].get("model", {}).get("class")
    where = listed([str(name) for name in (data, model) if name])
    yield Sentence(
        f"One data set and one network{f' ({where})' * bool(where)}: the findings speak about new "
        "seeds of this study, not about other data, networks or optimizers.",
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
            tested = f"p {p_value(p)}" if p is not None else "not run"
            says = (
                f"the slopes at the levels differ ({tested}), so they cannot all be the causal one"
                if differs
                else f"the test that all levels have one slope does not reject it ({tested}), "
                "so it stays open whether they differ"
            )
            yield Sentence(
                f"The slope of gain on {predictor} is {estimate(within)} nats per unit within runs "
                f"and {estimate(between)} between arms: {says}.",
                "caution",
                "mixed",
            )


def _skewed(material: Material) -> Iterator[Sentence]:
    skewed = [
        one.estimand.name
        for one in material.results.results
        if isinstance(one, Estimate) and any("skewed" in note for note in one.warnings)
    ]
    if skewed:
        yield Sentence(
            f"In {len(skewed)} of {len(material.results.results)} declared estimates the seeds' "
            "values are skewed. The bootstrap-t leads there unless the plan chose otherwise or too "
            "few values differ; with few seeds even it covers less than its level.",
            "caution",
            "methods",
        )
