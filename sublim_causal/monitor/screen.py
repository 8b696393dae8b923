"""What one optimizer update tells of a distillation before its training is paid for."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sublim_causal.errors import DataError, RequestError
from sublim_causal.monitor.products import Vector

Weights = nn.Module | Mapping[str, Tensor]


@dataclass(frozen=True)
class Screen:
    """What one update has to do with the teacher, and with the trait.

    Attributes
    ----------
    coverage : float
        cos(update, teacher - base), in [-1, 1]: how much of the way from the base to the teacher
        the student goes (Madl, arXiv 2606.22019).
    cos_gradient, cos_update : float or None
        Cosines of the distillation gradient, and of minus the update, with the trait gradient;
        None without a trait loss.
    n_batches : int
        Batches that the update was made of.
    """

    coverage: float
    cos_gradient: float | None
    cos_update: float | None
    n_batches: int

    def summary(self) -> str:
        """Return what the numbers say, and what they cannot say, in one line."""
        told = f"coverage {self.coverage:.3g}"
        if self.cos_update is not None:
            told += f", cos_gradient {self.cos_gradient:.3g}, cos_update {self.cos_update:.3g}"
        toward = "towards" if self.coverage > 0 else "not towards"
        return (
            f"{told} (first update of {self.n_batches} batches, {toward} the teacher): it ranks "
            "distillations of one base; docs/findings.md shows how well, and where it does not"
        )


def screen(
    student: nn.Module,
    teacher: Weights,
    base: Weights,
    batches: Iterable[Any],
    loss: Callable[[nn.Module, Any], Tensor],
    trait_loss: Callable[[nn.Module], Tensor] | None = None,
    *,
    optimizer: Callable[[list[nn.Parameter]], torch.optim.Optimizer] | None = None,
) -> Screen:
    r"""Make one optimizer update of a copy of `student`, and compare its direction.

    ``coverage`` :math:`= \cos(u, \theta_T - \theta_0)` with u the first update, and the teacher
    and the base that it was trained from.

    Parameters
    ----------
    student : nn.Module
        Where distillation would begin; it stays as it is.
    teacher, base : nn.Module or mapping of str to Tensor
        The teacher, and what its training began with: modules or state dicts that have the trained
        parameters of `student` under their names.
    batches : iterable
        Batches of the distillation; their gradients are averaged into one update.
    loss : callable
        Distillation loss of ``(student, batch)``, a scalar tensor.
    trait_loss : callable, optional
        Trait loss of a student, a scalar tensor, on a fixed probe.
    optimizer : callable, optional
        Makes the optimizer of a list of parameters; default: Adam. A cosine does not depend on the
        learning rate, but on the kind of optimizer.

    Returns
    -------
    Screen

    Raises
    ------
    RequestError
        If the teacher or the base lacks a trained parameter, or there is no batch.
    DataError
        If no trained parameter gets a gradient, or the teacher is the base.

    Notes
    -----
    A cosine with a zero vector is 0. The student runs in the mode it is in.

    References
    ----------
    Madl, arXiv 2606.22019.
    """
    model = copy.deepcopy(student)
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not named:
        raise RequestError("student", type(student).__name__, "a network with trained parameters")
    direction = _difference(named, _tensors(teacher), _tensors(base))
    trained = list(named.values())
    distill, count = _gradient(model, trained, batches, loss)
    trait = _trait(model, trained, trait_loss)
    before = [p.detach().clone() for p in trained]
    for p, gradient in zip(trained, distill, strict=True):
        p.grad = gradient
    (optimizer or torch.optim.Adam)(trained).step()
    update = [p.detach() - old for p, old in zip(trained, before, strict=True)]
    return Screen(
        coverage=_cosine(update, direction),
        cos_gradient=None if trait is None else _cosine(distill, trait),
        cos_update=None if trait is None else -_cosine(update, trait),
        n_batches=count,
    )


def _tensors(source: Weights) -> Mapping[str, Tensor]:
    return source.state_dict() if isinstance(source, nn.Module) else source


def _difference(
    named: Mapping[str, Tensor], teacher: Mapping[str, Tensor], base: Mapping[str, Tensor]
) -> list[Tensor]:
    found = []
    for name, p in named.items():
        for role, source in (("teacher", teacher), ("base", base)):
            if name not in source or source[name].shape != p.shape:
                has = tuple(source[name].shape) if name in source else "no such parameter"
                raise RequestError(
                    f"{role}: {name}",
                    has,
                    f"a parameter of the shape {tuple(p.shape)}, as the student trains",
                    "coverage compares networks of one layout; freeze what differs",
                )
        found.append(teacher[name].detach().to(p) - base[name].detach().to(p))
    if not any(bool(one.any()) for one in found):
        raise DataError("screen: teacher and base have the same parameters: no direction")
    return found


def _gradient(
    model: nn.Module,
    trained: list[nn.Parameter],
    batches: Iterable[Any],
    loss: Callable[[nn.Module, Any], Tensor],
) -> tuple[Vector, int]:
    """Return the mean gradient over the batches, and how many there were."""
    model.zero_grad(set_to_none=True)
    count = 0
    for batch in batches:
        count += 1
        value = loss(model, batch)
        if not value.requires_grad:
            raise DataError("loss: it does not depend on a trained parameter of the student")
        value.backward()
    if not count:
        raise RequestError("batches", "none", "at least one batch")
    if all(p.grad is None for p in trained):
        raise DataError("loss: no trained parameter of the student gets a gradient from it")
    return [None if p.grad is None else p.grad.detach() / count for p in trained], count


def _trait(
    model: nn.Module, trained: list[nn.Parameter], trait_loss: Callable[[nn.Module], Tensor] | None
) -> Vector | None:
    if trait_loss is None:
        return None
    value = trait_loss(model)
    gradients = (
        torch.autograd.grad(value, trained, allow_unused=True) if value.requires_grad else [None]
    )
    if all(one is None for one in gradients):
        raise DataError("trait_loss: no trained parameter of the student gets a gradient from it")
    return list(gradients)


def _cosine(one: Vector, other: Vector) -> float:
    product = squares = others = 0.0
    for a, b in zip(one, other, strict=True):
        squares += 0.0 if a is None else float(a.double().square().sum())
        others += 0.0 if b is None else float(b.double().square().sum())
        if a is not None and b is not None:
            product += float((a.double() * b.double()).sum())
    norms = (squares * others) ** 0.5
    return product / norms if norms else 0.0
