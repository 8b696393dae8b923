"""Projected gradient descent on the pixels (Madry et al. 2018, arXiv 1706.06083).

Pixels lie in [-1, 1], so a distance here is twice what it is where they lie in [0, 1]: epsilon 0.2
is the 0.1 of the literature.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sublim_causal.experiment.config import AttackConfig
from sublim_causal.experiment.data.sources import ImageTensors
from sublim_causal.experiment.data.streams import SeedStreams, draw
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
    r"""Return images ``(R, B, D)`` that raise the cross-entropy, near `pixels` and in [-1, 1].

    From a uniform start within the ball :math:`|x - x_0|_\infty \le \epsilon`, `steps` times
    :math:`x \leftarrow \Pi(x + \alpha\, \mathrm{sign}\, \nabla_x L)`, with :math:`\Pi` the
    projection onto the ball and the range of pixels.

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
    low, high = (pixels - config.epsilon).clamp_(min=-1), (pixels + config.epsilon).clamp_(max=1)
    shape = pixels.shape[1:]
    start = draw(lambda g: torch.rand(shape, generator=g), generators, pixels.device)
    x = pixels + start.to(pixels).mul_(2).sub_(1).mul_(config.epsilon)
    for _ in range(config.steps):
        x = x.clamp_(low, high).requires_grad_()
        forward = network.forward(theta, Batch(x))
        loss = cross_entropy(forward.logits(classes), labels)
        direction = forward.pixel_gradient(loss.derivative, classes).sign_()
        x = x.detach().add(direction, alpha=config.step_size)
    return x.clamp_(low, high)


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
