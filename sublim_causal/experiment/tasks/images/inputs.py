"""The students' images: noise and synthetic images of several kinds, or real ones.

All that are made up have mean 0 and the variance of uniform noise on [-1, 1], 1/3; they are the
kinds of images from which networks are distilled without data, in black-box distillation (Diverse
Image Priors, arXiv 2604.25794) and before it (Baradad et al. 2021, arXiv 2106.05963). A *side* is
the larger of height and width.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sublim_causal.experiment.data.sources import SOURCES, ImageTensors
from sublim_causal.experiment.data.streams import unfilled

Draw = Callable[[int, ImageTensors, torch.Generator], Tensor]
"""``draw(count, data, generator)`` returns images ``(count, D)`` like `data`."""


UNIFORM_PART = 2048
"""Images whose pixels are drawn at once: memory that is used again stays mapped."""


def uniform(count: int, data: ImageTensors, generator: torch.Generator) -> Tensor:
    """Every pixel uniform on [-1, 1], as in the paper."""
    images = data.train_x.new_empty(count, data.train_x.shape[1])
    for part in images.split(UNIFORM_PART):
        pixels = unfilled(part.shape, torch.float32, images.device)
        part.copy_(pixels.uniform_(-1, 1, generator=generator), non_blocking=True)
    return images


def gaussian(count: int, data: ImageTensors, generator: torch.Generator) -> Tensor:
    """Every pixel normal."""
    pixels = torch.randn((count, data.train_x.shape[1]), generator=generator)
    return pixels.to(data.train_x).div_(math.sqrt(3))


def pink(count: int, data: ImageTensors, generator: torch.Generator) -> Tensor:
    """Smooth noise whose amplitude falls as 1/frequency, as that of natural images does."""
    white = torch.randn((count, *data.shape), generator=generator)
    spectrum = power_law(data.shape, torch.ones(1))
    parts = [filtered(part, spectrum) for part in white.split(PART)]
    return torch.cat(parts).flatten(1).to(data.train_x)


def fractal(count: int, data: ImageTensors, generator: torch.Generator) -> Tensor:
    """Fractional Brownian surfaces: amplitude 1/frequency^(1 + H), H uniform on [0, 1] by image.

    Spectral synthesis (Saupe 1988, The Science of Fractal Images, chapter 2); the dimension of a
    surface is 3 - H.
    """

    def part(size: int) -> Tensor:
        spectrum = power_law(data.shape, 1 + torch.rand(size, generator=generator))
        return filtered(torch.randn((size, *data.shape), generator=generator), spectrum)

    return in_parts(part, count, data)


def dead_leaves(count: int, data: ImageTensors, generator: torch.Generator) -> Tensor:
    """40 opaque discs that hide one another: radii of 1/14 to 1/2 of the side, density 1/r^3.

    The dead leaves model (Matheron 1968) with the radii under which it looks the same at every
    scale (Lee, Mumford and Huang 2001). What no disc covers is the ground; brightness is uniform
    on [-1, 1] in every channel.
    """
    low, high = 1 / 14, 1 / 2

    def part(size: int) -> Tensor:
        shapes = Shapes.drawn(size, 40, data.shape, generator)
        u = torch.rand((size, 40, 1, 1), generator=generator)
        squared = 1 / (low**-2 - u * (low**-2 - high**-2))
        return shapes.painted(lambda i, x, y: x.square() + y.square() <= squared[:, i])

    return in_parts(part, count, data)


def blurred_shapes(count: int, data: ImageTensors, generator: torch.Generator) -> Tensor:
    """5 rhombi, ellipses and rectangles over one another, blurred, each image of equal contrast.

    Half axes are uniform on 1/14 to 1/2 of the side, angles uniform; the blur is a Gaussian whose
    standard deviation is uniform on 0 to 1/14 of the side, with edges that wrap around.
    """

    def part(size: int) -> Tensor:
        shapes = Shapes.drawn(size, 5, data.shape, generator)
        half_axes = 1 / 14 + torch.rand((2, size, 5, 1, 1), generator=generator) * (1 / 2 - 1 / 14)
        angle = torch.rand((size, 5, 1, 1), generator=generator) * math.pi
        kind = torch.randint(3, (size, 5, 1, 1), generator=generator)

        def inside(i: int, x: Tensor, y: Tensor) -> Tensor:
            cos, sin = angle[:, i].cos(), angle[:, i].sin()
            a = (cos * x + sin * y).abs() / half_axes[0, :, i]
            b = (cos * y - sin * x).abs() / half_axes[1, :, i]
            reach = torch.where(kind[:, i] == 0, a + b, torch.maximum(a, b))
            return torch.where(kind[:, i] == 1, a * a + b * b, reach) <= 1

        width = torch.rand((size, 1, 1, 1), generator=generator) * max(data.shape) / 14
        blur = torch.exp(-2 * (math.pi * width * frequencies(data.shape)).square())
        images = filtered(shapes.painted(inside), blur).flatten(1)
        images -= images.mean(dim=1, keepdim=True)
        return images.div_(math.sqrt(3) * images.std(dim=1, keepdim=True).clamp_(min=1e-6))

    return in_parts(part, count, data)


def mixed_shapes(count: int, data: ImageTensors, generator: torch.Generator) -> Tensor:
    """Two images of blurred shapes each, mixed in a share that is uniform on [0, 1].

    After mixup (Zhang et al. 2018, arXiv 1710.09412), scaled to the variance of either.
    """
    first = blurred_shapes(count, data, generator)
    second = blurred_shapes(count, data, generator)
    share = torch.rand((count, 1), generator=generator).to(first)
    return (share * first + (1 - share) * second) / torch.hypot(share, 1 - share)


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


@dataclass(frozen=True)
class Shapes:
    """N images of K shapes each, from the one farthest back to the one in front.

    Attributes
    ----------
    shape : tuple of int
        Channels, height and width.
    centre : Tensor of shape (N, K, 2)
        Across and down, in sides.
    brightness : Tensor of shape (N, K + 1, channels)
        Of the ground, then of every shape.
    """

    shape: tuple[int, int, int]
    centre: Tensor
    brightness: Tensor

    @classmethod
    def drawn(
        cls, count: int, shapes: int, shape: tuple[int, int, int], generator: torch.Generator
    ) -> Shapes:
        """Draw centres uniformly over the image, and brightness uniformly on [-1, 1]."""
        channels, height, width = shape
        extent = torch.tensor([width, height]) / max(height, width)
        centre = torch.rand((count, shapes, 2), generator=generator) * extent
        brightness = torch.rand((count, shapes + 1, channels), generator=generator)
        return cls(shape, centre, brightness.mul_(2).sub_(1))

    def painted(self, inside: Callable[[int, Tensor, Tensor], Tensor]) -> Tensor:
        """Return the images ``(N, channels, height, width)``.

        ``inside(k, x, y)`` says which pixels lie in the k-th shape, given their distances from its
        centre in sides, across ``(N, 1, width)`` and down ``(N, height, 1)``.
        """
        _, height, width = self.shape
        x, y = ((torch.arange(n) + 0.5) / max(height, width) for n in (width, height))
        images = self.brightness[:, 0, :, None, None].repeat(1, 1, height, width)
        for k in range(self.centre.shape[1]):
            across, down = (axis[:, None] for axis in self.centre[:, k].split(1, dim=1))
            covered = inside(k, x - across, (y - down).mT)
            brightness = self.brightness[:, k + 1, :, None, None]
            images = torch.where(covered[:, None], brightness, images)
        return images


def frequencies(shape: tuple[int, int, int]) -> Tensor:
    """Return the spatial frequencies ``(height, width)`` of an image, in cycles per pixel."""
    _, height, width = shape
    return torch.hypot(torch.fft.fftfreq(height)[:, None], torch.fft.fftfreq(width))


def power_law(shape: tuple[int, int, int], exponent: Tensor) -> Tensor:
    """Return amplitudes 1/frequency^exponent ``(N, 1, height, width)``, of mean square 1/3."""
    frequency = frequencies(shape)
    # The mean of an image is as large as its slowest wave; 1/0 would be all there is.
    frequency[0, 0] = 1 / max(shape[1:])
    spectrum = 1 / frequency ** exponent[:, None, None, None]
    return spectrum / (spectrum.square().mean(dim=(2, 3), keepdim=True).sqrt() * math.sqrt(3))


def filtered(images: Tensor, spectrum: Tensor) -> Tensor:
    """Return images ``(N, channels, height, width)`` whose waves are multiplied by `spectrum`."""
    return torch.fft.ifft2(torch.fft.fft2(images) * spectrum).real


PART = 256
"""Images that are made at once."""


def in_parts(part: Callable[[int], Tensor], count: int, data: ImageTensors) -> Tensor:
    """Return `count` images ``(count, D)`` like `data`, of which ``part(n)`` makes n."""
    sizes = [min(PART, count - start) for start in range(0, count, PART)]
    return torch.cat([part(size).flatten(1).to(data.train_x) for size in sizes])


INPUTS: dict[str, Draw] = {
    "uniform": uniform,
    "gaussian": gaussian,
    "pink": pink,
    "fractal": fractal,
    "dead_leaves": dead_leaves,
    "blurred_shapes": blurred_shapes,
    "mixed_shapes": mixed_shapes,
    "training": training,
    **{name: other(name) for name in SOURCES},
}
"""By the name that a study file uses."""
