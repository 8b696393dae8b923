"""Interventions on an optimizer of your own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Never

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from sublim_causal.errors import RequestError, SublimError, nearest
from sublim_causal.experiment.data.streams import stream
from sublim_causal.experiment.interventions import (
    CONTRACT,
    INTERVENTIONS,
    build_interventions,
    followed_arms,
)
from sublim_causal.experiment.interventions.base import Intervention, OfLayers, Space
from sublim_causal.experiment.networks.base import Layout
from sublim_causal.monitor.evaluation import Called
from sublim_causal.monitor.products import Vector, validate_visible
from sublim_causal.monitor.steps import (
    Handle,
    attached,
    loss_scale,
    plain_optimizer,
    skips,
    stage_of,
    trained_by,
)
from sublim_causal.monitor.trait import TraitLoss, measure

NEED_MORE = {
    "liminal": "add its term to your loss",
    "set_coverage": "teachers are in studies",
    "clamp": "other arms are in studies",
    "yoked": "other arms are in studies",
}
"""What to do instead of built-in interventions that need more than the vector and the trait."""

OF_THE_VECTOR = {"shuffle": ("coordinates", "random"), "trait": ("taught",)}
"""Values of options with which the vector and the trait gradient are all that is needed."""


def guard(
    optimizer: Optimizer,
    trait_loss: TraitLoss,
    intervention: str | Intervention = "projection",
    strength: float = 1.0,
    space: Space | None = None,
    every: int = 1,
    seed: int = 0,
    **options: Any,
) -> Handle:
    r"""Apply an intervention to the steps of `optimizer`, until ``handle.remove()``.

    In gradient space ``.grad`` is changed before the step. An adaptive optimizer such as Adam then
    divides each coordinate by its usual size and mixes in earlier gradients, so the update need not
    have the alignment that the gradient was given: projected gradients can lead to aligned, or
    reversed, updates. In update space the displacement that the optimizer made,
    :math:`\theta_t - \theta_{t+1}` as a descent direction, is changed after the step: what the
    intervention returns is subtracted from :math:`\theta_t`, so the alignment of the update is
    exact for every optimizer, including its momentum and weight decay.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
    trait_loss : callable
        Returns the scalar trait loss at the current parameters; it runs in eval mode, as for
        `AlignmentMonitor`.
    intervention : str or Intervention
        Name of a built-in one that needs no other arm, no teacher, and no logits of the student
        (``projection``, ``shuffled`` with coordinates or random directions, ``set_cosine``,
        ``train_only``, ``baseline``, ``chain``), ``module:Class``, or an object with the contract's
        members. It is handed one replicate: vectors ``(1, P)``.
    strength : float
        Of a built-in intervention that has one.
    space : "update" or "gradient", optional
        Where a built-in intervention that has a choice acts; by default in update space.
    every : int
        Act in steps 0, `every`, 2 `every`, ...
    seed : int
        Seed of what the intervention draws at random.
    **options
        Further options of the intervention (``when``, ``layers``, ``cosine``, ``shuffle``, ...).

    Returns
    -------
    Handle

    Raises
    ------
    RequestError
        If the intervention or an option is not allowed here.

    Notes
    -----
    Order in a step: ``scaler.unscale_``, clipping, then ``scaler.step(optimizer)``, in which a
    monitor reads the gradient, the guard changes it, the monitor reads the applied gradient, the
    optimizer moves the parameters, the guard changes the displacement, and the monitor measures the
    update; whichever of monitor and guard was attached first. So clipping sees the gradient before
    the guard. Learning rates of a scheduler count, since the optimizer has used them. A step that
    the scaler skips stays as it is.

    Cost: one forward and backward pass of the trait loss a step, and a few vectors as long as all
    parameters together. Parameters may not be sharded.
    """
    if not isinstance(every, int) or isinstance(every, bool) or every < 1:
        raise RequestError("every", every, "a whole number that is at least 1")
    members = _members(intervention, strength, space, options)
    optimizer = plain_optimizer(optimizer)
    stage = stage_of(optimizer)
    return attached(stage.changing, _Guard(trained_by(optimizer), trait_loss, members, every, seed))


def _members(
    intervention: str | Intervention, strength: float, space: Space | None, options: dict[str, Any]
) -> tuple[Intervention, ...]:
    """Build the interventions, and refuse those that need more than there is."""
    if isinstance(intervention, str):
        members = _built(intervention, strength, space, options)
    elif not isinstance(intervention, Intervention):
        raise RequestError("intervention", intervention, CONTRACT.words)
    elif options or strength != 1 or space not in (None, intervention.space):
        raise RequestError(
            "intervention",
            intervention,
            "an object without further options",
            "give the options to the object",
        )
    else:
        members = (intervention,)
    for one in members:
        _validate_member(one)
    return members


def _built(
    name: str, strength: float, space: Space | None, options: dict[str, Any]
) -> tuple[Intervention, ...]:
    """Build the intervention of that name; it gets strength and space where it has them."""
    table = {"intervention": name, **options}
    fields = getattr(INTERVENTIONS.get(name), "model_fields", {})
    if "strength" in fields or strength != 1:
        table["strength"] = strength
    if "space" in fields or space is not None:
        table["space"] = space or "update"
    return build_interventions("guard", table)


def _validate_member(one: Intervention) -> None:
    """Refuse an intervention that needs the loss, other arms, or the probe of a study."""
    name = next((n for n, kind in INTERVENTIONS.items() if type(one) is kind), "")
    if name in NEED_MORE or followed_arms([one]):
        others = [n for n in INTERVENTIONS if n not in NEED_MORE]
        remedy = NEED_MORE.get(name, "other arms are in studies")
        raise RequestError("guard.intervention", name, ", ".join(others), remedy)
    for option, known in OF_THE_VECTOR.items():
        value = getattr(one, option, known[0])
        if name and value not in known:
            allowed = f"{' or '.join(map(repr, known))}; others need the probe of a study"
            raise RequestError(f"guard.{option}", value, allowed)


@dataclass(frozen=True)
class _Block:
    """What is known of a network of one's own (`interventions.base.BlockContext`)."""

    layout: Layout
    generators: Sequence[torch.Generator]
    device: torch.device

    def __getattr__(self, name: str) -> Never:
        raise _unknown(name)


