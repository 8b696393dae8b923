"""Adam and AdamW in one pass over flat parameters."""

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
    theta : Tensor of shape (R, P)
        Its ``grad`` is the gradient.
    lr : float
        Step size.
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
