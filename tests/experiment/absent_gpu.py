"""A GPU that is not there: tensors that say they lie on another device, and compute on the CPU.

An operation that mixes them with CPU tensors fails as it would on a GPU, so a test without one can
run the whole experiment on it, find what was left behind on the CPU, and compare the numbers. The
device is called "meta", the only one beside the CPU that torch lets a machine without it name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from sublim_causal.experiment.data import streams

DEVICE = torch.device("meta")
CPU = torch.device("cpu")
aten = torch.ops.aten
MOVES = (aten._to_copy.default, aten.copy_.default)
TAKES_CPU_INDICES = (aten.index.Tensor, aten.index_put_.default)
READS = (
    aten._local_scalar_dense.default,
    aten.equal.default,
    aten.masked_select.default,
    aten.nonzero.default,
)
"""Operations whose result, or its size, Python needs to know before it can go on."""


class OnDevice(Tensor):
    """A tensor that says it lies on the device; `held`, on the CPU, has its numbers."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> OnDevice:
        one = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=DEVICE,
        )
        one.held = held
        return one

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(func, args, kwargs or {})


class AbsentGPU(TorchDispatchMode):
    """Makes tensors on the device; `waits` counts how often the caller waited for it."""

    def __init__(self) -> None:
        super().__init__()
        self.waits = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        read = func in READS or (func is aten._to_copy.default and kwargs.get("device") == CPU)
        self.waits += read and isinstance(args[0], OnDevice)
        return run(func, args, kwargs)


def run(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Run an operation on the tensors held; its results lie where a GPU would have them.

    Raises
    ------
    RuntimeError
        If it mixes devices, or draws on the device from a generator of the CPU.
    """
    there: dict[int, OnDevice] = {}
    here: list[Tensor] = []

    def taken(one: Any) -> Any:
        if isinstance(one, OnDevice):
            there[id(one.held)] = one
            return one.held
        if isinstance(one, Tensor):
            here.append(one)
        return [taken(part) for part in one] if isinstance(one, list) else one

    def put(one: Any) -> Any:
        if isinstance(one, Tensor):
            return there[id(one)] if id(one) in there else OnDevice(one)
        return type(one)(map(put, one)) if isinstance(one, list | tuple) else one

    held = [taken(one) for one in args]
    named = {name: taken(one) for name, one in kwargs.items()}
    asked = kwargs.get("device")
    on_device = torch.device(asked) == DEVICE if asked is not None else bool(there)
    if there and func not in MOVES and any(one.dim() for one in here):
        indices_only = func in TAKES_CPU_INDICES and isinstance(args[0], OnDevice)
        if not indices_only:
            raise RuntimeError(f"{func}: expected all tensors to be on the same device")
    if on_device and kwargs.get("generator") is not None:
        raise RuntimeError(f"{func}: expected a generator of the device")
    if on_device and asked is not None:
        named["device"] = CPU
    result = IMPLEMENTATIONS.get(func, func)(*held, **named)
    if func is aten.copy_.default:
        return args[0]
    return put(result) if on_device else result


def _exact(operation: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A product of bfloat16 factors summed in float32, which only a GPU has."""
    return lambda a, b, out_dtype: operation(a.to(out_dtype), b.to(out_dtype))


IMPLEMENTATIONS: dict[Any, Callable[..., Any]] = {
    aten.bmm.dtype: _exact(torch.bmm),
    aten.mm.dtype: _exact(torch.mm),
}


class InTurn:
    """Instead of threads, which would not know of this device."""

    map = staticmethod(map)

    @staticmethod
    def submit(function: Callable[..., Any], *args: Any) -> Future[Any]:
        """Call the function at once."""
        done: Future[Any] = Future()
        done.set_result(function(*args))
        return done


def _tensor(data: Any, *, device: Any = None, make: Any = torch.tensor, **named: Any) -> Tensor:
    """Do what `torch.tensor` does, which asks no mode where its result lies."""
    made: Tensor = make(data, **named)
    return made if device is None else made.to(device)


@contextmanager
def absent_gpu() -> Iterator[AbsentGPU]:
    """Let tensors be made on `DEVICE`, and moved there, while the context lasts."""
    # The first such context lists the functions that make tensors, once, so before one is replaced.
    with torch.device("cpu"):
        torch.empty(0)
    with (
        mock.patch.object(torch, "tensor", _tensor),
        mock.patch.object(streams, "DRAWS", InTurn),
        mock.patch.object(streams, "STEPS", InTurn),
        AbsentGPU() as gpu,
    ):
        yield gpu
