"""The models that a study file can name, and how a name becomes a network."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import torch
from pydantic import StrictInt, TypeAdapter, ValidationError
from torch import Tensor, nn

from sublim_causal.errors import RequestError, nearest
from sublim_causal.experiment.config import ModelConfig
from sublim_causal.experiment.contracts import described
from sublim_causal.experiment.imports import Contract, import_class
from sublim_causal.experiment.networks.base import Network
from sublim_causal.experiment.networks.decoder import TransformerNetwork
from sublim_causal.experiment.networks.mlp import MLP
from sublim_causal.experiment.networks.module import ModuleNetwork
from sublim_causal.experiment.networks.transformer import (
    Transformer,
    parameters,
    validate_sizes,
)
from sublim_causal.experiment.randomness import restored_randomness

MOST_PARAMETERS = 2**31
"""8 GiB for one model; training takes several times as much."""
STATEFUL = (
    nn.modules.batchnorm._BatchNorm,
    nn.modules.instancenorm._InstanceNorm,
    nn.modules.dropout._DropoutNd,
)
"""Layers with running statistics or random masks, which a parameter vector cannot describe."""


CONTRACT = Contract("a class of torch modules, with forward(x)", (frozenset({"forward"}),))


def mlp(image_shape: tuple[int, ...], outputs: int, hidden: tuple[int, ...] = (256, 256)) -> MLP:
    """Build the paper's network: flattened image, ReLU layers of width `hidden`, logits."""
    return MLP((functools.reduce(int.__mul__, image_shape, 1), *hidden, outputs))


