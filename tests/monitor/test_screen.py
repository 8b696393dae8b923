"""What one update tells: against the formulas, and what cannot be screened."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from sublim_causal import screen
from sublim_causal.errors import DataError, RequestError


@pytest.fixture
def networks() -> tuple[nn.Module, nn.Module]:
    """A base and a teacher that was moved from it."""
    torch.manual_seed(0)
    base = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    teacher = copy.deepcopy(base)
    with torch.no_grad():
        for p in teacher.parameters():
            p += 0.1 * torch.randn_like(p)
    return base, teacher


def flat(tensors: object) -> Tensor:
    return torch.cat([one.detach().reshape(-1) for one in tensors])  # type: ignore[attr-defined]


def test_the_cosines_are_those_of_the_formulas(networks: tuple[nn.Module, nn.Module]) -> None:
    base, teacher = networks
    batches = [torch.randn(6, 4).double() for _ in range(3)]
    probe = torch.randn(8, 4).double()

    def loss(student: nn.Module, x: Tensor) -> Tensor:
        return (student(x) - teacher(x).detach()).square().mean()

    def trait_loss(student: nn.Module) -> Tensor:
        return student(probe)[:, 0].mean()

    found = screen(
        base, teacher, base, batches, loss, trait_loss, optimizer=lambda p: torch.optim.SGD(p, 0.1)
    )
    parameters = list(base.parameters())
    mean = torch.stack([loss(base, x) for x in batches]).mean()
    g = flat(torch.autograd.grad(mean, parameters))
    t = flat(torch.autograd.grad(trait_loss(base), parameters))
    way = flat(teacher.parameters()) - flat(parameters)
    assert found.coverage == pytest.approx(float(-g @ way / (g.norm() * way.norm())))
    assert found.cos_gradient == pytest.approx(float(g @ t / (g.norm() * t.norm())))
    assert found.cos_update == pytest.approx(found.cos_gradient)
    assert found.n_batches == 3
    assert found.coverage > 0  # distillation on the outputs goes towards the teacher
    assert "towards the teacher" in found.summary()


def test_the_student_stays_as_it_is(networks: tuple[nn.Module, nn.Module]) -> None:
    base, teacher = networks
    before = flat(base.parameters()).clone()
    found = screen(base, teacher.state_dict(), base.state_dict(), [torch.ones(1, 4).double()], _sum)
    assert torch.equal(flat(base.parameters()), before)
    assert all(p.grad is None for p in base.parameters())
    assert found.cos_update is None


def _sum(student: nn.Module, x: Tensor) -> Tensor:
    return student(x).sum()


def test_what_cannot_be_screened_is_refused(networks: tuple[nn.Module, nn.Module]) -> None:
    base, teacher = networks
    x = torch.ones(1, 4).double()
    with pytest.raises(RequestError, match="at least one batch"):
        screen(base, teacher, base, [], _sum)
    with pytest.raises(RequestError, match=r"teacher: 0\.weight"):
        screen(base, {}, base, [x], _sum)
    with pytest.raises(DataError, match="no direction"):
        screen(base, base, base, [x], _sum)
    with pytest.raises(DataError, match="does not depend"):
        screen(base, teacher, base, [x], lambda student, x: x.sum())
    with pytest.raises(DataError, match="trait_loss"):
        screen(base, teacher, base, [x], _sum, lambda student: x.sum())
    frozen = copy.deepcopy(base).requires_grad_(False)
    with pytest.raises(RequestError, match="trained parameters"):
        screen(frozen, teacher, base, [x], _sum)
