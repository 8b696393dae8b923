"""Two steps of every arm on random examples, before anything is trained or written.

What an intervention or a channel does against its contract is found here and refused. The steps
draw from streams of their own, and leave the global random numbers as they were.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from sublim_causal.errors import RequestError
from sublim_causal.experiment.alignment import (
    Probe,
    UpdateMeasure,
    inner,
    measure_trait,
    update_measure,
)
from sublim_causal.experiment.config import Experiment
from sublim_causal.experiment.contracts import (
    ContractError,
    applied,
    class_name,
    described,
    in_place,
)
from sublim_causal.experiment.data.streams import SeedStreams
from sublim_causal.experiment.interventions import CONTRACT as INTERVENTION
from sublim_causal.experiment.interventions import followed_arms
from sublim_causal.experiment.interventions.base import BlockContext, Intervention
from sublim_causal.experiment.logits import LogitSplit
from sublim_causal.experiment.networks.base import Batch, Forward, Network, outputs
from sublim_causal.experiment.networks.initialisation import initial_student, parts_of
from sublim_causal.experiment.networks.one_by_one import OneByOne
from sublim_causal.experiment.optimisation import of_arm
from sublim_causal.experiment.randomness import drawn_since, global_states, restored_randomness
from sublim_causal.experiment.tasks.base import Rehearsal, Task
from sublim_causal.experiment.teaching.channels import CONTRACT as CHANNEL
from sublim_causal.experiment.teaching.channels import Channel, CombinedChannel
from sublim_causal.experiment.teaching.targets import CombinedTargets, Targets

STEPS = 2
BLOCK, ALONE = (0, 1), (1,)
"""Seeds that are tried together, and the one that is tried alone too."""
REPEATED, OTHER_BLOCK = 1e-6, 1e-3
"""Relative differences that rounding may make: of the same block, and of one of another size."""


@dataclass(frozen=True)
class Trial:
    """A block of random examples on which every arm takes its steps.

    Attributes
    ----------
    updates : dict of str to list of UpdateMeasure
        By arm, step by step, of the arms tried so far.
    """

    experiment: Experiment
    network: Network
    split: LogitSplit
    streams: SeedStreams
    material: Rehearsal
    updates: dict[str, list[UpdateMeasure]] = field(default_factory=dict, init=False)


@dataclass(frozen=True)
class TrialStep:
    """A step of an arm in a trial: a `StepContext`."""

    step: int
    forward: Forward
    theta: Tensor
    batch: Batch
    trial: Trial
    steps_per_epoch: int = STEPS
    steps: int = STEPS

    @property
    def split(self) -> LogitSplit:
        """Which logits are which."""
        return self.trial.split

    @property
    def teaching(self) -> Tensor:
        """What the first teacher's training changed in the initialisation, ``(R, P)``."""
        return self.trial.material.teacher - self.trial.material.theta_0

    def initial_logits(self) -> Tensor:
        """Return the logits ``(R, B, K)`` of the shared initialisation on the step's batch."""
        trial = self.trial
        return trial.network.forward(trial.material.theta_0, self.batch).logits(
            self.split.columns("all")
        )

    def update_of(self, arm: str) -> UpdateMeasure:
        """Return what the update of `arm` was at this step."""
        return self.trial.updates[arm][self.step]

    def trait_gradient(self, probe: Probe, theta: Tensor | None = None) -> Tensor:
        """Return the trait gradient ``(R, P)`` on `probe`, before the step or at `theta`."""
        at = self.theta if theta is None else theta
        return measure_trait(self.trial.network, at, probe).gradient


@dataclass(frozen=True)
class Place:
    """The field of a study that names a class, the class, and the contract that it has to keep."""

    field: str
    name: str
    contract: str

    @contextmanager
    def refusing(self, method: str) -> Iterator[None]:
        """Turn what goes wrong in `method` of the class into a refusal of the field.

        Raises
        ------
        RequestError
            If it fails, breaks its contract or draws global random numbers.
        """
        before = global_states()
        try:
            yield
        except RequestError:
            raise
        except ContractError as error:
            raise RequestError(self.field, self.name, error.expected, error.came) from error
        except Exception as error:
            came = f"{method} failed with {type(error).__name__}: {error}"
            raise RequestError(self.field, self.name, self.contract, came) from error
        if drawn := drawn_since(before):
            raise RequestError(
                self.field,
                self.name,
                "random numbers from the generators that the class is given",
                f"{method} draws global random numbers of {drawn}",
            )


