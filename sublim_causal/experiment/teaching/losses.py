"""The losses with their derivatives at the logits or activations, in closed form.

Logits are ``(R, B, K)`` with K of 3 to 20. A softmax over such a short last axis is slow, so the
arithmetic runs on the transposed ``(R, K, B)``; derivatives come back as ``(R, B, K)`` views of it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from sublim_causal.experiment.networks.products import transposed


class Loss(NamedTuple):
    """A mean loss over a batch and its derivative.

    Attributes
    ----------
    value : Tensor of shape (R,)
        Mean over the batch, in nats.
    derivative : Tensor of shape (R, B, K)
        d value / d logits.
    """

    value: Tensor
    derivative: Tensor


def softmax(logits: Tensor) -> Tensor:
    """Softmax over the last axis of ``(R, B, K)``, computed with the batch axis last."""
    return torch.softmax(transposed(logits), dim=1).transpose(1, 2)


def log_softmax(logits: Tensor) -> Tensor:
    """Log-softmax over the last axis of ``(R, B, K)``, computed with the batch axis last."""
    return torch.log_softmax(transposed(logits), dim=1).transpose(1, 2)


def cross_entropy(logits: Tensor, labels: Tensor, known: Tensor | None = None) -> Loss:
    r"""Cross-entropy :math:`-\log s_y`, with derivative :math:`(s - e_y) / B`.

    Parameters
    ----------
    logits : Tensor of shape (R, B, K)
    labels : int64 Tensor of shape (R, B)
    known : bool Tensor of shape (R, B), optional
        Which labels count: B is their number in each replicate, at least one; default: all.
    """
    if known is not None:
        labels = labels.where(known, 0)
    index = labels[:, None, :]
    log_s = torch.log_softmax(transposed(logits), dim=1)
    of_label = -log_s.gather(1, index)
    minus_one = log_s.new_full((1, 1, 1), -1.0).expand(index.shape)
    derivative = log_s.exp_().scatter_add_(1, index, minus_one)
    if known is not None:
        share = (known / known.sum(dim=1, keepdim=True)).to(of_label)[:, None]
        return Loss((share * of_label).sum(dim=(1, 2)), (share * derivative).transpose(1, 2))
    value = of_label.mean(dim=(1, 2))
    return Loss(value, derivative.div_(logits.shape[1]).transpose(1, 2))


def kl_divergence(
    logits: Tensor, target: Tensor, log_target: Tensor, weight: Tensor | None = None
) -> Loss:
    r"""KL(q || s) :math:`= \sum_k q_k (\log q_k - \log s_k)`, with derivative :math:`(s - q) / B`.

    Parameters
    ----------
    logits : Tensor of shape (R, B, K)
        The student's, s = softmax(logits).
    target, log_target : Tensor of shape (R, B, K)
        q and log q.
    weight : Tensor of shape (R, B), optional
        Weights of the images in the mean, which is still divided by B.
    """
    log_s = log_softmax(logits)
    of_image = (target * (log_target - log_s)).sum(dim=2)
    derivative = log_s.exp_().sub_(target).div_(logits.shape[1])
    if weight is None:
        return Loss(of_image.mean(dim=1), derivative)
    return Loss((weight * of_image).mean(dim=1), derivative * weight[:, :, None])


def squared_distance(
    activations: Tensor, target: Tensor, size: Tensor, weight: Tensor | None = None
) -> Loss:
    r"""Mean of :math:`|h - h^*|^2 / m` over the batch, with derivative :math:`2 (h - h^*) / (m B)`.

    Parameters
    ----------
    activations, target : Tensor of shape (R, B, W)
        h of the student and of the teacher.
    size : Tensor of shape (R,)
        m, above 0.
    weight : Tensor of shape (R, B), optional
        Weights of the images in the mean, which is still divided by B.

    Returns
    -------
    Loss
        Without unit; its derivative is that at the activations.
    """
    gap = activations - target
    derivative = gap * (2 / (size * gap.shape[1]))[:, None, None]
    if weight is not None:
        derivative *= weight[:, :, None]
    return Loss((derivative * gap).sum(dim=(1, 2)) / 2, derivative)


def accuracy(logits: Tensor, labels: Tensor, known: Tensor | None = None) -> Tensor:
    """Share of the batch whose largest logit is the label's, shape ``(R,)``; NaN counts as wrong.

    `known` says which labels count, as in `cross_entropy`.

    Of k logits that are largest together each has a share of 1/k, so a network whose logits
    are all equal has the accuracy of chance.
    """
    if known is not None:
        labels = labels.where(known, 0)
    z = transposed(logits)
    largest = z >= z.amax(dim=1, keepdim=True)
    right = largest.gather(1, labels[:, None, :])[:, 0]
    share = right.double() / largest.sum(dim=1).clamp(min=1)
    return share.mean(dim=1) if known is None else (share * known).sum(dim=1) / known.sum(dim=1)
