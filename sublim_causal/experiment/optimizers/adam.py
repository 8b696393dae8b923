"""Adam and AdamW in one pass over flat parameters, and Adam with a frozen preconditioner."""

from __future__ import annotations

import torch
from torch import Tensor

BETAS, EPS = (0.9, 0.999), 1e-8


class Adam:
    r"""Adam (Kingma and Ba 2015), with decoupled weight decay (Loshchilov and Hutter 2019).

    The numbers of ``torch.optim.AdamW(fused=True)``, which on small networks takes longer to call
    the step than the step itself takes.

    Parameters
    ----------
    betas : tuple of float
        Decay rates of the first and second moments.
    weight_decay : float
        Share of the parameters that is subtracted from them per unit of the step size.
    """

    def __init__(
        self,
        theta: Tensor,
        lr: float,
        betas: tuple[float, float] = BETAS,
        weight_decay: float = 0.0,
    ) -> None:
        self.theta, self.lr, self.betas, self.weight_decay = theta, lr, betas, weight_decay
        self._m, self._v = torch.zeros_like(theta), torch.zeros_like(theta)
        self._steps = torch.zeros((), device=theta.device)

    @torch.no_grad()
    def step(self) -> None:
        """Move the parameters against their scaled momentum."""
        assert self.theta.grad is not None
        self._steps += 1
        torch._fused_adamw_(
            [self.theta],
            [self.theta.grad],
            [self._m],
            [self._v],
            [],
            [self._steps],
            lr=self.lr,
            beta1=self.betas[0],
            beta2=self.betas[1],
            weight_decay=self.weight_decay,
            eps=EPS,
            amsgrad=False,
            maximize=False,
        )


class FrozenAdam:
    r"""Adam (Kingma and Ba 2015) that keeps its second moments after some steps.

    :math:`\theta \leftarrow \theta - \eta\,\hat m_t / (\sqrt{\hat v_{\min(t, k)}} + \epsilon)`,
    with bias-corrected moments. A parameter whose gradient was 0 in the first k steps stays where
    it is: its scale is not known.

    Parameters
    ----------
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
