"""Attacks on the class of an image, and accuracy under them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sublim_causal.experiment.attack import ascended
from sublim_causal.experiment.config import AttackConfig
from sublim_causal.experiment.data.sources import ImageTensors
from sublim_causal.experiment.data.streams import SeedStreams
from sublim_causal.experiment.networks.base import Batch, Network
from sublim_causal.experiment.teaching.losses import accuracy, cross_entropy


def attacked(
    network: Network,
    theta: Tensor,
    pixels: Tensor,
    labels: Tensor,
    classes: slice,
    config: AttackConfig,
    generators: Sequence[torch.Generator],
) -> Tensor:
    """Return images ``(R, B, D)`` that raise the cross-entropy, near `pixels` (see `ascended`).

    Parameters
    ----------
    theta : Tensor of shape (R, P)
    pixels : Tensor of shape (R, B, D)
    labels : int64 Tensor of shape (R, B)
    classes : slice
        Columns of the class logits.
    generators : sequence of torch.Generator
        One per replicate, for the start.
    """

    def gradient(x: Tensor) -> Tensor:
        forward = network.forward(theta, Batch(x))
        loss = cross_entropy(forward.logits(classes), labels)
        return forward.pixel_gradient(loss.derivative, classes)

    return ascended(pixels, config, generators, gradient)


def robust_accuracy(
    network: Network,
    theta: Tensor,
    data: ImageTensors,
    classes: slice,
    config: AttackConfig | None,
    streams: SeedStreams,
    batch_size: int = 1024,
) -> Tensor:
    """Return the accuracy ``(R,)`` on attacked test images; NaN without an attack.

    `config.images` of the test images are attacked, evenly spread over all, the same for all seeds.
    Within a seed the random starts are the same for all networks.
    """
    if config is None:
        return torch.full((len(theta),), torch.nan, dtype=torch.float64)
    count = min(config.images, len(data.test_y))
    chosen = torch.arange(count, device=data.test_y.device) * len(data.test_y) // count
    generators, right = streams("attack test"), torch.zeros(len(theta), dtype=torch.float64)
    for index in chosen.split(batch_size):
        pixels = data.test_x[index].expand(len(theta), -1, -1)
        labels = data.test_y[index].expand(len(theta), -1)
        x = attacked(network, theta, pixels, labels, classes, config, generators)
        z = network.forward(theta, Batch(x)).logits(classes)
        right += len(index) * accuracy(z, labels).cpu()
    return right / count
