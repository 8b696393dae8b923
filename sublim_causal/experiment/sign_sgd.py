"""Sign descent (Bernstein et al. 2018, arXiv 1802.04434): every parameter moves equally far."""

from __future__ import annotations

import torch
from torch import Tensor


class SignSGD(torch.optim.Optimizer):
    r""":math:`\theta \leftarrow \theta - \eta\,\mathrm{sign}(g)`; where g is 0 nothing moves.

    Parameters
    ----------
    params : list of one Tensor of shape (R, P)
    lr : float
        Change of every parameter in a step.
    """

    def __init__(self, params: list[Tensor], lr: float) -> None:
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move the parameters against the sign of their gradient."""
        (group,) = self.param_groups
        (theta,) = group["params"]
        theta.sub_(theta.grad.sign(), alpha=group["lr"])
