"""Pretrained models as networks: adapters side by side, padding, precision."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sublim_causal.experiment.networks.base import Batch, Network
from sublim_causal.experiment.networks.pretrained import (
    NO_TOKEN,
    PretrainedNetwork,
    build_pretrained,
)
from sublim_causal.study.worker.device import configured
from tests.experiment.language_model import SIZES, small_text, tiny_model


def network_of(kind: str, adapter: object = None) -> PretrainedNetwork:
    """Return a tiny model of some architecture."""
    adapter = {"rank": 2, "alpha": 4} if adapter is None else adapter
    return build_pretrained(
        small_text(model={"path": str(tiny_model(kind)), "adapter": adapter}).model
    )


def drawn(network: Network, count: int) -> Tensor:
    """Return parameters ``(count, P)``, float64, at which no adapter is zero."""
    g = torch.Generator().manual_seed(0)
    theta = torch.stack([network.initialise(g) for _ in range(count)]).double()
    return theta + 0.1 * torch.randn(theta.shape, generator=g).double()


def texts(*shape: int) -> Batch:
    """Return random tokens ``(R, B, L)``: the prompts and answers of each replicate shorter."""
    x = torch.randint(200, shape, generator=torch.Generator().manual_seed(1))
    for replicate in range(shape[0]):
        x[replicate, 1:, :replicate] = NO_TOKEN
        x[replicate, 0, shape[2] - replicate :] = NO_TOKEN
    return Batch(x, tuple(range(shape[2] - 4, shape[2])))


@pytest.mark.parametrize("adapter", [None, "none"])
@pytest.mark.parametrize("kind", SIZES)
def test_replicates_side_by_side_are_what_each_is_alone(kind: str, adapter: str | None) -> None:
    network, batch, columns = network_of(kind, adapter), texts(3, 4, 7), slice(3, 90)
    theta = drawn(network, 3)
    forward = network.forward(theta, batch)
    z = forward.logits(columns)
    derivative = torch.randn(z.shape, generator=torch.Generator().manual_seed(2)).double()
    gradient = forward.gradient(derivative, columns)
    torch.testing.assert_close(network.read(theta, batch, columns), z)
    for r in range(3):
        one = slice(r, r + 1)
        alone = network.forward(theta[one], Batch(batch.x[one], batch.positions))
        torch.testing.assert_close(z[one], alone.logits(columns))
        torch.testing.assert_close(gradient[one], alone.gradient(derivative[one], columns))
    assert all(one.flatten(1).any(dim=1).all() for one in network.layout.views(gradient))


@pytest.mark.parametrize("kind", SIZES)
def test_an_adapted_layer_is_one_whose_weights_have_changed(kind: str) -> None:
    network, whole = network_of(kind), network_of(kind, "none")
    theta, batch = drawn(network, 1), texts(1, 2, 6)
    pretrained = whole.initialise(torch.Generator()).double()[None]
    changed = dict(zip(whole.layout.names, whole.layout.views(pretrained.clone()), strict=True))
    factors = dict(zip(network.layout.names, network.layout.views(theta), strict=True))
    for name in network.layout.layers:
        change = 2 * factors[f"{name}.lora_B"][0] @ factors[f"{name}.lora_A"][0]
        weight = changed[f"{name}.weight"][0]
        weight += change.T if kind == "gpt2" else change
    found = network.forward(theta, batch).logits(slice(None))
    flat = torch.cat([changed[name].flatten() for name in whole.layout.names])[None]
    torch.testing.assert_close(found, whole.forward(flat, batch).logits(slice(None)))


def test_padding_and_kept_keys_change_no_logits() -> None:
    from transformers import DynamicCache

    network = build_pretrained(small_text().model)
    theta = network.initialise(torch.Generator().manual_seed(0)).double()[None]
    theta += 0.1 * torch.randn(theta.shape, generator=torch.Generator().manual_seed(1)).double()
    rows = [[20, 30, 40, 50, 60], [70, 80, 90]]
    left = torch.tensor([rows[0], [NO_TOKEN, NO_TOKEN, *rows[1]]])
    right = torch.tensor([rows[0], [*rows[1], NO_TOKEN, NO_TOKEN]])
    z = network.forward(theta, Batch(left[None], (4,))).logits(slice(None))[0]
    other = network.forward(theta, Batch(right[None], (2, 4))).logits(slice(None))[0]
    alone = network.forward(theta, Batch(left[None, 1:, 2:], (2,))).logits(slice(None))[0]
    torch.testing.assert_close(z[1], alone[0])
    torch.testing.assert_close(other[2], alone[0])
    assert (other[3] == 0).all()
    parameters, cache = network.layout.views(theta), DynamicCache()
    with torch.no_grad():
        network.call(parameters, left[:, :3], 1, cache)
        last = network.call(parameters, left, 1, cache).logits[:, -1]
    torch.testing.assert_close(last, z)


def test_a_frozen_model_is_held_in_bfloat16_where_products_are_rounded() -> None:
    network = build_pretrained(small_text().model)
    theta = network.initialise(torch.Generator().manual_seed(0))[None]
    batch = Batch(torch.tensor([[[20, 30, 40, 50]]]), (3,))
    exact = network.forward(theta, batch).logits(slice(None))
    with configured("bf16"):
        forward = network.forward(theta, batch)
        gradient = forward.gradient(torch.ones_like(exact), slice(None))
        held = {one.dtype for one in network.module(theta).parameters() if not one.requires_grad}
    assert held == {torch.bfloat16}
    assert gradient.dtype == torch.float32
    assert 0 < (forward.logits(slice(None)) - exact).abs().max() < 0.05 * exact.abs().max()
