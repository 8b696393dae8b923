"""The device and the precision of matrix products."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, get_args

from sublim_causal.errors import RequestError, nearest

if TYPE_CHECKING:
    import torch


Precision = Literal["fp64", "fp32", "tf32", "bf16"]


DEVICES = ("auto", "cpu", "cuda")


MATMUL_PRECISION = {"fp64": "highest", "fp32": "highest", "tf32": "high", "bf16": "medium"}
"""Matrix products inside; parameters, gradients and optimizer stay float32 (float64 for fp64)."""


def choose_device(name: str) -> str:
    """Return ``"cuda"`` or ``"cpu"``; ``"auto"`` takes a GPU where there is one.

    Raises
    ------
    RequestError
        If the device is unknown or not available.
    """
    import torch

    available = torch.cuda.is_available()
    if name == "auto":
        return "cuda" if available else "cpu"
    if name not in DEVICES:
        raise RequestError("--device", name, "auto, cpu or cuda")
    if name == "cuda" and not available:
        raise RequestError("--device", name, "cpu or auto", "torch finds no CUDA device here")
    return name


def validate_precision(precision: Precision, device: str) -> None:
    """Check that the processor of `device` multiplies in `precision`.

    Raises
    ------
    RequestError
        If it does not.
    """
    from sublim_causal.experiment.networks.products import multiplies_bfloat16

    if device == "cpu" and precision == "bf16" and not multiplies_bfloat16():
        raise RequestError("--precision", precision, "fp32: this processor has no bf16 products")
    if device == "cpu" and precision == "tf32":
        raise RequestError("--precision", precision, "fp32 or bf16 on a CPU; tf32 is for GPUs")


def configure_torch(precision: Precision) -> torch.dtype:
    """Set one thread and the precision of matrix products; return the dtype of everything."""
    import torch

    # One thread a process: threads that share one small product mostly wait for each other.
    torch.set_num_threads(1)
    torch.set_float32_matmul_precision(MATMUL_PRECISION[precision])
    # Convolutions on a GPU have a separate setting, and round to TF32 by default.
    torch.backends.cudnn.allow_tf32 = precision in ("tf32", "bf16")
    return torch.float64 if precision == "fp64" else torch.float32


@contextmanager
def configured(precision: Precision) -> Iterator[torch.dtype]:
    """Configure torch as a worker does, and restore its settings at the end."""
    import torch

    threads, products = torch.get_num_threads(), torch.get_float32_matmul_precision()
    convolutions = torch.backends.cudnn.allow_tf32
    try:
        yield configure_torch(precision)
    finally:
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision(products)
        torch.backends.cudnn.allow_tf32 = convolutions


def validate_precision_name(name: str) -> Precision:
    """Return `name` if it is a precision.

    Raises
    ------
    RequestError
        If it is not.
    """
    for one in get_args(Precision):
        if name == one:
            return one
    allowed = get_args(Precision)
    raise RequestError("--precision", name, ", ".join(allowed), nearest(name, allowed))
