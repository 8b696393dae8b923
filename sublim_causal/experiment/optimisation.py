"""How teachers and students are optimised, as a study's fields say it together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sublim_causal.errors import RequestError
from sublim_causal.experiment.config import Decay, Experiment, Optimizer, TrainingConfig


@dataclass(frozen=True)
class Optimisation:
    """How parameters move, given their gradient.

    Attributes
    ----------
    learning_rate : float
        Step size.
    weight_decay : float
        Share of the parameters that is added to the gradient (coupled), or subtracted from them
        per unit of the learning rate (decoupled).
    frozen_after : int or None
        Steps after which Adam's second moments stay as they are.
    """

    optimizer: Optimizer
    learning_rate: float
    weight_decay: float = 0.0
    decay: Decay = "coupled"
    frozen_after: int | None = None


def of_phase(config: TrainingConfig) -> Optimisation:
    """Return the optimisation of a training phase."""
    decay = config.weight_decay or 0.0
    return Optimisation(config.optimizer, config.learning_rate, decay, config.decay or "coupled")


def of_arm(experiment: Experiment, arm: str) -> Optimisation:
    """Return that of an arm's students: its own fields, else those of `distillation`."""
    own, shared = experiment.arms[arm].student, of_phase(experiment.distillation)
    return Optimisation(
        own.optimizer or shared.optimizer,
        own.learning_rate or shared.learning_rate,
        shared.weight_decay if own.weight_decay is None else own.weight_decay,
        own.decay or shared.decay,
        own.frozen_after,
    )


def validate_optimisation(experiment: Experiment) -> None:
    """Refuse fields that say nothing together, or contradict each other.

    Raises
    ------
    RequestError
    """
    phases = {"teacher": experiment.teacher, "distillation": experiment.distillation}
    for name, phase in phases.items():
        for field, value, *words in _refused(of_phase(phase), phase.decay):
            raise RequestError(f"{name}.{field}", value, *words)
    shared = experiment.distillation
    largest = shared.batch_size
    steps = shared.steps_per_epoch(shared.examples) * shared.epochs
    for arm, config in experiment.arms.items():
        attacked = {
            "student.adversarial": config.student.adversarial,
            "targets.teacher_attack": config.targets.teacher_attack,
        }
        for field, value in attacked.items():
            if value and experiment.attack is None:
                allowed = "only in a study with an attack"
                raise RequestError(f"arms.{arm}.{field}", value, allowed, "add a section [attack]")
        if (size := config.student.batch_size) is not None and size > largest:
            allowed = f"at most distillation.batch_size = {largest}, of which it is a part"
            raise RequestError(f"arms.{arm}.student.batch_size", size, allowed)
        if (frozen := config.student.frozen_after) is not None and frozen >= steps:
            allowed = f"below {steps}, the number of steps of students"
            remedy = "lower it, or leave it out"
            raise RequestError(f"arms.{arm}.student.frozen_after", frozen, allowed, remedy)
        teaching = of_phase(experiment.teaching_of(arm).training)
        for field, value, *words in _refused(teaching, config.targets.teacher_decay):
            raise RequestError(f"arms.{arm}.targets.teacher_{field}", value, *words)
        for field, value, *words in _refused(of_arm(experiment, arm), config.student.decay):
            raise RequestError(f"arms.{arm}.student.{field}", value, *words)


def _refused(spec: Optimisation, decay: Decay | None) -> Iterator[tuple[Any, ...]]:
    """Yield what is wrong: field, value, what is allowed, and the remedy."""
    if spec.optimizer == "adamw" and spec.weight_decay:
        yield (
            "weight_decay",
            spec.weight_decay,
            "none for adamw, which decays by 0.01",
            "optimizer = 'adam' with decay = 'decoupled' is AdamW with another decay",
        )
    if decay is not None and not spec.weight_decay:
        yield (
            "decay",
            decay,
            "only with a weight_decay above 0",
            "set weight_decay, or leave it out",
        )
    if spec.decay == "decoupled" and spec.weight_decay * spec.learning_rate >= 1:
        least = f"below 1 / learning_rate = {1 / spec.learning_rate:g} if decay is decoupled"
        why = "a step multiplies the parameters by 1 - learning_rate * weight_decay; lower it"
        yield "weight_decay", spec.weight_decay, least, why
    if spec.frozen_after is not None and spec.optimizer != "adam":
        allowed = "only for adam, whose second moments it freezes"
        yield "frozen_after", spec.frozen_after, allowed, f"leave it out for {spec.optimizer}"
