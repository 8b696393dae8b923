"""Projected gradient descent on the pixels (Madry et al. 2018, arXiv 1706.06083).

Pixels lie in [-1, 1], so a distance here is twice what it is where they lie in [0, 1]: epsilon 0.2
is the 0.1 of the literature.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sublim_causal.experiment.config import AttackConfig
from sublim_causal.experiment.data.streams import draw
from sublim_causal.experiment.networks.base import Forward


def ascended(
    pixels: Tensor,
    config: AttackConfig,
    generators: Sequence[torch.Generator],
    gradient: Callable[[Tensor], Tensor],
) -> Tensor:
    r"""Return images ``(R, B, D)`` that raise a loss, near `pixels` and in [-1, 1].

    From a uniform start within the ball :math:`|x - x_0|_\infty \le \epsilon`, `steps` times
    :math:`x \leftarrow \Pi(x + \alpha\, \mathrm{sign}\, \nabla_x L)`, with :math:`\Pi` the
    projection onto the ball and the range of pixels. A pixel that lies outside that range may only
    come nearer to it.

    Parameters
    ----------
    pixels : Tensor of shape (R, B, D)
    generators : sequence of torch.Generator
        One per replicate, for the start.
    gradient : callable
        Returns the gradient of the loss at images ``(R, B, D)`` that require gradients.
    """
    low = (pixels - config.epsilon).clamp_(min=-1).minimum(pixels)
    high = (pixels + config.epsilon).clamp_(max=1).maximum(pixels)
    shape = pixels.shape[1:]
    start = draw(lambda g: torch.rand(shape, generator=g), generators, pixels.device)
    x = pixels + start.to(pixels).mul_(2).sub_(1).mul_(config.epsilon)
    for _ in range(config.steps):
        x = x.clamp_(low, high).requires_grad_()
        direction = gradient(x).sign_()
        x = x.detach().add(direction, alpha=config.step_size)
    return x.clamp_(low, high)


@dataclass(frozen=True)
class AtPixels:
    """A forward pass whose `gradient` is that of the images: a `Forward` for targets."""

    forward: Forward

    def logits(self, columns: slice) -> Tensor:
        """Return the logits of `columns`."""
        return self.forward.logits(columns)

    def activations(self, layer: str) -> Tensor:
        """Return the activations of the hidden layer."""
        return self.forward.activations(layer)

    def gradient(self, derivative: Tensor, at: slice | str) -> Tensor:
        """Return d loss / d pixels ``(R, B, D)``."""
        return self.forward.pixel_gradient(derivative, at)

    pixel_gradient = gradient
