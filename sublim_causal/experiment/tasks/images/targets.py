"""What students are fitted to on images: answers of one or several teachers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from sublim_causal.experiment.config import TargetsConfig
from sublim_causal.experiment.contracts import guarded
from sublim_causal.experiment.data.streams import SeedStreams, draw
from sublim_causal.experiment.logits import LogitSplit
from sublim_causal.experiment.tasks.images.teachers import COUNTERFACTUAL, Teachers
from sublim_causal.experiment.teaching.channels import Channel, CombinedChannel
from sublim_causal.experiment.teaching.targets import CombinedTargets, Targets


def make_targets(
    config: TargetsConfig,
    channel: Channel | CombinedChannel,
    teachers: Teachers,
    x: Tensor,
    split: LogitSplit,
    streams: SeedStreams,
) -> Targets:
    """Return what students are fitted to on their inputs `x` ``(R, N, D)``."""
    if isinstance(channel, CombinedChannel):
        return CombinedTargets(
            tuple(
                (weight, make_targets(config, part, teachers, x, split, streams))
                for weight, part in channel.parts
            )
        )
    # The stream is named as in the first version: another name would change its numbers.
    seen = with_noise(x, config.teacher_input_noise, streams("jitter"))
    source = channel.source(split)
    taught = teachers.outputs_in_turn(config.teachers, seen, source)
    weight = None
    if config.images != "all":
        columns = channel.columns(split)
        factual = taught
        if source != columns:
            factual = teachers.outputs_in_turn(config.teachers, seen, columns)
        counterfactual = teachers.outputs(COUNTERFACTUAL, seen, columns)
        differs = factual.argmax(2) != counterfactual.argmax(2)
        if config.images == "replaced":
            other = counterfactual
            if source != columns:
                other = teachers.outputs(COUNTERFACTUAL, seen, source)
            taught = torch.where(differs[:, :, None], other, taught)
        else:
            weight = chosen(config.images, differs, streams("mask")).to(taught)
    return guarded(
        "its channel", lambda: channel.targets(taught, weight, split, streams("channel"))
    )


def with_noise(x: Tensor, size: float, generators: Sequence[torch.Generator]) -> Tensor:
    """Return `x` ``(R, N, D)`` plus normal noise of standard deviation `size`."""
    if size == 0:
        return x
    shape = x.shape[1:]
    noise = draw(lambda g: torch.randn(shape, generator=g), generators, x.device)
    return noise.to(x).mul_(size).add_(x)


def chosen(
    which: Literal["divergent", "agreeing", "random", "random_agreeing"],
    differs: Tensor,
    generators: Sequence[torch.Generator],
) -> Tensor:
    """Return whether each example's loss counts, bool ``(R, N)``, given where teachers differ."""
    if which == "divergent":
        return differs
    if which == "agreeing":
        return ~differs
    count = differs.shape[1]
    order = draw(lambda g: torch.randperm(count, generator=g), generators, differs.device)
    return (differs if which == "random" else ~differs).gather(1, order)
