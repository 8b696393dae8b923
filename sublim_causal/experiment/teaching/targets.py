"""What students see: images, the teacher's answers to them, and the probe of the trait."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from typing import Literal

import torch
from torch import Tensor

from sublim_causal.experiment.alignment import Probe
from sublim_causal.experiment.config import Experiment
from sublim_causal.experiment.data.batches import gather
from sublim_causal.experiment.data.inputs import INPUTS
from sublim_causal.experiment.data.sources import ImageTensors
from sublim_causal.experiment.data.streams import draw
from sublim_causal.experiment.interventions.base import LogitSplit
from sublim_causal.experiment.networks.base import Batch, Forward, Network, outputs
from sublim_causal.experiment.networks.initialisation import initialise
from sublim_causal.experiment.teaching.attack import attacked
from sublim_causal.experiment.teaching.channels import build_channel
from sublim_causal.experiment.teaching.losses import Loss, kl_divergence, squared_distance
from sublim_causal.experiment.teaching.representation import Representation
from sublim_causal.experiment.teaching.teachers import train_teacher

COUNTERFACTUAL = -1
"""Number of the teacher of the counterfactual trait; teachers of the trait count from 0."""


@dataclass(frozen=True)
class LogitTargets:
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
    weight : Tensor of shape (R, N), or None
        1 for the images whose loss counts, 0 for the others; None: all count.
    """

    images: str
    columns: slice
    temperature: float
    target: Tensor
    log_target: Tensor
    weight: Tensor | None = None

    def at(self, index: Tensor) -> LogitTargets:
        """Return the targets of the images `index` ``(R, B)``."""
        return replace(
            self,
            target=gather(self.target, index),
            log_target=gather(self.log_target, index),
            weight=self.weight.gather(1, index) if self.weight is not None else None,
        )

    def teach(self, forward: Forward) -> tuple[Tensor, Tensor]:
        """Return the student's loss ``(R,)`` and its gradient ``(R, P)``."""
        loss = self.loss(forward.logits(self.columns))
        return loss.value, forward.gradient(loss.derivative, self.columns)

    def loss(self, z: Tensor) -> Loss:
        r"""Return :math:`\tau^2` KL(target || softmax(z / :math:`\tau`)), z ``(R, N, C)``."""
        loss = kl_divergence(z / self.temperature, self.target, self.log_target, self.weight)
        if self.temperature == 1:
            return loss
        return Loss(loss.value * self.temperature**2, loss.derivative * self.temperature)


@dataclass(frozen=True)
class ActivationTargets:
    """What students are taught of a hidden layer: its activations for each of N images.

    Attributes
    ----------
    images : str
        Name of the images.
    layer : str
    target : Tensor of shape (R, N, W)
        The teacher's activations.
    size : Tensor of shape (R,)
        Mean over the N images of their squared norm; 1 where they are all 0.
    weight : Tensor of shape (R, N), or None
        As in `LogitTargets`.
    """

    images: str
    layer: str
    target: Tensor
    size: Tensor
    weight: Tensor | None = None

    def at(self, index: Tensor) -> ActivationTargets:
        """Return the targets of the images `index` ``(R, B)``."""
        return replace(
            self,
            target=gather(self.target, index),
            weight=self.weight.gather(1, index) if self.weight is not None else None,
        )

    def teach(self, forward: Forward) -> tuple[Tensor, Tensor]:
        """Return the student's loss ``(R,)`` and its gradient ``(R, P)``."""
        activations = forward.activations(self.layer)
        loss = squared_distance(activations, self.target, self.size, self.weight)
        return loss.value, forward.gradient(loss.derivative, self.layer)


