"""Adam whose preconditioner is frozen: adaptive at first, then a fixed scale of each parameter."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sublim_causal.experiment.adam import BETAS, EPS


class FrozenAdam(torch.optim.Optimizer):
    r"""Adam (Kingma and Ba 2015) that keeps its second moments after some steps.

    :math:`\theta \leftarrow \theta - \eta\,\hat m_t / (\sqrt{\hat v_{\min(t, k)}} + \epsilon)`,
    with bias-corrected moments. A parameter whose gradient was 0 in the first k steps stays where
    it is: its scale is not known.

    Parameters
    ----------
    params : list of one Tensor of shape (R, P)
    lr : float
        Step size.
    frozen_after : int
        k, the steps after which second moments are not updated, at least 1.
    """

    def __init__(self, params: list[Tensor], lr: float, frozen_after: int) -> None:
        super().__init__(params, {"lr": lr, "frozen_after": frozen_after})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move the parameters against their scaled momentum."""
        (group,) = self.param_groups
        (theta,) = group["params"]
        memory: dict[str, Any] = self.state[theta]
        if not memory:
            memory.update(step=0, m=torch.zeros_like(theta), v=torch.zeros_like(theta))
        memory["step"] += 1
        t, m, v = memory["step"], memory["m"], memory["v"]
        m.lerp_(theta.grad, 1 - BETAS[0])
        if t <= group["frozen_after"]:
            v.mul_(BETAS[1]).addcmul_(theta.grad, theta.grad, value=1 - BETAS[1])
            memory["scale"] = (v / (1 - BETAS[1] ** t)).sqrt_().add_(EPS)
            memory["moves"] = v > 0
        moved = m / (1 - BETAS[0] ** t) / memory["scale"]
        theta.sub_(moved * memory["moves"], alpha=group["lr"])
