"""Adam whose preconditioner is frozen: adaptive at first, then a fixed scale of each parameter."""

from __future__ import annotations

import torch
from torch import Tensor

from sublim_causal.experiment.optimizers.adam import BETAS, EPS


class FrozenAdam:
    r"""Adam (Kingma and Ba 2015) that keeps its second moments after some steps.

    :math:`\theta \leftarrow \theta - \eta\,\hat m_t / (\sqrt{\hat v_{\min(t, k)}} + \epsilon)`,
    with bias-corrected moments. A parameter whose gradient was 0 in the first k steps stays where
    it is: its scale is not known.

    Parameters
    ----------
    theta : Tensor of shape (R, P)
        Its ``grad`` is the gradient.
    lr : float
        Step size.
    frozen_after : int
        k, the steps after which second moments are not updated, at least 1.
    """

    def __init__(self, theta: Tensor, lr: float, frozen_after: int) -> None:
        self.theta, self.lr, self.frozen_after = theta, lr, frozen_after
        self._m, self._v = torch.zeros_like(theta), torch.zeros_like(theta)
        self._steps = 0

    @torch.no_grad()
    def step(self) -> None:
        """Move the parameters against their scaled momentum."""
        theta = self.theta
        assert theta.grad is not None
        self._steps += 1
        self._m.lerp_(theta.grad, 1 - BETAS[0])
        if self._steps <= self.frozen_after:
            self._v.mul_(BETAS[1]).addcmul_(theta.grad, theta.grad, value=1 - BETAS[1])
            self._scale = (self._v / (1 - BETAS[1] ** self._steps)).sqrt_().add_(EPS)
            self._moves = self._v > 0
        moved = self._m / (1 - BETAS[0] ** self._steps) / self._scale
        theta.sub_(moved * self._moves, alpha=self.lr)
