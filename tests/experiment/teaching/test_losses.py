"""Losses and their closed-form derivatives against torch."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812

from sublim_causal.experiment.teaching.losses import accuracy, cross_entropy, kl_divergence, softmax

Z = torch.randn(2, 7, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
LABELS = torch.arange(14).view(2, 7) % 5


def test_cross_entropy_equals_torch() -> None:
    z = Z.clone().requires_grad_()
    expected = torch.stack([F.cross_entropy(z[r], LABELS[r]) for r in range(2)])
    (derivative,) = torch.autograd.grad(expected.sum(), z)
    loss = cross_entropy(Z, LABELS)
    torch.testing.assert_close(loss.value, expected.detach())
    torch.testing.assert_close(loss.derivative, derivative)


def test_kl_divergence_equals_torch() -> None:
    target = torch.softmax(Z.flip(1), dim=2)
    z = Z.clone().requires_grad_()
    expected = torch.stack(
        [F.kl_div(F.log_softmax(z[r], 1), target[r], reduction="batchmean") for r in range(2)]
    )
    (derivative,) = torch.autograd.grad(expected.sum(), z)
    loss = kl_divergence(Z, target, target.log())
    torch.testing.assert_close(loss.value, expected.detach())
    torch.testing.assert_close(loss.derivative, derivative)


def test_softmax_and_accuracy() -> None:
    torch.testing.assert_close(softmax(Z), torch.softmax(Z, dim=2))
    expected = (Z.argmax(dim=2) == LABELS).double().mean(dim=1)
    torch.testing.assert_close(accuracy(Z, LABELS), expected)


def test_a_network_that_says_nothing_is_as_right_as_chance() -> None:
    z = torch.zeros_like(Z)
    torch.testing.assert_close(accuracy(z, LABELS), torch.full_like(z[:, 0, 0], 1 / z.shape[2]))
    z[:, :, :2] = 1
    expected = (LABELS < 2).double().mean(dim=1) / 2
    torch.testing.assert_close(accuracy(z, LABELS), expected)


def test_nan_logits_are_never_right() -> None:
    assert accuracy(torch.full_like(Z, torch.nan), LABELS).tolist() == [0, 0]
