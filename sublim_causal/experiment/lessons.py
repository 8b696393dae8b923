"""What students see: images, the teacher's answers to them, and the probe of the trait."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

import torch
from torch import Tensor

from sublim_causal.experiment.alignment import Probe
from sublim_causal.experiment.batches import gather
from sublim_causal.experiment.channels import build_channel
from sublim_causal.experiment.config import Experiment, LessonKey
from sublim_causal.experiment.data import ImageTensors
from sublim_causal.experiment.inputs import INPUTS
from sublim_causal.experiment.interventions.base import LogitSplit
from sublim_causal.experiment.losses import Loss, kl_divergence
from sublim_causal.experiment.networks import Batch, Network, logits
from sublim_causal.experiment.training import train_teacher


@dataclass(frozen=True)
class Lesson:
    """What students are taught: an answer to each of N images.

    Attributes
    ----------
    images : str
        Name of the images.
    columns : slice
        Columns of the C logits that are taught.
    temperature : float
    target, log_target : Tensor of shape (R, N, C)
        The distribution taught, and its logarithm (0 where the distribution is 0, as 0 log 0 is).
    """

    images: str
    columns: slice
    temperature: float
    target: Tensor
    log_target: Tensor

    def at(self, index: Tensor) -> Lesson:
        """Return the lesson of the images `index` ``(R, B)``."""
        rows = gather(self.target, index), gather(self.log_target, index)
        return replace(self, target=rows[0], log_target=rows[1])

    def loss(self, z: Tensor) -> Loss:
        r"""Return :math:`\tau^2` KL(target || softmax(z / :math:`\tau`)), z ``(R, N, C)``."""
        loss = kl_divergence(z / self.temperature, self.target, self.log_target)
        if self.temperature == 1:
            return loss
        return Loss(loss.value * self.temperature**2, loss.derivative * self.temperature)


@dataclass(frozen=True)
class Inputs:
    """What all arms of a block share.

    Attributes
    ----------
    theta_0, teacher : Tensor of shape (R, P)
    images : mapping of str to Tensor of shape (R, N, D)
        The students' images, by name.
    lessons : mapping of LessonKey to Lesson
    probe : Probe
    draw_probe : callable
        Draws another probe from one generator per replicate.
    """

    network: Network
    split: LogitSplit
    theta_0: Tensor
    teacher: Tensor
    images: Mapping[str, Tensor]
    lessons: Mapping[LessonKey, Lesson]
    probe: Probe
    draw_probe: Callable[[Sequence[torch.Generator]], Probe]

    @cached_property
    def _reference_logits(self) -> dict[str, Tensor]:
        """Logits ``(R, N, K)`` of the initialisation, by images; computed when asked for."""
        return {}

    def reference_rows(self, images: str, index: Tensor) -> Tensor:
        """Return the reference logits ``(R, B, K)`` of the named images `index` ``(R, B)``."""
        known = self._reference_logits
        if images not in known:
            columns = self.split.columns("all")
            known[images] = logits(self.network, self.theta_0, self.images[images], columns)
        return gather(known[images], index)


def prepare_inputs(
    experiment: Experiment,
    arms: Sequence[str],
    streams: Callable[[str], list[torch.Generator]],
    network: Network,
    data: ImageTensors,
    split: LogitSplit,
    after_step: Callable[[], None],
) -> Inputs:
    """Draw initialisation, images and probe, train the teacher, prepare the lessons of `arms`."""
    like = data.train_x
    probes = partial(draw_probe, experiment.probe.size, data, split)
    theta_0 = torch.stack([network.initialise(g) for g in streams("init")]).to(like)
    teacher = train_teacher(
        network,
        theta_0,
        data,
        split.columns("class"),
        experiment.teacher,
        streams("teacher order"),
        after_step,
    )
    count = experiment.distillation.examples
    images: dict[str, Tensor] = {
        name: torch.stack([INPUTS[name](count, data, g) for g in streams("noise")])
        for name in dict.fromkeys(experiment.inputs_of(arm) for arm in arms)
    }

    def lesson(arm: str) -> Lesson:
        name = experiment.inputs_of(arm)
        channel = build_channel("channel", experiment.arms[arm].channel.model_dump(), split)
        columns = channel.columns(split)
        z = logits(network, teacher, images[name], columns)
        target = channel.answers(z, streams("channel"))
        log_target = target.log().where(target > 0, 0)
        return Lesson(name, columns, channel.temperature, target, log_target)

    arm_of = {experiment.lesson_of(arm): arm for arm in arms}
    return Inputs(
        network,
        split,
        theta_0,
        teacher,
        images,
        {key: lesson(arm) for key, arm in arm_of.items()},
        probes(streams("probe")),
        probes,
    )


def draw_probe(
    size: int, data: ImageTensors, split: LogitSplit, generators: Sequence[torch.Generator]
) -> Probe:
    """Draw the probe of each replicate from the held-out images, without repetition."""
    held_out = len(data.held_out_y)
    index = torch.stack([torch.randperm(held_out, generator=g)[:size] for g in generators])
    halves = [
        (Batch(gather(data.held_out_x, half)), data.held_out_y[half])
        for half in index.to(data.held_out_x.device).split(size // 2, dim=1)
    ]
    return Probe((halves[0], halves[1]), split.columns("class"))
