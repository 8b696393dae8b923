"""Add seeds until a stopping rule is reached; the manifest records the rule and every look."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from rich.console import Console

from sublim_causal.analysis.arms.stopping import (
    LOOKS,
    Boundary,
    Stopping,
    StoppingRule,
    recorded_rule,
    resolve_rule,
    validate_looks,
)
from sublim_causal.declared import validate_declared
from sublim_causal.errors import RequestError, nearest
from sublim_causal.experiment.tasks import build_task
from sublim_causal.store.lock import manifest_locked
from sublim_causal.store.manifest import FILE, read_manifest, reference_of, write_manifest
from sublim_causal.store.outcome import Outcome as Judged
from sublim_causal.study.planning.options import RunOptions
from sublim_causal.study.running.manifest import validate_rule
from sublim_causal.study.running.runner import Outcome, run_study
from sublim_causal.study.spec.study import Study

if TYPE_CHECKING:
    from sublim_causal.analysis.arms.looks import Look
    from sublim_causal.analysis.plan.file import Plan

OPTIONS = {"until": "--until", "at": "--at", "max_seeds": "--max-seeds", "boundary": "--boundary"}
"""Fields of a rule that the command line can give."""
BOUNDARIES: tuple[Boundary, ...] = get_args(Boundary)


def parse_looks(text: str) -> tuple[int, ...]:
    """Read ``--at 8,12,16``.

    Raises
    ------
    RequestError
        If it is not a list of whole numbers.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and len(part) < 8 for part in parts):
        raise RequestError("--at", text, "whole numbers separated by commas, such as 8,12,16")
    return tuple(map(int, parts))


@dataclass(frozen=True)
class Looks:
    """Numbers of seeds at which a study is looked at, and what keeps the level over them."""

    at: tuple[int, ...]
    boundary: Boundary


def planned_looks(plan: str, at: str | None, boundary: str | None) -> Looks | None:
    """Return the looks of a study that is planned; None where it is not looked at on the way.

    Parameters
    ----------
    plan : str
        Its table ``[stopping]`` gives what is not said.
    at, boundary : str or None
        As ``--at`` and ``--boundary`` give them.

    Raises
    ------
    RequestError
        If one of them is not allowed.
    """
    from sublim_causal.analysis.plan.file import load_plan

    rule = load_plan(plan).stopping
    if rule is None and at is None and boundary is None:
        return None
    chosen = boundary or (rule.boundary if rule else "obrien-fleming")
    if chosen not in BOUNDARIES:
        raise RequestError("--boundary", chosen, ", ".join(BOUNDARIES), nearest(chosen, BOUNDARIES))
    looks = parse_looks(at) if at is not None else rule.looks if rule else LOOKS
    validate_looks(looks, "--at")
    return Looks(looks, chosen)


def asked_rule(
    study: Study, options: dict[str, Any], plan: Plan | None = None
) -> StoppingRule | None:
    """Return the rule that the plan, or the study file and the command line, ask for.

    Parameters
    ----------
    study : Study
        Its table ``[stopping]`` gives what `options` leave out.
    options : dict
        Fields of `Stopping` by name; None: not given.
    plan : Plan, optional
        Its rule stands alone.

    Raises
    ------
    RequestError
        If the rule is wrong, an option is given and no goal is, or there are two rules.
    """
    given = {name: value for name, value in options.items() if value is not None}
    if plan is not None and plan.stopping is not None:
        return _rule_of_plan(study, given, plan)
    declared = {} if study.stopping is None else study.stopping.model_dump(exclude_unset=True)
    if not given and not declared:
        return None
    fields = {"outcome": build_task(study).outcome.name, **declared, **given}
    if "until" not in fields:
        name = next(iter(given))
        remedy = "give the goal with --until, or in the table [stopping] of the study"
        raise RequestError(OPTIONS[name], given[name], "nothing, without a goal", remedy)
    recorded = study.model_dump(mode="json", by_alias=True)
    try:
        stopping = validate_declared(Stopping, fields, "stopping")
        return resolve_rule(stopping, list(study.arms), reference_of(recorded))
    except RequestError as error:
        field = error.field.removeprefix("stopping.").split(".")[0]
        if field not in given:
            raise
        raise RequestError(OPTIONS[field], error.value, error.allowed, error.remedy) from error


def _rule_of_plan(study: Study, given: Mapping[str, Any], plan: Plan) -> StoppingRule:
    from sublim_causal.analysis.plan.file import stopping_rule

    for name, value in given.items():
        remedy = "change the plan, or run without --plan"
        raise RequestError(OPTIONS[name], value, f"nothing: plan {plan.name} sets the rule", remedy)
    if study.stopping is not None:
        remedy = "leave the table [stopping] out of the study or of the plan"
        raise RequestError("stopping", study.stopping.until, "one rule; the plan has one", remedy)
    recorded = study.model_dump(mode="json", by_alias=True)
    outcome = build_task(study).outcome
    return stopping_rule(plan, list(study.arms), reference_of(recorded), outcome)


