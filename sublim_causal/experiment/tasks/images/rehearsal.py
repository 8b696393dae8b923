"""Random images, on which arms take a few steps before anything is trained."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from sublim_causal.experiment.config import Experiment
from sublim_causal.experiment.data.sources import SOURCES, ImageTensors
from sublim_causal.experiment.data.streams import SeedStreams
from sublim_causal.experiment.logits import LogitSplit
from sublim_causal.experiment.networks.base import Network
from sublim_causal.experiment.networks.initialisation import initialise
from sublim_causal.experiment.tasks.base import Rehearsal
from sublim_causal.experiment.tasks.images.block import draw_inputs, draw_probe

EXAMPLES = 8


def rehearse(
    experiment: Experiment,
    streams: SeedStreams,
    network: Network,
    split: LogitSplit,
    dtype: torch.dtype,
) -> Rehearsal:
    """Return two initialisations, a probe and inputs of random images."""
    data = made_up_images(experiment, split, dtype)
    draw_network = partial(initialise, network, like=data.train_x)
    size = min(experiment.probe.size, len(data.held_out_y))
    probe = partial(draw_probe, size, data, split.columns("class"))
    return Rehearsal(
        draw_network(streams("init")),
        draw_network(streams("student init")),
        probe(streams("probe")),
        probe,
        draw_network,
        lambda arm: draw_inputs(experiment.inputs_of(arm), EXAMPLES, data, streams),
        (),
    )


def made_up_images(experiment: Experiment, split: LogitSplit, dtype: torch.dtype) -> ImageTensors:
    """Return 16 images of noise for each part of the data, with labels of all classes in turn."""
    shape = SOURCES[experiment.data.name].shape
    generator = torch.Generator().manual_seed(0)
    count, size = 2 * EXAMPLES, torch.Size(shape).numel()

    def noise() -> Tensor:
        return torch.rand((count, size), generator=generator).mul_(2).sub_(1).to(dtype)

    labels = torch.arange(count) % split.trait.stop
    others: dict[str, Tensor] = {name: noise() for name in experiment.other_data()}
    return ImageTensors(noise(), labels, noise(), labels, noise(), labels, shape, others)
