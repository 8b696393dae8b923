"""Run a trait loss and leave no trace: modules, buffers, random streams and ``.grad``."""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.nn.parallel import DistributedDataParallel

TRACE_WARNING = "Using `torch.compile\\(module\\)` when there are global hooks"


@dataclass(frozen=True)
class Called:
    """The modules that a trait loss called.

    Attributes
    ----------
    roots : list of nn.Module
        Those that no other of them contains, in the order of their calls.
    modules : dict of nn.Module to bool
        All of them and what they contain, with their training mode as it was.
    """

    roots: list[nn.Module] = field(default_factory=list)
    modules: dict[nn.Module, bool] = field(default_factory=dict)

    def parameters(self) -> dict[int, tuple[str, Tensor]]:
        """Return names and parameters by identity; names as the outermost module gives them."""
        found: dict[int, tuple[str, Tensor]] = {}
        for root in self.roots:
            for name, parameter in root.named_parameters():
                known = found.get(id(parameter))
                if known is None or len(name) > len(known[0]):
                    found[id(parameter)] = (_plain(root, name), parameter)
        return found

    def buffers(self) -> list[Tensor]:
        """Return all buffers, each once."""
        return list({id(b): b for root in self.roots for b in root.buffers()}.values())

    def parallel(self) -> list[DistributedDataParallel]:
        """Return the modules whose gradients the processes average."""
        return [m for m in self.modules if isinstance(m, DistributedDataParallel)]


def _plain(root: nn.Module, name: str) -> str:
    """Return a parameter's name without what wrappers put before it."""
    if isinstance(root, DistributedDataParallel):
        name = name.removeprefix("module.")
    return name.replace("_orig_mod.", "")


@contextmanager
def evaluating(devices: Sequence[torch.device]) -> Iterator[Called]:
    """Run what is inside in eval mode and with gradients; restore everything afterwards.

    Every module that is called runs in eval mode, with all it contains, and the processes of a
    `DistributedDataParallel` do not average its gradients. Random numbers are drawn from streams of
    their own that start from the same seed each time.
    """
    called, buffers, synced = Called(), [], []

    def enter(module: nn.Module, args: Any) -> None:
        if torch.compiler.is_compiling() or module in called.modules:
            return
        called.roots.append(module)
        for buffer in module.buffers():
            buffers.append((buffer, buffer._version, buffer.clone()))
        for part in module.modules():
            called.modules.setdefault(part, part.training)
            part.training = False
            if isinstance(part, DistributedDataParallel):
                synced.append((part, part.require_backward_grad_sync))
                part.require_backward_grad_sync = False

    hook = register_module_forward_pre_hook(enter)
    try:
        with (
            warnings.catch_warnings(),
            _own_random_streams(devices),
            torch.inference_mode(False),
            torch.enable_grad(),
        ):
            warnings.filterwarnings("ignore", TRACE_WARNING)
            yield called
    finally:
        hook.remove()
        for module, training in called.modules.items():
            module.training = training
            if isinstance(module, FSDPModule):
                module.reshard()
        for parallel, was in synced:
            parallel.require_backward_grad_sync = was
        with torch.no_grad():
            for buffer, version, before in buffers:
                if buffer._version != version:
                    buffer.copy_(before)


@contextmanager
def _own_random_streams(devices: Sequence[torch.device]) -> Iterator[None]:
    """Seed the random streams that the process shares, and set them back afterwards."""
    state, numpy_state = random.getstate(), np.random.get_state()
    gpus = sorted({d.index or 0 for d in devices if d.type == "cuda"})
    try:
        with torch.random.fork_rng(devices=gpus):
            torch.default_generator.manual_seed(0)
            for gpu in gpus:
                torch.cuda.default_generators[gpu].manual_seed(0)
            random.seed(0)
            np.random.seed(0)
            yield
    finally:
        random.setstate(state)
        np.random.set_state(numpy_state)


@contextmanager
def gradients_set_aside(parameters: Sequence[Tensor]) -> Iterator[None]:
    """Let a backward pass fill an empty ``.grad`` of `parameters`; restore it afterwards."""
    kept = [(p, p.grad) for p in parameters]
    for p, _ in kept:
        p.grad = None
    try:
        yield
    finally:
        for p, gradient in kept:
            p.grad = gradient
