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
from sublim_causal.experiment.config import ChannelConfig, Experiment
from sublim_causal.experiment.data import ImageTensors
from sublim_causal.experiment.interventions.base import LogitSplit
from sublim_causal.experiment.losses import Loss, kl_divergence
from sublim_causal.experiment.networks import Batch, Network, logits
from sublim_causal.experiment.training import train_teacher


@dataclass(frozen=True)
class Lesson:
    """What the students of one channel are taught: an answer to each of N images.

    Attributes
    ----------
    columns : slice
        Columns of the C logits that are taught.
    temperature : float
    target, log_target : Tensor of shape (R, N, C)
        The distribution taught, and its logarithm (0 where the distribution is 0, as 0 log 0 is).
    """

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
    noise : Tensor of shape (R, N, D)
        The students' images.
    lessons : mapping of str to Lesson
        By the key of the channel.
    probe : Probe
    draw_probe : callable
        Draws another probe from one generator per replicate.
    """

    network: Network
    split: LogitSplit
    theta_0: Tensor
    teacher: Tensor
    noise: Tensor
    lessons: Mapping[str, Lesson]
    probe: Probe
    draw_probe: Callable[[Sequence[torch.Generator]], Probe]

    @cached_property
    def reference_logits(self) -> Tensor:
        """Logits ``(R, N, K)`` of the initialisation on the noise."""
        return logits(self.network, self.theta_0, self.noise, self.split.columns("all"))

    def reference_rows(self, index: Tensor) -> Tensor:
        """Return the reference logits ``(R, B, K)`` of the images `index` ``(R, B)``."""
        return gather(self.reference_logits, index)


def prepare_inputs(
    experiment: Experiment,
    arms: Sequence[str],
    streams: Callable[[str], list[torch.Generator]],
    network: Network,
    data: ImageTensors,
    split: LogitSplit,
    after_step: Callable[[], None],
) -> Inputs:
    """Draw initialisation, noise and probe, train the teacher, prepare the lessons of `arms`."""
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
    shape = (experiment.distillation.examples, like.shape[1])
    noise = torch.stack([torch.rand(shape, generator=g) for g in streams("noise")])
    noise = noise.to(like).mul_(2).sub_(1)

    def lesson(table: ChannelConfig) -> Lesson:
        channel = build_channel("channel", table.model_dump(), split)
        columns = channel.columns(split)
        target = channel.answers(logits(network, teacher, noise, columns), streams("channel"))
        log_target = target.log().where(target > 0, 0)
        return Lesson(columns, channel.temperature, target, log_target)

    channels = {table.key: table for table in (experiment.arms[arm].channel for arm in arms)}
    return Inputs(
        network,
        split,
        theta_0,
        teacher,
        noise,
        {key: lesson(table) for key, table in channels.items()},
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