def rule_of_run(
    study: Study, run: Path, options: dict[str, Any], plan: Plan | None = None
) -> StoppingRule | None:
    """Return the rule by which `study` is run in the directory `run`; None without one.

    A run that began with a rule keeps it.

    Raises
    ------
    RequestError
        If the requested rule is wrong.
    RunError
        If the run was begun with another rule, or without one.
    """
    asked = asked_rule(study, options, plan)
    if not (run / FILE).exists():
        return asked
    manifest = read_manifest(run)
    validate_rule(run, manifest.get("stopping"), None if asked is None else asked.record())
    return recorded_rule(manifest["stopping"]) if "stopping" in manifest else None


def refuse_seeds(given: Mapping[str, object]) -> None:
    """Refuse options that choose seeds where a rule chooses their number.

    Raises
    ------
    RequestError
        If one is given.
    """
    for option, value in given.items():
        if value is not None:
            raise RequestError(
                option,
                value,
                "nothing, if a stopping rule sets the number of seeds",
                "limit it with --max-seeds; the rule of an existing run cannot be changed",
            )


def run_until(study: Study, rule: StoppingRule, options: RunOptions, console: Console) -> Outcome:
    """Run `study` with more and more seeds until `rule` is reached, or its last look is made.

    A look that the manifest holds is not made again.

    Raises
    ------
    SublimError
        As in `run_study`.
    """
    from sublim_causal.analysis.arms.looks import Look, take_look
    from sublim_causal.store.tables import read_table

    options = replace(options, stopping=rule)
    for place, seeds in enumerate(rule.looks):
        made = looks_made(options.run)
        if place < len(made) - 1:
            continue
        outcome = run_study(study.model_copy(update={"seeds": seeds}), options, console)
        if not outcome.complete or has_failed(options.run):
            return outcome
        if place < len(made):
            look = Look(**made[place])
        else:
            look = take_look(rule, read_table(options.run, "replicates"), place)
            record_look(options.run, look)
        console.print(look_text(rule, place, look), soft_wrap=True)
        if look.stop:
            break
    return outcome


def smallest_difference(plan: str, outcome: str, task: Judged) -> float:
    """Return the smallest margin of the equivalence tests that `plan` declares of `outcome`.

    Where the plan names the outcome of images, that of the run's `task` takes its place.

    Raises
    ------
    RequestError
        If it declares none.
    """
    from sublim_causal.analysis.plan.file import load_plan
    from sublim_causal.analysis.plan.methods.arms import Equivalence
    from sublim_causal.analysis.plan.outcomes import for_outcome

    declared = for_outcome(load_plan(plan), task).estimands
    tests = [one for one in declared if isinstance(one, Equivalence)]
    margins = [one.margin for one in tests if one.outcome == outcome and one.margin is not None]
    if not margins:
        raise RequestError(
            "--difference",
            None,
            f"the smallest difference of {outcome} that matters",
            f"give it; the plan {plan} declares no equivalence test of {outcome} with a margin",
        )
    return min(margins)


def looks_made(run: Path) -> list[dict[str, Any]]:
    """Return the looks that the manifest of `run` holds; none where there is no manifest yet."""
    return read_manifest(run)["stopping"]["looks"] if (run / FILE).exists() else []


def has_failed(run: Path) -> bool:
    """Return whether a replicate has failed, so that a look would lack it."""
    from sublim_causal.store.tables import read_table

    return bool((read_table(run, "replicates", columns=["status"])["status"] == "failed").any())


def record_look(run: Path, look: Look) -> None:
    """Add `look` to those that the manifest of `run` holds."""
    with manifest_locked(run):
        manifest = read_manifest(run)
        stopping = manifest["stopping"]
        stopping = {**stopping, "looks": [*stopping["looks"], look.record()]}
        write_manifest(run, {**manifest, "stopping": stopping})


def look_text(rule: StoppingRule, place: int, look: Look) -> str:
    """Return the line that reports a look: estimate, interval, and what follows."""
    head = f"Look {place + 1} of {len(rule.looks)}, {look.seeds} seeds: {rule.contrast} "
    if look.value is None:
        seen = f"has {look.n_pairs} complete pairs of seeds, too few"
    else:
        low = "-inf" if look.low is None else f"{look.low:.4g}"
        high = "inf" if look.high is None else f"{look.high:.4g}"
        by = (
            "anytime-valid"
            if look.nominal is None
            else f"t at the nominal level {100 * look.nominal:.4g} %"
        )
        seen = f"{look.value:.4g} [{low}, {high}] ({by})"
    if look.reached:
        return f"{head}{seen}. Reached: {rule.until}. No more seeds are added."
    if look.stop:
        return f"{head}{seen}. Not reached at the last look: {rule.until}."
    return f"{head}{seen}. Not reached: {rule.until}. Continuing to {rule.looks[place + 1]} seeds."