@dataclass(frozen=True)
class Returned:
    """What a class returned in a trial, ``(R, ...)``."""

    place: Place
    value: Tensor


@dataclass(frozen=True)
class Arm:
    """An arm as a study builds it."""

    interventions: Sequence[Intervention]
    channel: Channel | CombinedChannel


def try_arms(
    experiment: Experiment,
    arms: Mapping[str, Arm],
    network: Network,
    task: Task,
    *,
    dtype: torch.dtype,
    own: Sequence[str],
) -> None:
    """Let every arm take two steps with one seed, and those in `own` twice more with two.

    Parameters
    ----------
    arms : mapping of str to Arm
        An arm comes after those it follows.
    task : Task
        Gives the examples.
    own : sequence of str
        The arms that name classes of the study's own, and those they follow.

    Raises
    ------
    RequestError
        If a class fails, breaks its contract, draws global random numbers, or gives a seed another
        result in a second block or together with other seeds.
    """
    with restored_randomness(), torch.no_grad():
        tried = partial(_try_block, experiment, network, task, dtype)
        alone = tried(ALONE, arms)
        if not own:
            return
        first, again = (tried(BLOCK, {arm: arms[arm] for arm in own}) for _ in range(2))
    row = BLOCK.index(ALONE[0])
    for arm in own:
        for one, other in zip(first[arm], again[arm], strict=True):
            if _differ(one.value, other.value, REPEATED):
                raise RequestError(
                    one.place.field,
                    one.place.name,
                    "the same result for the same block",
                    "a second block of the same seeds gave another result: state is kept in the "
                    "object or shared between blocks; keep it in what init and apply return",
                )
        for one, other in zip(first[arm], alone[arm], strict=True):
            if _differ(one.value[row : row + 1], other.value, OTHER_BLOCK):
                raise RequestError(
                    one.place.field,
                    one.place.name,
                    "a result for a seed that does not depend on the other seeds of its block",
                    "it differed when the seed was alone: compute along the first axis, "
                    "and draw from one generator per replicate",
                )


def _try_block(
    experiment: Experiment,
    network: Network,
    task: Task,
    dtype: torch.dtype,
    seeds: Sequence[int],
    arms: Mapping[str, Arm],
) -> dict[str, list[Returned]]:
    """Return what the classes of every arm returned in a block of `seeds`."""
    streams = SeedStreams(experiment.name, seeds)
    one_by_one: Any = OneByOne(network)
    material = task.rehearse(streams, network, dtype)
    trial = Trial(experiment, one_by_one, task.split, streams, material)
    followed = set().union(*(followed_arms(arm.interventions) for arm in arms.values()))
    return {
        name: list(_try_arm(trial, name, arm, followed=name in followed))
        for name, arm in arms.items()
    }


