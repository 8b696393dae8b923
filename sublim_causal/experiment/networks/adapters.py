"""Low-rank adapters of the linear layers of a frozen model, for R replicates side by side."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from sublim_causal.errors import RequestError, nearest
from sublim_causal.experiment.config import AdapterConfig


def adapt(model: nn.Module, adapter: str) -> None:
    r"""Freeze `model`, and give linear layers the parameters of the adapter, a JSON text.

    The output of an adapted layer becomes

    .. math:: W x + b + \tfrac{\alpha}{r} B_i A_i x

    for inputs x of replicate i (Hu et al. 2021, arXiv 2106.09685). The parameters ``lora_A``
    ``(r, n_in)`` and ``lora_B`` ``(n_out, r)`` have no numbers of their own: a call of the model
    replaces them by those of its R replicates, ``(R, r, n_in)`` and ``(R, n_out, r)``, whose inputs
    stand one after another along the first axis.

    Raises
    ------
    RequestError
        If no layer fits.
    """
    asked = AdapterConfig.model_validate_json(adapter)
    model.requires_grad_(False)
    for name in targets_of(asked, model):
        layer = model.get_submodule(name)
        rows, columns = _outputs_and_inputs(layer)
        for matrix, shape in ("lora_A", (asked.rank, columns)), ("lora_B", (rows, asked.rank)):
            layer.register_parameter(matrix, nn.Parameter(torch.empty(shape, device="meta")))
        layer.register_forward_hook(partial(_add_change, asked.alpha / asked.rank))


def _add_change(scale: float, layer: Any, inputs: tuple[Tensor], output: Tensor) -> Tensor:
    """Add what the adapters change to the `output` of a layer: a forward hook."""
    (x,) = inputs
    a, b = layer.lora_A.to(x.dtype), layer.lora_B.to(x.dtype)
    x, frozen = (one.reshape(len(a), -1, one.shape[-1]) for one in (x, output))
    return _LowRank.apply(x, a, b, frozen, scale).view(output.shape)


class _LowRank(torch.autograd.Function):
    """``frozen + scale * x @ a^T @ b^T`` per replicate.

    For `x` ``(R, M, n_in)``, `a` ``(R, r, n_in)``, `b` ``(R, n_out, r)``. Of every product with r
    rows or columns the faster transpose is taken: autograd's own take twice the time on a CPU.
    """

    @staticmethod
    def forward(ctx, x, a, b, frozen, scale):  # type: ignore[no-untyped-def]
        low = torch.bmm(a, x.mT)
        ctx.save_for_backward(x, a, b, low)
        ctx.scale = scale
        return torch.baddbmm(frozen, low.mT, b.mT, alpha=scale)

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        x, a, b, low = ctx.saved_tensors
        grad_low = torch.bmm(b.mT, grad.mT).mul_(ctx.scale)
        grad_b = torch.bmm(low, grad).mul_(ctx.scale).mT
        grad_x = torch.bmm(grad_low.mT, a) if ctx.needs_input_grad[0] else None
        return grad_x, torch.bmm(grad_low, x), grad_b, grad, None


def _outputs_and_inputs(layer: nn.Module) -> tuple[int, int]:
    """Return the shape of W; GPT-2 holds its transpose."""
    weight = layer.get_parameter("weight")
    rows, columns = weight.shape if isinstance(layer, nn.Linear) else weight.shape[::-1]
    return rows, columns


def targets_of(asked: AdapterConfig, model: nn.Module) -> list[str]:
    """Return the full names of the linear layers of `model` that are adapted.

    Experts among which tokens are distributed are none of them: the tokens of a replicate do not
    reach them one after another.

    Raises
    ------
    RequestError
        If a target or a block is not there.
    """
    from transformers.pytorch_utils import Conv1D

    head = model.get_output_embeddings()  # type: ignore[operator]
    linear = [
        name
        for name, one in model.named_modules()
        if isinstance(one, nn.Linear | Conv1D) and one is not head and ".experts." not in name
    ]
    ends = sorted({name.rpartition(".")[2] for name in linear})
    for target in asked.targets or ():
        if not any(_ends(name, target) for name in linear):
            raise RequestError(
                "model.adapter.targets",
                target,
                f"ends of names of linear layers: {', '.join(ends)}",
                nearest(target, ends),
            )
    blocks = {int(found[1]) for name in linear if (found := re.search(r"\.(\d+)\.", name))}
    for block in asked.layers or ():
        if block not in blocks:
            allowed = (
                f"numbers of blocks, from {min(blocks, default=0)} to {max(blocks, default=0)}"
            )
            remedy = "correct it, or leave layers out to adapt all blocks"
            raise RequestError("model.adapter.layers", block, allowed, remedy)
    adapted = [
        name
        for name in linear
        if (asked.targets is None or any(_ends(name, one) for one in asked.targets))
        and (asked.layers is None or any(f".{one}." in name for one in asked.layers))
    ]
    if not adapted:
        allowed = "targets and layers that match a linear layer other than the head"
        remedy = "leave targets or layers out"
        raise RequestError("model.adapter", asked.model_dump_json(), allowed, remedy)
    return adapted


def _ends(name: str, target: str) -> bool:
    return f".{name}".endswith(f".{target}")
