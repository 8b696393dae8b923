"""Pretrained language models: where one lies, its tokenizer, its size, and its frozen weights.

A model is loaded once in a process: reference, teachers and students of all seeds and arms share
it.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partialmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from sublim_causal.errors import RequestError, nearest
from sublim_causal.experiment.config import ModelConfig

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedTokenizerBase

PACKAGE = "package:"


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
        If it names none, the folder or file is missing, or the library is.
    """
    if importlib.util.find_spec("transformers") is None:
        remedy = "python -m pip install 'sublim-causal[lm]'"
        allowed = "a class whose library is installed: transformers is not"
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
        what = "a model whose tokenizer transformers can read"
        raise _unreadable(source, what, "tokenizer.save_pretrained", error) from error
    if tokenizer.eos_token_id is None:
        allowed = "a model whose tokenizer has a token with which texts end (eos_token)"
        remedy = "set eos_token in its tokenizer_config.json, or take another model"
        raise RequestError("model.path", source.path, allowed, remedy)
    return tokenizer


@lru_cache(maxsize=2)
def configuration_of(source: Source) -> Any:
    """Read the model's own configuration.

    Raises
    ------
    RequestError
        If there is none, or the model has no causal head.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        config = AutoConfig.from_pretrained(source.path, **source.options)
    except (OSError, ValueError, KeyError) as error:
        what = "a model that transformers can read"
        raise _unreadable(source, what, "model.save_pretrained", error) from error
    if type(config) not in AutoModelForCausalLM._model_mapping:
        allowed = "a model with a causal language head (AutoModelForCausalLM)"
        kind = f"{source.path}: {type(config).__name__}"
        raise RequestError("model.path", kind, allowed, "take a model that continues texts")
    return config


def _unreadable(source: Source, what: str, writer: str, error: Exception) -> RequestError:
    """Return the error, with what transformers says of it."""
    reason = str(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
    if not Path(source.path).is_dir():
        remedy = "check the name and the connection, or give the folder of a copy"
    elif source.gguf is None:
        remedy = f"write its files into the folder again, as {writer} does"
    else:
        remedy = "copy the GGUF file again, or take another"
    allowed = f"{what}; it says: {reason.splitlines()[0].rstrip(' .:')}"
    return RequestError("model.path", source.path, allowed, remedy)


def vocabulary_size(source: Source) -> int:
    """Return the number of the model's logits."""
    return int(configuration_of(source).get_text_config().vocab_size)


def activation_size(source: Source) -> int:
    """Return about how many numbers a pass over one token keeps until its gradient is taken.

    A block keeps some ten vectors of the hidden size and four of its feed-forward part.
    """
    config = configuration_of(source).get_text_config()
    inner = getattr(config, "intermediate_size", None) or 4 * config.hidden_size
    return int(config.num_hidden_layers * (10 * config.hidden_size + 4 * inner))


def base_size(source: Source) -> int:
    """Return how many numbers the frozen model has."""
    return sum(one.numel() for one in skeleton(source, "none").parameters())


def skeleton(source: Source, adapter: str) -> nn.Module:
    """Return the model with its adapter, JSON or ``"none"``, without any numbers."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        model: nn.Module = AutoModelForCausalLM.from_config(configuration_of(source))
    return _adapted(model, adapter)


_LOADED: WeakValueDictionary[tuple[object, ...], nn.Module] = WeakValueDictionary()
"""The models of this process that some network still holds."""


def loaded(source: Source, adapter: str, dtype: torch.dtype, device: str) -> nn.Module:
    """Return the model with its adapter, JSON or ``"none"``, loaded when it is first asked for."""
    key = source, adapter, dtype, device
    model = _LOADED.get(key)
    if model is None:
        model = _LOADED[key] = _adapted(_load(source, dtype).to(device).eval(), adapter)
    return model


def _adapted(model: nn.Module, adapter: str) -> nn.Module:
    from sublim_causal.experiment.networks.adapters import adapt

    if adapter != "none":
        adapt(model, adapter)
    return model


def _load(source: Source, dtype: torch.dtype) -> nn.Module:
    import torch
    import transformers

    configuration_of(source)
    options = source.options
    if source.gguf is not None and hasattr(transformers, "GgufConfig"):
        options["quantization_config"] = transformers.GgufConfig(dequantize=True)
    with torch.random.fork_rng(devices=[]), _quiet():
        model: nn.Module = transformers.AutoModelForCausalLM.from_pretrained(
            source.path, dtype=dtype, **options
        )
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
