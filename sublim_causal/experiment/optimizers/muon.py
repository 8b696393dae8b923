"""Orthogonalised momentum (Muon; Jordan et al. 2024, https://kellerjordan.github.io/posts/muon)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sublim_causal.experiment.networks.base import Layout

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Coefficients of the odd polynomial that takes singular values near 1 in five rounds."""


def orthogonalised(matrices: Tensor) -> Tensor:
    r"""Bring the singular values of ``(R, m, n)`` matrices to about 1; zero ones stay zero.

    Five rounds of :math:`X \leftarrow aX + (bA + cA^2)X`, :math:`A = XX^\top`, from X of norm 1.
    """
    if matrices.shape[1] > matrices.shape[2]:
        return orthogonalised(matrices.transpose(1, 2)).transpose(1, 2)
    a, b, c = NEWTON_SCHULZ
    norm = matrices.flatten(1).norm(dim=1)[:, None, None]
    x = torch.where(norm > 0, matrices / norm, matrices)
    for _ in range(5):
        gram = x @ x.transpose(1, 2)
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x


class Muon:
    """Nesterov momentum 0.95, each parameter orthogonalised; a bias is a matrix of one column.

    Parameters
    ----------
    lr : float
        Root mean square size of an update's singular values, times sqrt(max(1, m / n)).
    layout : Layout
        Which of the P entries form which matrix ``(m, n)``.
    """

    def __init__(self, theta: Tensor, lr: float, layout: Layout) -> None:
        self.theta, self.lr = theta, lr
        self._layout = layout
        self._momentum = torch.zeros_like(theta)

    @torch.no_grad()
    def step(self) -> None:
        """Move the parameters against their orthogonalised momentum."""
        theta = self.theta
        assert theta.grad is not None
        self._momentum.mul_(0.95).add_(theta.grad)
        ahead = theta.grad.add(self._momentum, alpha=0.95)
        views = self._layout.views
        for parameter, direction in zip(views(theta), views(ahead), strict=True):
            matrix = direction.reshape(*direction.shape[:2], -1)
            scale = math.sqrt(max(1.0, matrix.shape[1] / matrix.shape[2]))
            moved = orthogonalised(matrix).view_as(parameter)
            parameter.sub_(moved, alpha=self.lr * scale)