def _try_arm(trial: Trial, name: str, arm: Arm, *, followed: bool) -> Iterator[Returned]:
    """Yield what the channel of an arm and then its interventions return, step by step."""
    experiment, network, material = trial.experiment, trial.network, trial.material
    own = experiment.arms[name]
    channel = Place(f"arms.{name}.channel.name", own.channel.name, CHANNEL.words)
    places = [_place_of(name, one) for one in arm.interventions]
    batch = Batch(material.inputs(name), material.positions)
    targets = _targets(trial, channel, arm.channel, batch)
    theta = initial_student(
        own.student,
        material.theta_0,
        material.draw_reference,
        trial.streams,
        parts_of(network.layout, trial.split),
        f"arms.{name}.student",
    )
    states = _initial_states(trial, places, arm.interventions, theta.device)
    rate = of_arm(experiment, name).learning_rate
    needed = followed or any(one.uses_trait for one in arm.interventions)
    measured = experiment.measure.alignment or needed
    updates = trial.updates[name] = []
    for step in range(STEPS):
        forward = network.forward(theta, batch)
        with channel.refusing("loss_and_gradient"):
            loss, vector = targets.loss_and_gradient(forward)
            _validate_loss(loss, vector, theta)
        yield from (Returned(channel, value) for value in (loss, vector))
        gradient = measure_trait(network, theta, material.probe).gradient if measured else None
        context = TrialStep(step, forward, theta, batch, trial)
        for space in ("gradient", "update"):
            for i, one in enumerate(arm.interventions):
                if one.space == space:
                    with places[i].refusing("apply"):
                        vector, states[i] = _apply(one, vector, gradient, states[i], context)
                    yield Returned(places[i], vector)
            vector = rate * vector if space == "gradient" else vector
        theta = theta - vector
        if gradient is not None:
            drive, squared = inner(vector, gradient), inner(vector, vector)
            updates.append(update_measure(drive, squared, inner(gradient, gradient)))


def _place_of(arm: str, intervention: Intervention) -> Place:
    return Place(f"arms.{arm}.intervention", class_name(intervention), INTERVENTION.words)


def _initial_states(
    trial: Trial,
    places: Sequence[Place],
    interventions: Sequence[Intervention],
    device: torch.device,
) -> list[Any]:
    """Return what `init` of each intervention returns."""
    material, states = trial.material, []
    block = BlockContext(
        trial.network.layout,
        trial.split,
        trial.streams("intervention"),
        device,
        material.probe,
        material.draw_probe,
        material.draw_reference,
    )
    for place, one in zip(places, interventions, strict=True):
        with place.refusing("init"):
            states.append(one.init(block))
    return states


def _apply(
    intervention: Intervention,
    vector: Tensor,
    gradient: Tensor | None,
    state: Any,
    context: TrialStep,
) -> tuple[Tensor, Any]:
    """Return the changed vector and the new state.

    Raises
    ------
    ContractError
        If the intervention writes into what it is given, or returns something else.
    """
    given = [v for v in (vector, gradient) if v is not None]
    copies = [v.clone() for v in given]
    result = applied(intervention, vector, gradient, state, context)
    if any(_differ(v, copy, 0) for v, copy in zip(given, copies, strict=True)):
        raise in_place("apply", "the vector or the trait gradient")
    return result


def _targets(
    trial: Trial, place: Place, channel: Channel | CombinedChannel, batch: Batch
) -> Targets:
    """Return the targets of the random examples, in their order."""
    if isinstance(channel, CombinedChannel):
        parts = ((weight, _targets(trial, place, part, batch)) for weight, part in channel.parts)
        return CombinedTargets(tuple(parts))
    source, teacher = channel.source(trial.split), trial.material.teacher
    taught = outputs(trial.network, teacher, batch.x, source, batch.positions)
    copy = taught.clone()
    with place.refusing("answers"):
        targets = channel.targets(taught, None, trial.split, trial.streams("channel"))
        if _differ(taught, copy, 0):
            raise in_place("answers", "the logits")
        return targets.at(torch.arange(taught.shape[1]).expand(len(taught), -1))


def _validate_loss(loss: object, gradient: object, theta: Tensor) -> None:
    """Refuse a loss that is not ``(R,)``, or a gradient that is not ``(R, P)``."""
    for value, shape in ((loss, theta.shape[:1]), (gradient, theta.shape)):
        if not isinstance(value, Tensor) or value.shape != shape:
            raise ContractError(
                f"loss_and_gradient returns ({len(theta)},) and {tuple(theta.shape)}",
                f"it returned {described(value)}",
            )


def _differ(one: Tensor, other: Tensor, tolerance: float) -> bool:
    """Return whether two tensors differ by more than the share `tolerance` of the first's norm."""
    if not torch.equal(one.isfinite(), other.isfinite()):
        return True
    a, b = (tensor.nan_to_num(0, 0, 0) for tensor in (one, other))
    return bool((a - b).norm() > tolerance * a.norm())
