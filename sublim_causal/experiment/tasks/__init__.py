"""The registry of tasks: one folder a task, one row each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel

from sublim_causal.declared import flatten, validate_declared
from sublim_causal.errors import RequestError
from sublim_causal.experiment.config import ArmConfig, Experiment
from sublim_causal.experiment.contracts import described
from sublim_causal.experiment.imports import Contract, class_named
from sublim_causal.experiment.tasks.base import METHODS, Task
from sublim_causal.experiment.tasks.images import Images
from sublim_causal.experiment.tasks.preference import Preference
from sublim_causal.experiment.tasks.text import Text

TASKS: dict[str, type[Any]] = {"images": Images, "preference": Preference, "text": Text}
"""By the name that a study file uses; called with the experiment and the options of the task."""
CONTRACT = Contract(
    "a class with the methods of a task: " + ", ".join(METHODS), (frozenset(METHODS),)
)


def build_task(experiment: Experiment) -> Task:
    """Return the task of `experiment`.

    Raises
    ------
    RequestError
        If there is no such task, it does not keep the contract, or refuses an option.
    """
    name = experiment.task.name
    kind = class_named(TASKS, CONTRACT, "task.name", name)
    options = getattr(kind, "OPTIONS", None)
    if not (isinstance(options, type) and issubclass(options, BaseModel)):
        came = f"OPTIONS of {name} is {described(options)}"
        raise RequestError("task.name", name, "a task whose OPTIONS is a pydantic model", came)
    return kind(experiment, validate_declared(options, experiment.task.options, "task"))


def validate_task(experiment: Experiment) -> None:
    """Refuse what the experiment asks for and its task does not have.

    Raises
    ------
    RequestError
    """
    task = build_task(experiment)
    plain = Experiment.model_validate(
        {"name": experiment.name, "arms": {"plain": {"intervention": "baseline"}}}
    )
    given, default = (
        one.model_dump(mode="json", by_alias=True, exclude={"arms"}) for one in (experiment, plain)
    )
    _refuse_unused(given, default, task.unused, experiment.task.name)
    of_arms = [one.removeprefix("arms.") for one in task.unused if one.startswith("arms.")]
    default = ArmConfig(intervention="baseline").model_dump(mode="json")
    for arm, config in experiment.arms.items():
        given = config.model_dump(mode="json")
        _refuse_unused(given, default, of_arms, experiment.task.name, f"arms.{arm}.")
    task.validate()


def _refuse_unused(
    given: Mapping[str, Any],
    default: Mapping[str, Any],
    unused: Iterable[str],
    task: str,
    prefix: str = "",
) -> None:
    """Refuse a field among the `unused` that is not as in `default`."""
    defaults = flatten(default)
    for field, value in flatten(given).items():
        if is_part(field, unused) and value != defaults.get(field):
            raise RequestError(
                f"{prefix}{field}",
                value,
                f"nothing: the task {task!r} does not use it",
                "leave it out, or choose another task.name",
            )


def is_part(field: str, sections: Iterable[str]) -> bool:
    """Return whether a dotted `field` is one of the `sections`, or stands in one."""
    return any(f"{field}.".startswith(f"{section}.") for section in sections)
