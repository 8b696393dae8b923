"""A few calls of a user's module: what a parameter vector cannot describe is refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor

from sublim_causal.errors import RequestError
from sublim_causal.experiment.networks.base import Batch
from sublim_causal.experiment.networks.module import ModuleNetwork
from sublim_causal.experiment.randomness import (
    drawn_since,
    global_states,
    reseed,
    restored_randomness,
)

REPEATED, BATCHED = 1e-5, 1e-3
"""Differences, relative to the largest logit, of the same call and of another batch size."""
ALONE = "a module whose logits depend only on its parameters and the example"


def try_module(
    network: ModuleNetwork, name: str, examples: Batch, dtype: torch.dtype, replicates: int
) -> None:
    """Call a module `name` twice, on half a batch, and built again, at the same parameters.

    Parameters
    ----------
    examples : Batch
        Of one replicate, an even number of them.
    dtype : torch.dtype
        Of the parameters.
    replicates : int
        Seeds of a block; above 1, two are run together and compared with one alone.

    Raises
    ------
    RequestError
        If the logits are not the same, or not finite, or the module writes into what it is given.
    """
    with restored_randomness(), torch.no_grad(), _failing(name):
        theta = _initial(network, name).to(dtype)
        given = theta.clone(), examples.x.clone()
        before = global_states()
        first = _logits(network, theta, examples)
        if not first.isfinite().all():
            raise _refusal(name, "finite logits at the initial parameters", "they are not finite")
        again = _logits(network, theta, examples)
        drawn = drawn_since(before)
        if _differ(first, again, REPEATED) or (drawn and not torch.equal(first, again)):
            cause = f"it draws random numbers of {drawn}" if drawn else "it keeps state"
            raise _refusal(name, ALONE, f"two calls gave other logits: {cause}")
        if not all(map(torch.equal, (theta, examples.x), given)):
            came = "it changed its parameters or examples in place"
            raise _refusal(name, "a module that writes nothing in place", came)
        if _differ(first[:, first.shape[1] // 2 :], _half(network, theta, examples), BATCHED):
            came = "half a batch gave other logits for the same examples: they depend on the batch"
            raise _refusal(name, ALONE, came)
        reseed(2)
        if _differ(first, _logits(replace(network), theta, examples), REPEATED):
            came = "built again it gave other logits: it holds numbers that are not parameters"
            raise _refusal(name, ALONE, came)
        if replicates > 1:
            _try_block(network, name, theta, examples, first)


def _initial(network: ModuleNetwork, name: str) -> Tensor:
    """Return the initial parameters ``(1, P)``, which one seed must give twice."""
    before = global_states()
    one, other = (network.initialise(torch.Generator().manual_seed(0))[None] for _ in range(2))
    if drawn := drawn_since(before):
        came = f"it draws random numbers of {drawn} when it is built"
        raise _refusal(name, "initial parameters drawn by torch", came)
    if not one.isfinite().all():
        raise _refusal(name, "finite initial parameters", "some are not finite")
    if not torch.equal(one, other):
        came = "built twice from one seed, it had other parameters"
        raise _refusal(name, "initial parameters that a seed determines", came)
    return one


def _logits(network: ModuleNetwork, theta: Tensor, examples: Batch) -> Tensor:
    """Return the logits ``(R, B, K)``, of which gradients can be taken."""
    forward = network.forward(theta, examples)
    logits = forward.logits(slice(None))
    gradient = forward.gradient(torch.ones_like(logits), slice(None))
    return logits if gradient.isfinite().all() else logits * torch.nan


def _half(network: ModuleNetwork, theta: Tensor, examples: Batch) -> Tensor:
    half = examples.x[:, examples.x.shape[1] // 2 :]
    return _logits(network, theta, replace(examples, x=half))


def _try_block(
    network: ModuleNetwork, name: str, theta: Tensor, examples: Batch, alone: Tensor
) -> None:
    try:
        together = _logits(
            network, theta.repeat(2, 1), replace(examples, x=examples.x.repeat(2, 1, 1))
        )
    except Exception as error:
        expected = "a module that torch.vmap can run, as blocks of several seeds need"
        came = f"it failed with {type(error).__name__}: {error}; --block-size 1 needs no vmap"
        raise _refusal(name, expected, came) from error
    if _differ(together, alone.expand_as(together), BATCHED):
        raise _refusal(name, "logits that do not depend on the other seeds", "they do")


def _differ(one: Tensor, other: Tensor, tolerance: float) -> bool:
    return not bool((one - other).abs().max() <= tolerance * one.abs().max())


@contextmanager
def _failing(name: str) -> Iterator[None]:
    try:
        yield
    except RequestError:
        raise
    except Exception as error:
        came = f"it failed with {type(error).__name__}: {error}"
        raise _refusal(name, "a module whose logits torch can differentiate", came) from error


def _refusal(name: str, expected: str, came: str) -> RequestError:
    return RequestError("model.class", name, expected, came)
