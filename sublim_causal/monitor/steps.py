"""The order of events in one optimizer step, for all that watch or change it.

Monitors and guards of one optimizer may be attached in any order. At every step:

1. all see the parameters before the step (`before`);
2. monitors read the gradient (`read_gradient`), then guards change it (`change_gradient`), then
   monitors read what the optimizer is given (`read_applied`);
3. the optimizer moves the parameters;
4. guards change the displacement (`change_update`), then monitors measure it (`after`).

An optimizer that is given a closure has no gradient before the closure ran: 2. then follows it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.optim import Optimizer

from sublim_causal.errors import SublimError


class Watching(Protocol):
    """What reads an optimizer's steps."""

    def before(self) -> None:
        """Look at the parameters before the step."""

    def read_gradient(self, optimizer: Optimizer) -> None:
        """Read ``.grad`` as training left it."""

    def read_applied(self, optimizer: Optimizer, *, changed: bool) -> None:
        """Read ``.grad`` as the optimizer is given it; `changed` since `read_gradient`, or not."""

    def after(self, optimizer: Optimizer) -> None:
        """Look at the parameters after the step."""


class Changing(Protocol):
    """What changes an optimizer's steps."""

    def before(self) -> None:
        """Look at the parameters before the step."""

    def change_gradient(self, optimizer: Optimizer) -> bool:
        """Change ``.grad``; return whether it may have been changed."""

    def change_update(self, optimizer: Optimizer) -> None:
        """Change the parameters after the step."""


@dataclass(frozen=True)
class Handle:
    """What `attach` and `guard` return."""

    detach: Callable[[], None]

    def remove(self) -> None:
        """Undo it; what was recorded stays."""
        self.detach()


@dataclass(frozen=True, eq=False)
class Stage:
    """Those who watch and change the steps of one optimizer."""

    watching: list[Watching] = field(default_factory=list)
    changing: list[Changing] = field(default_factory=list)

    def pre(self, optimizer: Optimizer, args: Any, kwargs: Any) -> tuple[Any, Any] | None:
        """Handle what comes before a step."""
        if not self.watching and not self.changing:
            return None
        with torch.no_grad():
            for watching in self.watching:
                watching.before()
            for changing in self.changing:
                changing.before()
        # The first of `args` is the optimizer itself in some versions of PyTorch.
        given = [i for i, one in enumerate(args) if callable(one) and one is not optimizer]
        if given:
            args = list(args)
            args[given[0]] = self._with_gradient(optimizer, args[given[0]])
            return tuple(args), kwargs
        if kwargs.get("closure") is not None:
            return args, {**kwargs, "closure": self._with_gradient(optimizer, kwargs["closure"])}
        self._gradient(optimizer)
        return None

    def _with_gradient(self, optimizer: Optimizer, closure: Callable[[], Any]) -> Callable[[], Any]:
        calls = 0

        def run() -> Any:
            nonlocal calls
            calls += 1
            if calls > 1 and self.changing:
                raise SublimError(
                    f"guard: {type(optimizer).__name__} calls its closure several times per step\n"
                    "remedy: use an optimizer that takes one gradient per step"
                )
            result = closure()
            if calls == 1:
                self._gradient(optimizer)
            return result

        return run

    def _gradient(self, optimizer: Optimizer) -> None:
        with torch.no_grad():
            for watching in self.watching:
                watching.read_gradient(optimizer)
            changed = [one.change_gradient(optimizer) for one in self.changing]
            for watching in self.watching:
                watching.read_applied(optimizer, changed=any(changed))

    def post(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        """Handle what comes after a step."""
        with torch.no_grad():
            for changing in self.changing:
                changing.change_update(optimizer)
            for watching in self.watching:
                watching.after(optimizer)


_STAGES: WeakKeyDictionary[Optimizer, Stage] = WeakKeyDictionary()


def stage_of(optimizer: Optimizer) -> Stage:
    """Return the optimizer's stage; the first call hooks it to the optimizer."""
    stage = _STAGES.get(optimizer)
    if stage is None:
        stage = _STAGES[optimizer] = Stage()
        optimizer.register_step_pre_hook(stage.pre)
        optimizer.register_step_post_hook(stage.post)
    return stage


def plain_optimizer(optimizer: Optimizer) -> Optimizer:
    """Return the optimizer that `accelerate` wraps, or `optimizer` itself."""
    inner = getattr(optimizer, "optimizer", None)
    return plain_optimizer(inner) if isinstance(inner, Optimizer) else optimizer


def attached(part: list[Any], one: object) -> Handle:
    """Add `one` to a `part` of a stage; return the handle that takes it away."""
    part.append(one)

    def detach() -> None:
        if one in part:
            part.remove(one)

    return Handle(detach)


def trained_by(optimizer: Optimizer) -> list[Tensor]:
    """Return the parameters that `optimizer` trains, each once."""
    listed = {id(p): p for group in optimizer.param_groups for p in group["params"]}
    return [p for p in listed.values() if p.requires_grad]


def loss_scale(optimizer: Optimizer) -> float:
    """Return by what ``.grad`` is divided within the step; 1 if it has been divided already.

    `torch.amp.GradScaler` leaves the division to fused optimizers.
    """
    scale = getattr(optimizer, "grad_scale", None)
    return 1.0 if scale is None else float(scale)


def skips(optimizer: Optimizer) -> bool:
    """Return whether a fused optimizer skips the step because a gradient is not finite."""
    found = getattr(optimizer, "found_inf", None)
    return found is not None and bool(found)
