"""The students' images: noise of several kinds, or real ones.

All noise has mean 0 and the variance of uniform noise on [-1, 1], 1/3.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from sublim_causal.experiment.data.sources import SOURCES, ImageTensors

Draw = Callable[[int, ImageTensors, torch.Generator], Tensor]
"""``draw(count, data, generator)`` returns images ``(count, D)`` like `data`."""


def uniform(count: int, data: ImageTensors, generator: torch.Generator) -> Tensor:
    """Every pixel uniform on [-1, 1], as in the paper."""
    pixels = torch.rand((count, data.train_x.shape[1]), generator=generator)
    return pixels.to(data.train_x).mul_(2).sub_(1)


def gaussian(count: int, data: ImageTensors, generator: torch.Generator) -> Tensor:
    """Every pixel normal."""
    pixels = torch.randn((count, data.train_x.shape[1]), generator=generator)
    return pixels.to(data.train_x).div_(math.sqrt(3))


def pink(count: int, data: ImageTensors, generator: torch.Generator) -> Tensor:
    """Smooth noise whose amplitude falls as 1/frequency, as that of natural images does."""
    channels, height, width = data.shape
    white = torch.randn((count, channels, height, width), generator=generator)
    frequency = torch.hypot(torch.fft.fftfreq(height)[:, None], torch.fft.fftfreq(width))
    # The mean of an image is as large as its slowest wave; 1/0 would be all there is.
    frequency[0, 0] = 1 / max(height, width)
    spectrum = 1 / frequency
    spectrum /= spectrum.square().mean().sqrt() * math.sqrt(3)
    parts = [torch.fft.ifft2(torch.fft.fft2(part) * spectrum).real for part in white.split(4096)]
    return torch.cat(parts).flatten(1).to(data.train_x)


def training(count: int, data: ImageTensors, generator: torch.Generator) -> Tensor:
    """The teacher's training images, in another random order; repeated if there are too few."""
    return drawn_from(data.train_x, count, generator)


def other(name: str) -> Draw:
    """Return the function that draws training images of data set `name`."""

    def draw(count: int, data: ImageTensors, generator: torch.Generator) -> Tensor:
        return drawn_from(data.others[name], count, generator)

    return draw


def drawn_from(images: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Draw `count` of `images` ``(N, D)``, each once before any comes again."""
    rounds = math.ceil(count / len(images))
    order = torch.cat([torch.randperm(len(images), generator=generator) for _ in range(rounds)])
    return images[order[:count].to(images.device)]


INPUTS: dict[str, Draw] = {
    "uniform": uniform,
    "gaussian": gaussian,
    "pink": pink,
    "training": training,
    **{name: other(name) for name in SOURCES},
}
"""By the name that a study file uses."""
