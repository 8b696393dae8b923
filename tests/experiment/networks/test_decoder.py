"""The transformer's written-out backward pass against autograd."""

from __future__ import annotations

import pytest
import torch

from sublim_causal.experiment.alignment import Probe, measure_trait
from sublim_causal.experiment.config import ModelConfig
from sublim_causal.experiment.networks.base import Batch
from sublim_causal.experiment.networks.decoder import TransformerNetwork
from sublim_causal.experiment.networks.models import build_token_network
from sublim_causal.experiment.networks.transformer import Sizes
from sublim_causal.experiment.networks.transformer import parameters as count

TOKENS, CONTEXT, LENGTH = 20, 9, 7


def network(**options: object) -> TransformerNetwork:
    """Return two blocks of width 24."""
    table = {"blocks": 2, "width": 24, "heads": 3, **options}
    built = build_token_network(
        ModelConfig.model_validate({"class": "transformer", "options": table}), TOKENS, CONTEXT
    )
    assert isinstance(built, TransformerNetwork)
    return built


def parameters(of: TransformerNetwork, replicates: int) -> torch.Tensor:
    """Return parameters with biases and norms that are not where they begin."""
    generator = torch.Generator().manual_seed(0)
    theta = torch.stack([of.initialise(generator) for _ in range(replicates)]).double()
    return theta + 0.1 * torch.randn(theta.shape, generator=generator)


@pytest.mark.parametrize("tied", [False, True])
def test_the_number_of_parameters_is_known_before_it_is_built(tied: bool) -> None:
    sizes = Sizes(blocks=2, width=24, heads=3, tied=tied)
    assert count(sizes, TOKENS, CONTEXT) == network(tied=tied).layout.size


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("replicates", [1, 3])
@pytest.mark.parametrize("positions", [(2, 5), (6,), tuple(range(LENGTH))])
def test_it_equals_autograd(tied: bool, replicates: int, positions: tuple[int, ...]) -> None:
    one = network(tied=tied)
    theta = parameters(one, replicates)
    generator = torch.Generator().manual_seed(1)
    batch = Batch(torch.randint(TOKENS, (replicates, 5, LENGTH), generator=generator), positions)
    ours, theirs = one.forward(theta, batch), one.of_module.forward(theta, batch)
    for columns in (slice(0, TOKENS), slice(3, 11)):
        z = ours.logits(columns)
        torch.testing.assert_close(z, theirs.logits(columns))
        derivative = torch.randn(z.shape, generator=generator, dtype=z.dtype)
        gradient = ours.gradient(derivative, columns)
        torch.testing.assert_close(gradient, theirs.gradient(derivative, columns))
        assert torch.equal(gradient, ours.gradient(derivative, columns))
    layer = "0.mlp"
    torch.testing.assert_close(ours.activations(layer), theirs.activations(layer))


def test_both_halves_of_a_probe_are_measured_in_one_pass() -> None:
    one = network()
    theta = parameters(one, 2)
    generator = torch.Generator().manual_seed(1)
    first, second = (
        (
            Batch(torch.randint(TOKENS, (2, 4, LENGTH), generator=generator), (LENGTH - 1,)),
            torch.randint(TOKENS, (2, 4), generator=generator),
        )
        for _ in range(2)
    )
    probe = Probe((first, second), slice(0, TOKENS))
    with torch.no_grad():
        together, alone = (measure_trait(net, theta, probe) for net in (one, one.of_module))
    for name, value in vars(together).items():
        torch.testing.assert_close(value, getattr(alone, name), msg=name)