class ConvNet(nn.Module):
    """A small convolutional network: two 3 x 3 convolutions of stride 2, one hidden layer.

    Parameters
    ----------
    image_shape : tuple of int
        ``(channels, height, width)``.
    outputs : int
        Number of logits.
    channels : int
        Feature maps of the first convolution; the second has twice as many.
    hidden : int
        Width of the fully connected layer.
    """

    def __init__(
        self, image_shape: tuple[int, ...], outputs: int, channels: int = 8, hidden: int = 64
    ) -> None:
        super().__init__()
        height, width = ((side + 3) // 4 for side in image_shape[1:])
        self.features = nn.Sequential(
            nn.Conv2d(image_shape[0], channels, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1),
            nn.ReLU(),
        )
        self.hidden = nn.Linear(2 * channels * height * width, hidden)
        self.head = nn.Linear(hidden, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map images ``(B, C, H, W)`` to logits ``(B, outputs)``."""
        return self.head(torch.relu(self.hidden(self.features(x).flatten(1))))


def build_network(config: ModelConfig, image_shape: tuple[int, ...], classes: int) -> Network:
    """Turn the `[model]` section into a network with ``classes + auxiliary`` logits.

    Raises
    ------
    RequestError
        If the class is unknown, refuses its options, or holds state or randomness.
    """
    outputs = classes + config.auxiliary
    if config.class_ == "mlp":
        _check_options(mlp, config)
        hidden = config.options.get("hidden", (256, 256))
        return mlp(image_shape, outputs, _widths(hidden))
    if config.class_ == "cnn":
        factory: Any = ConvNet
    elif ":" in config.class_:
        factory = import_class("model.class", config.class_, CONTRACT)
        if not issubclass(factory, nn.Module):
            raise RequestError("model.class", config.class_, CONTRACT.words)
    else:
        names = ("mlp", "cnn")
        raise RequestError(
            "model.class",
            config.class_,
            f"{', '.join(names)}, or module:Class",
            nearest(config.class_, names),
        )
    _check_options(factory, config)
    build = functools.partial(factory, image_shape=image_shape, outputs=outputs, **config.options)
    _check_size(build)
    network = ModuleNetwork(build, image_shape, scaled=factory is ConvNet)
    _check_module(
        network,
        config.class_,
        torch.zeros(2, *image_shape),
        outputs=(2, outputs),
        takes=f"image_shape={image_shape}, outputs={outputs}",
    )
    return network


def build_token_network(config: ModelConfig, tokens: int, context: int) -> Network:
    """Turn the `[model]` section into a network over sequences of tokens.

    Parameters
    ----------
    tokens : int
        Size of the vocabulary, and number of logits at each position.
    context : int
        The longest sequence.

    Raises
    ------
    RequestError
        If the class is unknown, refuses its options, or holds state or randomness.
    """
    name = config.class_
    if name == "transformer":
        factory: Any = Transformer
    elif ":" in name:
        factory = import_class("model.class", name, CONTRACT)
    else:
        remedy = nearest(name, ["transformer"])
        raise RequestError("model.class", name, "transformer, or module:Class", remedy)
    _check_options(factory, config, given=("tokens", "context"))
    build = functools.partial(factory, tokens=tokens, context=context, **config.options)
    if factory is Transformer:
        _refuse_large(parameters(validate_sizes(config.options), tokens, context))
    else:
        _check_size(build)
    network = ModuleNetwork(build, (-1,))
    _check_module(
        network,
        name,
        torch.zeros(2, context, dtype=torch.int64),
        outputs=(2, context, tokens),
        takes=f"tokens={tokens}, context={context}",
    )
    return TransformerNetwork(network) if factory is Transformer else network


def _widths(hidden: object) -> tuple[int, ...]:
    try:
        widths = TypeAdapter(tuple[StrictInt, ...]).validate_python(hidden)
    except ValidationError:
        widths = (0,)
    if min(widths, default=0) < 1:
        raise RequestError(
            "model.options.hidden", hidden, "a list of widths, each at least 1", "hidden = [256]"
        )
    return widths


def _check_options(
    factory: Any, config: ModelConfig, given: tuple[str, ...] = ("image_shape", "outputs")
) -> None:
    """Refuse options that `factory` does not take, before anything is built."""
    accepted = inspect.signature(factory).parameters
    if any(p.kind is p.VAR_KEYWORD for p in accepted.values()):
        return
    names = [name for name in accepted if name not in given]
    for name, value in config.options.items():
        if name not in names:
            raise RequestError(
                f"model.options.{name}",
                value,
                f"an option of {config.class_}: {', '.join(names) or 'none'}",
                nearest(name, names),
            )


def _check_size(build: Callable[[], nn.Module]) -> None:
    """Refuse a network of too many parameters before memory is taken for it.

    A module that cannot be built without memory for its numbers is left to `_check_module`.
    """
    try:
        with restored_randomness(), torch.device("meta"):
            size = sum(parameter.numel() for parameter in build().parameters())
    except Exception:  # wrong options too
        return
    _refuse_large(size)


def _refuse_large(size: int) -> None:
    if size > MOST_PARAMETERS:
        raise RequestError(
            "model.options", f"{size} parameters", f"at most {MOST_PARAMETERS}", "lower the widths"
        )


def _check_module(
    network: ModuleNetwork, name: str, x: Tensor, *, outputs: tuple[int, ...], takes: str
) -> None:
    """Refuse a module that does not map the examples `x` to logits of shape `outputs`."""
    try:
        module = network.module
        _check_parameters(module, name)
        with torch.no_grad():
            returned = module(x)
    except RequestError:
        raise
    except Exception as error:
        raise RequestError(
            "model.options",
            name,
            f"options with which {name}({takes}, **options) builds a module for examples of shape "
            f"{tuple(x.shape[1:])}",
            f"it failed with {type(error).__name__}: {error}",
        ) from error
    tensor = isinstance(returned, Tensor) and returned.is_floating_point()
    if not tensor or returned.shape != outputs:
        raise RequestError(
            "model.class",
            name,
            f"a module that maps {tuple(x.shape)} to real numbers {outputs}",
            f"it returned {described(returned)}",
        )
    for path, layer in module.named_modules():
        if isinstance(layer, STATEFUL) or any(True for _ in layer.buffers(recurse=False)):
            raise RequestError(
                "model.class",
                f"{name} ({path}: {type(layer).__name__})",
                "a module whose output depends only on its parameters and input",
                "replace batch norm by group or layer norm, remove dropout and buffers",
            )


def _check_parameters(module: nn.Module, name: str) -> None:
    """Refuse parameters that a vector of trained real numbers cannot hold."""
    for path, parameter in module.named_parameters():
        came = ""
        if nn.parameter.is_lazy(parameter):
            came = "it is lazy: its shape is not known before the first call"
        elif not parameter.is_floating_point():
            came = f"its numbers are of type {str(parameter.dtype).removeprefix('torch.')}"
        elif not parameter.requires_grad:
            came = (
                "it is frozen (requires_grad is False), and a teacher trains all parameters; the "
                "intervention train_only keeps layers of students fixed"
            )
        if came:
            allowed = "parameters of known shapes, real, and trained"
            raise RequestError("model.class", f"{name} ({path})", allowed, came)
    if not any(True for _ in module.parameters()):
        raise RequestError("model.class", name, "a module with parameters")
