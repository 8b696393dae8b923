"""Gradient descent: plain, with momentum, or by the sign of the gradient."""

from __future__ import annotations

import torch
from torch import Tensor


class SGD:
    r""":math:`b \leftarrow \mu b + g,\ \theta \leftarrow \theta - \eta b`, as ``torch.optim.SGD``.

    Parameters
    ----------
    momentum : float
        Share of the last step's direction that is kept; 0 for plain gradient descent.
    """

    def __init__(self, theta: Tensor, lr: float, momentum: float = 0.0) -> None:
        self.theta, self.lr, self.momentum = theta, lr, momentum
        self._direction = torch.zeros_like(theta) if momentum else None

    @torch.no_grad()
    def step(self) -> None:
        """Move the parameters against their gradient, or its momentum."""
        direction = self.theta.grad
        assert direction is not None
        if self._direction is not None:
            direction = self._direction.mul_(self.momentum).add_(direction)
        self.theta.sub_(direction, alpha=self.lr)


class SignSGD:
    r"""Sign descent (Bernstein et al. 2018, arXiv 1802.04434): every parameter moves equally far.

    :math:`\theta \leftarrow \theta - \eta\,\mathrm{sign}(g)`; where g is 0 nothing moves.
    """

    def __init__(self, theta: Tensor, lr: float) -> None:
        self.theta, self.lr = theta, lr

    @torch.no_grad()
    def step(self) -> None:
        """Move the parameters against the sign of their gradient."""
        assert self.theta.grad is not None
        self.theta.sub_(self.theta.grad.sign(), alpha=self.lr)