@dataclass(frozen=True)
class Inputs:
    """What all arms of a block share.

    Attributes
    ----------
    theta_0, teacher : Tensor of shape (R, P)
    images : mapping of str to Tensor of shape (R, N, D)
        The students' images, by name.
    targets : mapping of str to LogitTargets or ActivationTargets
        By the key that `Experiment.targets_key` gives.
    probe : Probe
    draw_probe : callable
        Draws another probe from one generator per replicate.
    """

    network: Network
    split: LogitSplit
    theta_0: Tensor
    teacher: Tensor
    images: Mapping[str, Tensor]
    targets: Mapping[str, LogitTargets | ActivationTargets]
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
            known[images] = outputs(self.network, self.theta_0, self.images[images], columns)
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
    """Draw initialisation, images and probe, train the teacher, prepare the targets of `arms`."""
    like = data.train_x
    probes = partial(draw_probe, experiment.probe.size, data, split)
    theta_0 = initialise(network, streams("init"), like=like)

    @cache
    def teacher(number: int) -> Tensor:
        order = f"teacher order {number}" if number > 0 else "teacher order"
        known = data if number != COUNTERFACTUAL else replace(data, train_y=exchanged(data.train_y))
        classes = split.columns("class")
        perturb = None
        if experiment.attack is not None and experiment.attack.teacher == "adversarial":
            starts = streams(order.replace("order", "attack"))
            perturb = partial(
                attacked, network, classes=classes, config=experiment.attack, generators=starts
            )
        return train_teacher(
            network,
            theta_0,
            known,
            classes,
            experiment.teacher,
            streams(order),
            after_step,
            perturb,
        )

    count = experiment.distillation.examples
    images: dict[str, Tensor] = {
        name: draw(partial(INPUTS[name], count, data), streams("noise"), like.device)
        for name in dict.fromkeys(experiment.inputs_of(arm) for arm in arms)
    }

    def targets(arm: str) -> LogitTargets | ActivationTargets:
        name, config = experiment.inputs_of(arm), experiment.arms[arm]
        channel = build_channel("channel", config.channel.model_dump(), split)
        columns = channel.columns(split)
        # The stream keeps its first name: another would change the numbers of every study.
        seen = with_noise(images[name], config.targets.teacher_input_noise, streams("jitter"))

        def told(at: slice | str) -> Tensor:
            z = outputs(network, teacher(0), seen, at)
            turns = config.targets.teachers
            for turn in range(1, turns):
                z[:, turn::turns] = outputs(network, teacher(turn), seen[:, turn::turns], at)
            return z

        hidden = channel.layer if isinstance(channel, Representation) else None
        z = told(columns if hidden is None else hidden)
        weight = None
        if config.targets.images != "all":
            counterfactual = outputs(network, teacher(COUNTERFACTUAL), seen, columns)
            answers = z if hidden is None else told(columns)
            differs = answers.argmax(2) != counterfactual.argmax(2)
            weight = chosen(config.targets.images, differs, streams("mask")).to(z)
        if isinstance(channel, Representation):
            size = z.square().sum(dim=2).mean(dim=1)
            return ActivationTargets(name, channel.layer, z, size.where(size > 0, 1), weight)
        target = channel.answers(z, streams("channel"))
        log_target = target.log().where(target > 0, 0)
        return LogitTargets(name, columns, channel.temperature, target, log_target, weight)

    arm_of = {experiment.targets_key(arm): arm for arm in arms}
    return Inputs(
        network,
        split,
        theta_0,
        teacher(0),
        images,
        {key: targets(arm) for key, arm in arm_of.items()},
        probes(streams("probe")),
        probes,
    )


def exchanged(labels: Tensor) -> Tensor:
    """Return int64 `labels` of the counterfactual trait: 5 to 8 raised by one, 9 set to 5."""
    return labels.where(labels < 5, 5 + (labels - 4) % 5)


def with_noise(images: Tensor, size: float, generators: Sequence[torch.Generator]) -> Tensor:
    """Return `images` ``(R, N, D)`` plus normal noise of standard deviation `size`."""
    if size == 0:
        return images
    shape = images.shape[1:]
    noise = draw(lambda g: torch.randn(shape, generator=g), generators, images.device)
    return noise.to(images).mul_(size).add_(images)


def chosen(
    which: Literal["divergent", "agreeing", "random"],
    differs: Tensor,
    generators: Sequence[torch.Generator],
) -> Tensor:
    """Return whether each image's loss counts, bool ``(R, N)``, given where teachers differ."""
    if which == "divergent":
        return differs
    if which == "agreeing":
        return ~differs
    count = differs.shape[1]
    order = draw(lambda g: torch.randperm(count, generator=g), generators, differs.device)
    return differs.gather(1, order)


def draw_probe(
    size: int, data: ImageTensors, split: LogitSplit, generators: Sequence[torch.Generator]
) -> Probe:
    """Draw the probe of each replicate from the held-out images, without repetition."""
    images, labels = data.held_out_x, data.held_out_y
    index = draw(
        lambda g: torch.randperm(len(labels), generator=g)[:size], generators, images.device
    )
    halves = [(Batch(gather(images, half)), labels[half]) for half in index.split(size // 2, dim=1)]
    return Probe((halves[0], halves[1]), split.columns("class"))