@dataclass(frozen=True)
class _Moment:
    """What is known at a step (`interventions.base.StepContext`)."""

    step: int

    def __getattr__(self, name: str) -> Never:
        raise _unknown(name)


def _unknown(name: str) -> Exception:
    if name.startswith("__"):
        return AttributeError(name)
    return SublimError(
        f"guard: the intervention asks for {name!r}, which only a study has\n"
        "remedy: run it in a study, or write one that needs the vector, the trait gradient and "
        "the step alone"
    )


class _Guard:
    """Changes steps (`steps.Changing`)."""

    def __init__(
        self,
        parameters: Sequence[Tensor],
        trait_loss: TraitLoss,
        members: Sequence[Intervention],
        every: int,
        seed: int,
    ) -> None:
        self._parameters, self._trait_loss = list(parameters), trait_loss
        self._members, self._every, self._seed = members, every, seed
        self._states: list[Any] | None = None
        self._count = -1
        self._trait: Tensor | None = None
        self._before: Tensor | None = None

    @property
    def _acts(self) -> bool:
        return self._count % self._every == 0

    def _in(self, space: Space) -> bool:
        return any(one.space == space for one in self._members)

    def before(self) -> None:
        """Measure the trait gradient, and copy the parameters if the update is to be changed."""
        self._count += 1
        if not self._acts:
            return
        validate_visible(self._parameters)
        if any(isinstance(p, DTensor) for p in self._parameters):
            raise SublimError(
                "guard: the parameters are sharded over processes\n"
                "remedy: train with DistributedDataParallel, where each process holds them whole"
            )
        point = measure(self._trait_loss, self._parameters, halves=False, gradient=True)
        self._trait = _flat(point.gradients[0], self._parameters)
        if self._states is None:
            layout = _layout(self._parameters, point.called)
            _validate_layers(self._members, list(layout.layers))
            block: Any = _Block(
                layout, [stream("guard", self._seed, "intervention")], self._trait.device
            )
            self._states = [one.init(block) for one in self._members]
        if self._in("update"):
            self._before = _flat(self._parameters, self._parameters)

    def change_gradient(self, optimizer: Optimizer) -> bool:
        """Change ``.grad``, as if it had been unscaled."""
        if not self._acts or not self._in("gradient") or skips(optimizer):
            return False
        scale = loss_scale(optimizer)
        gradients = [p.grad for p in self._parameters]
        changed = self._applied("gradient", _flat(gradients, self._parameters) / scale) * scale
        for p, part in zip(self._parameters, _parts(changed, self._parameters), strict=True):
            if p.grad is not None:
                p.grad.copy_(part)
        return True

    def change_update(self, optimizer: Optimizer) -> None:
        """Set the parameters to where the changed displacement leads."""
        before, self._before = self._before, None
        if before is not None and not skips(optimizer):
            descent = before - _flat(self._parameters, self._parameters)
            after = before - self._applied("update", descent)
            for p, part in zip(self._parameters, _parts(after, self._parameters), strict=True):
                p.copy_(part)
        self._trait = None

    def _applied(self, space: Space, vector: Tensor) -> Tensor:
        moment: Any = _Moment(self._count)
        assert self._states is not None
        for i, one in enumerate(self._members):
            if one.space == space:
                vector, self._states[i] = one.apply(vector, self._trait, self._states[i], moment)
        return vector


def _validate_layers(members: Sequence[Intervention], known: Sequence[str]) -> None:
    for one in members:
        for layer in one.layers if isinstance(one, OfLayers) else ():
            if layer not in known:
                allowed = f"layers of the model: {', '.join(known)}"
                raise RequestError("guard.layers", layer, allowed, nearest(layer, known))


def _flat(tensors: Vector, like: Sequence[Tensor]) -> Tensor:
    """Return `tensors` as one vector ``(1, P)``, on the first parameter's device."""
    device = like[0].device
    parts = [
        (torch.zeros_like(p) if t is None else t.detach().to_dense() if t.is_sparse else t.detach())
        for t, p in zip(tensors, like, strict=True)
    ]
    return torch.cat([part.reshape(-1).to(device) for part in parts])[None]


def _parts(vector: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """Return ``(1, P)`` as tensors of the parameters' shapes."""
    parts = vector[0].split([p.numel() for p in like])
    return [part.view(p.shape) for part, p in zip(parts, like, strict=True)]


def _layout(parameters: Sequence[Tensor], called: Called) -> Layout:
    known = called.parameters()
    names = [
        known[id(p)][0] if id(p) in known else f"parameter {i}" for i, p in enumerate(parameters)
    ]
    return Layout(tuple(names), tuple(tuple(p.shape) for p in parameters))
