"""What an intervention or a channel returns is checked wherever it is called.

These checks read shapes and version counters of tensors, so that they cost nothing at a step.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from sublim_causal.errors import SublimError

if TYPE_CHECKING:
    from torch import Tensor

    from sublim_causal.experiment.interventions.base import Intervention, StepContext

SUM_TOLERANCE = 1e-3
"""How far from 1 the sum of a distribution may be; float32 is off by 1e-6."""
Answer = TypeVar("Answer")


class ContractError(SublimError):
    """A class breaks its contract.

    Parameters
    ----------
    expected, came : str
        What the contract requires, and what the class did.
    """

    def __init__(self, expected: str, came: str) -> None:
        self.expected, self.came = expected, came
        super().__init__(f"expected: {expected}; {came}")


@dataclass(frozen=True)
class ArmFailure:
    """What ended an arm of a block: the reason in one line, and the traceback."""

    reason: str
    traceback: str


class ArmError(SublimError):
    """An error of a channel or an intervention: it ends the arms that use it, and no others."""

    def failure(self) -> ArmFailure:
        """Return what is recorded of the arm."""
        return ArmFailure(str(self), "".join(traceback.format_exception(self.__cause__ or self)))


def guarded(what: str, call: Callable[[], Answer]) -> Answer:
    """Return what `call` returns; `what` it does, in words, is named if it fails.

    Raises
    ------
    ArmError
        If it raises an error, except where a GPU's memory is full.
    """
    import torch

    try:
        return call()
    except torch.OutOfMemoryError:
        raise
    except SublimError as error:
        raise ArmError(f"{what}: {error}") from error
    except Exception as error:
        raise ArmError(f"{what} failed with {type(error).__name__}: {error}") from error


def class_name(one: object) -> str:
    """Return the name of the class of `one` as a study file gives it."""
    kind = type(one)
    built_in = kind.__module__.partition(".")[0] == __name__.partition(".")[0]
    return kind.__name__ if built_in else f"{kind.__module__}:{kind.__qualname__}"


def applied(
    one: Intervention, vector: Tensor, g_trait: Tensor | None, state: Any, context: StepContext
) -> tuple[Tensor, Any]:
    """Return what ``one.apply`` returns: the changed vector ``(R, P)`` and the next state.

    Raises
    ------
    ContractError
        If it returns anything else, or writes into what it was given.
    """
    given = [tensor for tensor in (vector, g_trait) if tensor is not None]
    versions = [tensor._version for tensor in given]
    returned = one.apply(vector, g_trait, state, context)
    if not isinstance(returned, tuple | list) or len(returned) != 2:
        raise ContractError("apply returns (vector, state)", f"it returned {described(returned)}")
    changed, state = returned
    if not _alike(changed, vector):
        expected = f"apply returns as its vector {described(vector)}"
        raise ContractError(expected, f"it returned {described(changed)}")
    if [tensor._version for tensor in given] != versions:
        raise in_place("apply", "the vector or the trait gradient")
    return changed, state


def validate_answers(answers: Tensor, logits: Tensor) -> None:
    """Refuse answers that are not distributions over the last axis; replicates that diverged pass.

    Parameters
    ----------
    answers, logits : Tensor of shape (R, N, C)

    Raises
    ------
    ContractError
    """
    if not _alike(answers, logits):
        expected = f"answers returns {described(logits)}"
        raise ContractError(expected, f"it returned {described(answers)}")
    q = answers[logits.isfinite().flatten(1).all(dim=1)]
    if not q.numel():
        return
    expected = "answers returns distributions: numbers from 0 to 1 whose sum over the logits is 1"
    if not q.isfinite().all():
        raise ContractError(expected, "it returned values that are not finite")
    if q.min() < 0:
        came = f"it returned values from {q.min():.3g} to {q.max():.3g}"
        raise ContractError(expected, came)
    sums = q.sum(dim=2)
    if (sums - 1).abs().max() > SUM_TOLERANCE:
        raise ContractError(expected, f"it returned sums from {sums.min():.3g} to {sums.max():.3g}")


def in_place(method: str, what: str) -> ContractError:
    """Return the error of a `method` that changed what it was given."""
    return ContractError(
        f"{method} writes nothing in place", f"it changed {what} that it was given"
    )


def _alike(one: object, other: Tensor) -> bool:
    import torch

    return (
        isinstance(one, torch.Tensor)
        and (one.shape, one.dtype, one.device) == (other.shape, other.dtype, other.device)
        and one.layout == other.layout
    )


def described(value: object) -> str:
    """Describe a tensor by dtype, shape and device, anything else by its type."""
    import torch

    if isinstance(value, torch.Tensor):
        dtype = str(value.dtype).removeprefix("torch.")
        return f"a {dtype} tensor of shape {tuple(value.shape)} on {value.device}"
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    return "None" if value is None else f"a {type(value).__name__}"
