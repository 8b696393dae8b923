"""Adam and AdamW in one pass over flat parameters."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

BETAS, EPS = (0.9, 0.999), 1e-8


class Adam(torch.optim.Optimizer):
    r"""Adam (Kingma and Ba 2015), with decoupled weight decay (Loshchilov and Hutter 2019).

    The numbers of ``torch.optim.AdamW(fused=True)``, which on small networks spends more time on
    its bookkeeping than on the step.

    Parameters
    ----------
    params : list of one Tensor of shape (R, P)
    lr : float
        Step size.
    weight_decay : float
        Share of the parameters that is subtracted from them per unit of the step size.
    """

    def __init__(self, params: list[Tensor], lr: float, weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move the parameters against their scaled momentum."""
        (group,) = self.param_groups
        (theta,) = group["params"]
        memory: dict[str, Any] = self.state[theta]
        if not memory:
            memory["step"] = torch.zeros((), device=theta.device)
            memory.update(m=torch.zeros_like(theta), v=torch.zeros_like(theta))
        memory["step"] += 1
        torch._fused_adamw_(
            [theta],
            [theta.grad],
            [memory["m"]],
            [memory["v"]],
            [],
            [memory["step"]],
            lr=group["lr"],
            beta1=BETAS[0],
            beta2=BETAS[1],
            weight_decay=group["weight_decay"],
            eps=EPS,
            amsgrad=False,
            maximize=False,
        )
