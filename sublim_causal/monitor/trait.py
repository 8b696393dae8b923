"""The trait loss and its gradient at the current parameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor

from sublim_causal.errors import SublimError
from sublim_causal.monitor.evaluation import Called, evaluating, gradients_set_aside
from sublim_causal.monitor.products import Vector, fingerprint

TraitLoss = Callable[[], Tensor | tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Point:
    """The trait at one point.

    Attributes
    ----------
    loss : Tensor of shape ()
        float64.
    gradients : tuple of vectors
        One gradient; two, if the trait loss gives the losses of two halves of the probe; none, if
        only the loss was asked for.
    called : Called
        The modules that the trait loss ran.
    """

    loss: Tensor
    gradients: tuple[Vector, ...]
    called: Called

    def state(self, parameters: Sequence[Tensor]) -> State:
        """Return the state of what the trait loss depends on, as far as its modules show it."""
        own = {id(p) for p in parameters}
        others = [p for key, (_, p) in self.called.parameters().items() if key not in own]
        return State(
            tuple((id(p), p._version) for p in parameters),
            tuple((id(p), p._version) for p in others),
            fingerprint([*parameters, *self.called.buffers()]),
        )

    def still_holds(self, state: State, parameters: Sequence[Tensor]) -> bool:
        """Return whether nothing has changed since `state`, in any of the processes."""
        now = self.state(parameters)
        same = (now.trained, now.others) == (state.trained, state.others)
        same = same and torch.equal(now.checksums, state.checksums)
        changed = torch.tensor(float(not same), device=now.checksums.device)
        for group in process_groups(parameters, self.called):
            dist.all_reduce(changed, dist.ReduceOp.MAX, group=group)
        return not changed


@dataclass(frozen=True)
class State:
    """What tells whether something that a trait loss depends on has changed.

    Attributes
    ----------
    trained, others : tuple of (int, int)
        Identities and versions of the trained parameters, and of all others of the modules that it
        called.
    checksums : Tensor
        Of the trained parameters and of the modules' buffers.
    """

    trained: tuple[tuple[int, int], ...]
    others: tuple[tuple[int, int], ...]
    checksums: Tensor


def measure(
    trait_loss: TraitLoss, parameters: Sequence[Tensor], *, halves: bool, gradient: bool
) -> Point:
    """Run the trait loss in eval mode, and its backward pass if `gradient`.

    Under `DistributedDataParallel` the loss and the gradients are averaged over the processes.

    Raises
    ------
    SublimError
        If the trait loss does not depend on any of `parameters`, or is not a scalar.
    """
    with evaluating([p.device for p in parameters]) as called:
        if gradient:
            losses = _losses(trait_loss, halves)
            gradients = tuple(_gradients(losses, parameters, called))
        else:
            with torch.no_grad():
                losses = _losses(trait_loss, halves)
            gradients = ()
        values = [_value(one) for one in losses]
    loss = _averaged(torch.stack(values).mean(), parameters, called)
    return Point(loss, gradients, called)


def _losses(trait_loss: TraitLoss, halves: bool) -> tuple[Tensor, ...]:
    found = trait_loss()
    losses = found if isinstance(found, tuple) else (found,)
    if len(losses) != 1 + halves or not all(
        isinstance(one, Tensor) and one.numel() == 1 for one in losses
    ):
        expected = "a pair of scalar tensors" if halves else "a scalar tensor"
        raise SublimError(
            f"trait_loss: returned {_words(found)}, not {expected}\n"
            "remedy: return the mean loss over the probe"
            + (", of its first and of its second half" if halves else "")
        )
    return losses


def _words(found: object) -> str:
    if isinstance(found, tuple):
        return f"({', '.join(map(_words, found))})"
    if isinstance(found, Tensor):
        return f"a tensor of shape {tuple(found.shape)}"
    return f"a {type(found).__name__}"


def _value(loss: Tensor) -> Tensor:
    loss = loss.detach()
    return (loss.full_tensor() if isinstance(loss, DTensor) else loss).double().reshape(())


def _gradients(
    losses: tuple[Tensor, ...], parameters: Sequence[Tensor], called: Called
) -> list[Vector]:
    sharded = any(isinstance(p, DTensor) for p in parameters)
    if sharded and len(losses) > 1:
        raise SublimError(
            "half_probes: the gradients of sharded parameters come from one backward pass only\n"
            "remedy: half_probes=False under FSDP2"
        )
    found: list[Vector] = []
    for i, loss in enumerate(losses):
        if not loss.requires_grad:
            gradients: Vector = [None] * len(parameters)
        elif sharded:
            # FSDP2 gathers parameters outside of the graph, so only backward() reaches them.
            every = {id(p): p for _, p in called.parameters().values()}
            every |= {id(p): p for p in parameters}
            with gradients_set_aside(list(every.values())):
                loss.backward()
                gradients = [p.grad for p in parameters]
        else:
            last = i == len(losses) - 1
            gradients = torch.autograd.grad(
                loss, parameters, allow_unused=True, retain_graph=not last
            )
        if all(one is None for one in gradients):
            raise SublimError(
                "trait_loss: no parameter that is trained gets a gradient from it\n"
                "remedy: compute it with the model whose parameters the optimizer trains, "
                "with gradients enabled, and return the loss itself, neither detached nor a float"
            )
        _average(gradients, called)
        found.append(gradients)
    return found


def _average(gradients: Vector, called: Called) -> None:
    """Average gradients, in place, over the processes of a `DistributedDataParallel`."""
    for parallel in called.parallel():
        for gradient in gradients:
            if gradient is not None:
                dist.all_reduce(gradient, group=parallel.process_group)
                gradient.div_(dist.get_world_size(parallel.process_group))


def _averaged(loss: Tensor, parameters: Sequence[Tensor], called: Called) -> Tensor:
    """Return the mean of `loss` over the processes that share the training."""
    for group in process_groups(parameters, called):
        dist.all_reduce(loss, group=group)
        loss.div_(dist.get_world_size(group))
    return loss


def process_groups(parameters: Sequence[Tensor], called: Called) -> list[dist.ProcessGroup]:
    """Return the process groups over which the training is spread."""
    groups = [parallel.process_group for parallel in called.parallel()]
    meshes = {p.device_mesh for p in parameters if isinstance(p, DTensor)}
    groups += [mesh.get_group(d) for mesh in meshes for d in range(mesh.ndim)]
    return groups
