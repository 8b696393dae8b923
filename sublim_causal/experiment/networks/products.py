"""Matrix products, by the library that is fast on this machine.

torch multiplies float32 matrices through MKL, which on AMD processors takes a code path of 256
bits. Those from Zen 5 on have vector units of 512 bits: measured 102 GFLOP/s a core where oneDNN,
which torch ships too, reaches 225. On such machines products go through oneDNN. It wants both
factors with the summed axis last and contiguous, so callers keep transposed copies they can reuse.
Zen 4 knows the same instructions, but its units are of 256 bits: oneDNN reaches 109 where MKL
reaches 101, less than copies cost. So only the layers of one replicate, whose factors are as
oneDNN wants them, go through it there, with bias and ReLU on the way.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

ZEN_4, ZEN_5 = 25, 26
"""Processor families of AMD; of the first, only Zen 4 has AVX-512."""


@lru_cache(maxsize=1)
def amd_family() -> int:
    """Return the family of an AMD processor with AVX-512 if torch has oneDNN; else 0."""
    try:
        processor = Path("/proc/cpuinfo").read_text()
    except OSError:
        return 0
    family = re.search(r"^cpu family\s*: (\d+)$", processor, re.MULTILINE)
    if (
        "AuthenticAMD" in processor
        and family is not None
        and torch.backends.cpu.get_cpu_capability() == "AVX512"
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    ):
        return int(family[1])
    return 0


def product_engine(device: torch.device) -> str:
    """Name of the library that multiplies float32 matrices, for the record."""
    if device.type != "cpu":
        return device.type
    if amd_family() >= ZEN_5:
        return "onednn"
    own = "mkl" if torch.backends.mkl.is_available() else "blas"
    return f"{own} and onednn" if amd_family() >= ZEN_4 else own


def multiplies_bfloat16() -> bool:
    """Whether this processor has instructions for bfloat16 products, and torch uses them."""
    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def rounds_factors(a: Tensor) -> bool:
    """Whether products with `a` round their factors to bfloat16: precision "medium" of torch.

    Torch itself does so on some CPUs only; on a GPU it would round them to TF32.
    """
    return a.dtype == torch.float32 and torch.get_float32_matmul_precision() == "medium"


def _goes_to_onednn(a: Tensor, since: int = ZEN_5) -> bool:
    return a.dtype == torch.float32 and a.device.type == "cpu" and amd_family() >= since


def outer_product(a: Tensor, b: Tensor) -> Tensor:
    """Return ``a @ b.T`` for `a` of shape ``(M, K)`` and `b` of shape ``(N, K)``.

    Where `rounds_factors`, a CPU rounds the result to bfloat16 too; a GPU does not.
    """
    if rounds_factors(a):
        return _rounded(torch.mm, a, b)
    if _goes_to_onednn(a):
        return _by_onednn(a, b)
    return torch.mm(a, b.t())


def _by_onednn(a: Tensor, b: Tensor, bias: Tensor | None = None, then: str = "none") -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(a, b, bias, then, [], "")


def _is_layer_of_onednn(x: Tensor) -> bool:
    return x.shape[0] == 1 and _goes_to_onednn(x, ZEN_4) and not rounds_factors(x)


def relu_layer(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return ``relu(x @ weight^T + bias)`` per replicate, for `x` ``(R, B, in)``."""
    if _is_layer_of_onednn(x):
        return _by_onednn(x[0], weight[0], bias[0], "relu")[None]
    return batched_outer_product(x, weight).add_(bias[:, None]).relu_()


def linear_backward(delta: Tensor, weight: Tensor) -> Tensor:
    """Return ``delta @ weight`` per replicate: what a layer passes down, ``(R, B, in)``."""
    if wants_transposed(delta):
        return batched_outer_product(delta, transposed(weight))
    if _is_layer_of_onednn(delta):
        return _by_onednn(delta[0], weight[0].t())[None]
    return product(delta, weight)


def wants_transposed(a: Tensor) -> bool:
    """Whether products with `a` are fast only where the summed axis is last and contiguous."""
    return _goes_to_onednn(a) or (rounds_factors(a) and a.device.type == "cpu")


def batched_outer_product(a: Tensor, b: Tensor) -> Tensor:
    """Return ``a @ b^T`` per replicate, for `a` ``(R, M, K)`` and `b` ``(R, N, K)``."""
    if a.shape[0] == 1:
        return outer_product(a[0], b[0])[None]
    if _goes_to_onednn(a):
        return torch.stack([outer_product(x, y) for x, y in zip(a, b, strict=True)])
    if rounds_factors(a):
        return _rounded(torch.bmm, a, b)
    return torch.bmm(a, b.transpose(1, 2))


def product(a: Tensor, b: Tensor, out: Tensor | None = None) -> Tensor:
    """Return ``a @ b`` per replicate, for `a` ``(R, M, K)`` and `b` ``(R, K, N)``; into `out`.

    By torch's own library, whatever the order of the axes in memory.
    """
    if rounds_factors(a):
        rounded = _rounded(torch.bmm, a, b.mT)
        return rounded if out is None else out.copy_(rounded)
    if a.shape[0] > 1:
        return torch.bmm(a, b) if out is None else torch.bmm(a, b, out=out)
    if out is None:
        return torch.mm(a[0], b[0])[None]
    torch.mm(a[0], b[0], out=out[0])
    return out


def _rounded(product: Callable[..., Tensor], a: Tensor, b: Tensor) -> Tensor:
    a, b = a.bfloat16(), b.bfloat16().mT
    return product(a, b).float() if a.device.type == "cpu" else product(a, b, torch.float32)


def transposed(a: Tensor) -> Tensor:
    """Return ``(R, M, N)`` as contiguous ``(R, N, M)``; torch's fast path is for matrices only."""
    if a.shape[0] == 1:
        return a[0].t().contiguous()[None]
    return a.transpose(1, 2).contiguous()


def gpu_rounding(a: Tensor) -> AbstractContextManager[object]:
    """Within this context a module's products round as `rounds_factors` says, if `a` is on a GPU.

    By torch's autocast, which rounds the results too, and takes in convolutions.
    """
    if a.device.type == "cuda" and rounds_factors(a):
        return torch.autocast("cuda", torch.bfloat16)
    return nullcontext()


class _Linear(torch.autograd.Function):
    """``x @ weight.T`` on matrices, differentiable, through `outer_product`."""

    @staticmethod
    def forward(ctx, x, weight):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(x, weight)
        return outer_product(x, weight)

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        x, weight = ctx.saved_tensors
        grad_x = outer_product(grad, weight.t()) if ctx.needs_input_grad[0] else None
        grad_weight = outer_product(grad.t(), x.t()) if ctx.needs_input_grad[1] else None
        return grad_x, grad_weight


class FastLinear(torch.overrides.TorchFunctionMode):
    """Within this context ``torch.nn.functional.linear`` multiplies as the built-in MLP does."""

    def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        kwargs = kwargs or {}
        linear = func is torch.nn.functional.linear and args[0].dim() > 1
        if linear and (rounds_factors(args[0]) or _goes_to_onednn(args[0])):
            x, weight, bias = (*args, *kwargs.values(), None)[:3]
            z = _Linear.apply(x.flatten(0, -2), weight).unflatten(0, x.shape[:-1])
            return z if bias is None else z + bias
        return func(*args, **kwargs)
