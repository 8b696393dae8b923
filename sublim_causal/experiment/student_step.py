"""A step of one arm, as its interventions see it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from sublim_causal.experiment.alignment import Probe, UpdateMeasure, measure_trait
from sublim_causal.experiment.contracts import ArmError
from sublim_causal.experiment.logits import LogitSplit
from sublim_causal.experiment.networks.base import Forward
from sublim_causal.experiment.shared import Shared

if TYPE_CHECKING:
    from sublim_causal.experiment.students import Student


@dataclass(frozen=True)
class StudentStep:
    """A step of one arm, as its interventions see it: a `StepContext`."""

    step: int
    steps_per_epoch: int
    steps: int
    forward: Forward
    index: Tensor
    student: Student
    students: Mapping[str, Student]
    shared: Shared

    @property
    def split(self) -> LogitSplit:
        """Which logits are which."""
        return self.shared.split

    @property
    def teaching(self) -> Tensor:
        """What the first teacher's training changed in the initialisation, ``(R, P)``."""
        return self.shared.teaching

    def initial_logits(self) -> Tensor:
        """Return the logits ``(R, B * T, K)`` of the reference on the step's batch."""
        return self.shared.initial_logits(self.student.inputs, self.index)

    def update_of(self, arm: str) -> UpdateMeasure:
        """Return what the update of `arm` was, which has taken this step before."""
        followed = self.students.get(arm)
        if followed is None or followed.measure is None or followed.failure is not None:
            raise ArmError(f"arm {arm!r}, which it follows, failed")
        return followed.measure

    def trait_gradient(self, probe: Probe, theta: Tensor | None = None) -> Tensor:
        """Return the trait gradient ``(R, P)`` on `probe`, before the step or at `theta`."""
        at = self.student.before if theta is None else theta
        return measure_trait(self.shared.network, at, probe).gradient
