"""Networks: the hand-written backward pass against autograd, and layouts."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from sublim_causal.errors import RequestError
from sublim_causal.experiment.config import ModelConfig
from sublim_causal.experiment.networks import products
from sublim_causal.experiment.networks.base import Batch, Forward, outputs
from sublim_causal.experiment.networks.mlp import MLP
from sublim_causal.experiment.networks.models import build_network
from sublim_causal.experiment.networks.module import ModuleNetwork
from sublim_causal.experiment.teaching.losses import cross_entropy


class SameMLP(nn.Sequential):
    """The built-in MLP as a module."""

    def __init__(self, sizes: tuple[int, ...]) -> None:
        layers: list[nn.Module] = [nn.Flatten()]
        for n_in, n_out in itertools.pairwise(sizes):
            layers += [nn.Linear(n_in, n_out), nn.ReLU()]
        super().__init__(*layers[:-1])


class NotAFunction(nn.Module):
    """A module with running statistics."""

    def __init__(self, image_shape: tuple[int, ...], outputs: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(image_shape[0])
        self.head = nn.Linear(64, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.norm(x).flatten(1))


def gradients(
    network: MLP | ModuleNetwork, theta: torch.Tensor, x: torch.Tensor, columns: slice
) -> torch.Tensor:
    labels = torch.arange(x.shape[0] * x.shape[1]).view(x.shape[:2]) % 3
    with torch.no_grad():
        forward = network.forward(theta, Batch(x))
        return forward.gradient(cross_entropy(forward.logits(columns), labels).derivative, columns)


@pytest.mark.parametrize("sizes", [(64, 9), (64, 16, 9), (64, 20, 16, 12, 9)])
@pytest.mark.parametrize("columns", [slice(0, 9), slice(0, 5), slice(5, 9)])
@pytest.mark.parametrize("replicates", [1, 3])
def test_the_mlp_equals_autograd(sizes: tuple[int, ...], columns: slice, replicates: int) -> None:
    mlp = MLP(sizes)
    module = ModuleNetwork(lambda: SameMLP(sizes), (1, 8, 8))
    generator = torch.Generator().manual_seed(0)
    theta = torch.randn(replicates, mlp.layout.size, generator=generator, dtype=torch.float64)
    x = torch.randn(replicates, 12, 64, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(
        gradients(mlp, theta, x, columns),
        gradients(module, theta, x, columns),
        rtol=1e-10,
        atol=1e-13,
    )


@pytest.mark.parametrize("replicates", [1, 3])
@pytest.mark.parametrize(("layer", "part"), [("0", "2"), ("2", "4"), ("4", "6")])
def test_hidden_layers_equal_autograd(layer: str, part: str, replicates: int) -> None:
    sizes = (64, 20, 16, 12, 9)
    mlp, module = MLP(sizes), ModuleNetwork(lambda: SameMLP(sizes), (1, 8, 8))
    generator = torch.Generator().manual_seed(0)
    theta = torch.randn(replicates, mlp.layout.size, generator=generator, dtype=torch.float64)
    x = Batch(torch.randn(replicates, 12, 64, generator=generator, dtype=torch.float64))
    target = torch.randn(replicates, 12, 20, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        one, other = mlp.forward(theta, x), module.forward(theta, x)
        h = one.activations(layer)
        torch.testing.assert_close(h, other.activations(part), rtol=1e-12, atol=1e-14)
        derivative = h - target[:, :, : h.shape[2]]
        before = derivative.clone()
        expected = other.gradient(derivative, part)
        torch.testing.assert_close(one.gradient(derivative, layer), expected, rtol=1e-10, atol=0)
        assert torch.equal(derivative, before)
    above = mlp.layout.layers[layer].stop
    assert not expected[:, above:].any()
    assert expected[:, :above].any()


@pytest.mark.parametrize("sizes", [(64, 9), (64, 16, 9), (64, 20, 16, 9)])
@pytest.mark.parametrize("replicates", [1, 3])
def test_pixel_gradients_equal_autograd(sizes: tuple[int, ...], replicates: int) -> None:
    mlp, module = MLP(sizes), ModuleNetwork(lambda: SameMLP(sizes), (1, 8, 8))
    generator = torch.Generator().manual_seed(0)
    theta = torch.randn(replicates, mlp.layout.size, generator=generator, dtype=torch.float64)
    x = torch.randn(replicates, 12, 64, generator=generator, dtype=torch.float64).requires_grad_()
    columns = slice(0, 5)
    with torch.no_grad():
        forward = mlp.forward(theta, Batch(x))
        derivative = forward.logits(columns).cos()
        of_module = module.forward(theta, Batch(x)).pixel_gradient(derivative, columns)
        of_mlp = forward.pixel_gradient(derivative, columns)
    named = zip(module.layout.names, (v[0] for v in module.layout.views(theta)), strict=True)
    z = torch.func.functional_call(module.module, dict(named), (x[0].view(-1, 1, 8, 8),))
    (first,) = torch.autograd.grad(z[:, columns].sin().sum(), x)
    torch.testing.assert_close(of_mlp, of_module, rtol=1e-10, atol=1e-14)
    torch.testing.assert_close(of_mlp[0], first[0], rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize(("layer", "part"), [("0", "2"), ("2", "4")])
def test_pixel_gradients_of_a_hidden_layer_equal_autograd(layer: str, part: str) -> None:
    sizes = (64, 20, 16, 9)
    mlp, module = MLP(sizes), ModuleNetwork(lambda: SameMLP(sizes), (1, 8, 8))
    generator = torch.Generator().manual_seed(0)
    theta = torch.randn(2, mlp.layout.size, generator=generator, dtype=torch.float64)
    x = torch.randn(2, 12, 64, generator=generator, dtype=torch.float64).requires_grad_()
    with torch.no_grad():
        one, other = (network.forward(theta, Batch(x)) for network in (mlp, module))
        derivative = one.activations(layer).cos()
        expected = other.pixel_gradient(derivative, part)
        torch.testing.assert_close(
            one.pixel_gradient(derivative, layer), expected, rtol=1e-10, atol=1e-13
        )
    assert expected.any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_module_answers_for_blocks_of_several_replicates(dtype: torch.dtype) -> None:
    network = build_network(ModelConfig.model_validate({"class": "cnn"}), (1, 8, 8), 10)
    generator = torch.Generator().manual_seed(0)
    theta = torch.stack([network.initialise(generator) for _ in range(2)]).to(dtype)
    x = torch.randn(2, 5, 64, generator=generator).to(dtype)
    both = network.forward(theta, Batch(x)).logits(slice(0, 13))
    one = network.forward(theta[1:], Batch(x[1:])).logits(slice(0, 13))
    torch.testing.assert_close(both[1:], one, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", [0, products.ZEN_4, products.ZEN_5])
def test_float32_products_agree_whichever_library_multiplies(
    monkeypatch: pytest.MonkeyPatch, family: int
) -> None:
    if family and not (
        torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    ):
        pytest.skip("this build of torch has no oneDNN")
    monkeypatch.setattr(products, "amd_family", lambda: family)
    sizes = (64, 32, 16, 9)
    mlp, module = MLP(sizes), ModuleNetwork(lambda: SameMLP(sizes), (1, 8, 8))
    generator = torch.Generator().manual_seed(1)
    theta = torch.randn(1, mlp.layout.size, generator=generator) / 8
    x = torch.randn(1, 40, 64, generator=generator)
    exact = gradients(mlp, theta.double(), x.double(), slice(0, 9)).float()
    for network in (mlp, module):
        error = (gradients(network, theta, x, slice(0, 9)) - exact).norm() / exact.norm()
        assert error < 1e-6


@pytest.mark.skipif(not products.multiplies_bfloat16(), reason="no bf16 products on this processor")
def test_bfloat16_products_round_and_nothing_else() -> None:
    generator = torch.Generator().manual_seed(1)
    a, b = torch.randn(40, 64, generator=generator), torch.randn(30, 64, generator=generator)
    exact = a.double() @ b.double().t()
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        rounded = products.outer_product(a, b)
    finally:
        torch.set_float32_matmul_precision(before)
    error = (rounded - exact).norm() / exact.norm()
    assert rounded.dtype == torch.float32
    assert 1e-4 < error < 2**-7  # bfloat16 keeps 8 bits


def test_layers_are_neighbouring_parameters_of_one_module() -> None:
    layout = MLP((4, 3, 2)).layout
    assert layout.layers == {"0": slice(0, 15), "2": slice(15, 23)}
    assert layout.size == 23


def test_logits_do_not_depend_on_the_batch_size() -> None:
    mlp = MLP((6, 5, 4))
    theta = torch.randn(2, mlp.layout.size, dtype=torch.float64)
    x = torch.randn(11, 6, dtype=torch.float64)
    whole, parts = (outputs(mlp, theta, x, slice(0, 4), batch_size=b) for b in (100, 3))
    torch.testing.assert_close(whole, parts, rtol=1e-13, atol=1e-14)


def test_a_forward_pass_has_as_many_answers_with_one_position_as_with_ten() -> None:
    sizes: list[int] = []

    class Counting(MLP):
        def forward(self, theta: torch.Tensor, batch: Batch) -> Forward:
            sizes.append(batch.x.shape[1])
            return super().forward(theta, batch)

    counting = Counting((2, 3, 2))
    x = torch.zeros(1, 1100, 2)
    for positions in ((), tuple(range(10)), tuple(range(2000))):
        outputs(counting, torch.zeros(1, counting.layout.size), x[:, :70], slice(0, 2), positions)
    outputs(counting, torch.zeros(1, counting.layout.size), x, slice(0, 2))
    assert sizes == [70, 64, 6, *[1] * 70, 1024, 76]


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"class": "mpl"}, "model.class"),
        ({"class": "mlp", "options": {"hiden": [3]}}, "model.options.hiden"),
        ({"class": "mlp", "options": {"hidden": [0]}}, "model.options.hidden"),
        ({"class": "cnn", "options": {"channels": "many"}}, "model.options"),
        ({"class": "tests.experiment.test_networks:NotAFunction"}, "model.class"),
        ({"class": "tests.experiment.test_networks:Missing"}, "model.class"),
        ({"class": "no.such.module:Thing"}, "model.class"),
    ],
)
def test_a_wrong_model_is_refused(config: dict, field: str) -> None:
    with pytest.raises(RequestError) as refused:
        build_network(ModelConfig.model_validate(config), (1, 8, 8), 10)
    assert refused.value.field == field
