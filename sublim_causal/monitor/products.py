"""Inner products of vectors that are kept as lists of tensors, one entry a parameter."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor

from sublim_causal.errors import SublimError

CHUNK_ON_CPU, CHUNK_ON_GPU = 2**16, 2**22
"""Entries that are converted to float64 at a time: what a cache holds, and what fills a GPU."""

Vector = Sequence[Tensor | None]
"""One tensor a parameter; None means zeros."""


def gram(vectors: Sequence[Vector], like: Sequence[Tensor]) -> Tensor:
    """Return the inner products of every pair of `vectors`, parameter by parameter.

    Entries are converted to float64 chunk by chunk; of sharded parameters, each process sums its
    shard and the sums are added up over the processes.

    Parameters
    ----------
    vectors : sequence of k vectors
    like : sequence of Tensor
        The parameters.

    Returns
    -------
    Tensor of shape (parameters, k, k)
        float64, on the first parameter's device.
    """
    products = [
        _gram_of([None if t is None else local(t) for t in row], local(parameter))
        for *row, parameter in zip(*vectors, like, strict=True)
    ]
    result = torch.stack([one.to(products[0].device) for one in products])
    return _summed_over_shards(result, like)


def _gram_of(tensors: list[Tensor | None], like: Tensor) -> Tensor:
    """Return the inner products ``(k, k)`` of tensors of one shape."""
    flat = [None if t is None else t.detach().reshape(-1) for t in tensors]
    size, device = like.numel(), like.device
    chunk = min(size, CHUNK_ON_CPU if device.type == "cpu" else CHUNK_ON_GPU)
    result = torch.zeros((len(flat), len(flat)), dtype=torch.float64, device=device)
    buffer = torch.zeros((len(flat), chunk), dtype=torch.float64, device=device)
    for start in range(0, size, max(chunk, 1)):
        part = buffer[:, : min(chunk, size - start)]
        for row, vector in zip(part, flat, strict=True):
            if vector is not None:
                row.copy_(vector[start : start + len(row)])
        result.addmm_(part, part.T)
    return result


def _summed_over_shards(products: Tensor, like: Sequence[Tensor]) -> Tensor:
    """Add the products of sharded parameters up over the processes that hold the shards."""
    groups: dict[tuple[object, int], list[int]] = {}
    for i, parameter in enumerate(like):
        if isinstance(parameter, DTensor):
            for dimension, placement in enumerate(parameter.placements):
                if placement.is_shard():
                    groups.setdefault((parameter.device_mesh, dimension), []).append(i)
    for (mesh, dimension), rows in groups.items():
        part = products[rows].to(local(like[rows[0]]).device)
        dist.all_reduce(part, group=mesh.get_group(dimension))  # type: ignore[attr-defined]
        products[rows] = part.to(products.device)
    return products


def local(tensor: Tensor) -> Tensor:
    """Return the dense part of `tensor` that this process holds."""
    if isinstance(tensor, DTensor):
        tensor = tensor.to_local()
    return tensor.to_dense() if tensor.layout != torch.strided else tensor


def fingerprint(tensors: Sequence[Tensor]) -> Tensor:
    """Return checksums of the tensors, ``(tensors, 2)``: of their bits, and of their sum.

    One changed entry changes the first, and equal changes that cancel in it change the second.
    """
    parts = [local(t.detach()) for t in tensors]
    sums = [
        torch.stack([torch.hash_tensor(t).view(torch.int64), t.sum().double().view(torch.int64)])
        for t in parts
    ]
    return torch.stack([one.to(sums[0].device) for one in sums])


def validate_visible(parameters: Sequence[Tensor]) -> None:
    """Refuse parameters whose gradients or values are kept elsewhere.

    Raises
    ------
    SublimError
        Under DeepSpeed ZeRO-3 and the first version of FSDP.
    """
    for kind, hidden in (
        ("DeepSpeed ZeRO-3", any(hasattr(p, "ds_id") for p in parameters)),
        ("FullyShardedDataParallel", any(hasattr(p, "_is_flat_param") for p in parameters)),
    ):
        if hidden:
            raise SublimError(
                f"the parameters are hidden by {kind}: their gradients cannot be read\n"
                "remedy: train with DistributedDataParallel, or shard with "
                "torch.distributed.fsdp.fully_shard (FSDP2)"
            )
